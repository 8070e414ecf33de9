package rest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// Guard decides which addresses may be connected to. It sees what a name resolved to,
// at the moment of each connection, so that a name that changes its address gains
// nothing.
type Guard struct {
	allow []netip.Prefix
}

// NewGuard returns a guard that lets public addresses pass and those of allow, see
// model.Access.
func NewGuard(allow []string) (*Guard, error) {
	g := &Guard{}
	for _, s := range allow {
		switch s {
		case "loopback":
			g.allow = append(g.allow, prefixes("127.0.0.0/8", "::1/128")...)
			continue
		case "private":
			g.allow = append(g.allow, prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")...)
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, err := netip.ParseAddr(s)
			if err != nil {
				return nil, fmt.Errorf("%q is no network, no address, and neither \"loopback\" nor \"private\"", s)
			}
			p = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
		}
		g.allow = append(g.allow, p.Masked())
	}
	return g, nil
}

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// blocked lists what is not public, with its name.
var blocked = []struct {
	name string
	nets []netip.Prefix
}{
	{"a loopback address", prefixes("127.0.0.0/8", "::1/128")},
	{"a link-local address", prefixes("169.254.0.0/16", "fe80::/10", "fec0::/10")},
	{"a private address", prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")},
	{"a multicast address", prefixes("224.0.0.0/4", "ff00::/8")},
	{"a reserved address", prefixes("0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "240.0.0.0/4", "::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "5f00::/16")},
}

// metadata are the addresses at which clouds serve credentials and settings of the
// machine. A network that contains one does not open it.
var metadata = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("169.254.170.2"), netip.MustParseAddr("169.254.170.23"),
	netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("fd00:ec2::23"), netip.MustParseAddr("fd20:ce::254"),
	netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("168.63.129.16"), netip.MustParseAddr("192.0.0.192"),
}

// translated are networks of IPv6 whose addresses lead to one of IPv4, and the byte
// at which that begins.
var translated = []struct {
	net netip.Prefix
	at  int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12}, {netip.MustParsePrefix("2002::/16"), 2},
}

// BlockedError says that an address may not be connected to.
type BlockedError struct {
	Addr netip.Addr
	Why  string
}

// Error implements error.
func (e *BlockedError) Error() string {
	return fmt.Sprintf("%s is %s, which the model's access does not allow", e.Addr, e.Why)
}

// Check returns a *BlockedError unless the address may be connected to.
func (g *Guard) Check(a netip.Addr) error {
	a = a.Unmap().WithZone("")
	for _, t := range translated {
		if t.net.Contains(a) {
			b := a.As16()
			if err := g.Check(netip.AddrFrom4([4]byte(b[t.at : t.at+4]))); err != nil {
				return &BlockedError{a, "a way to " + err.(*BlockedError).Addr.String() + ", " + err.(*BlockedError).Why}
			}
			return nil
		}
	}
	for _, m := range metadata {
		if m == a && !g.names(a) {
			return &BlockedError{a, "where clouds serve credentials"}
		}
	}
	for _, p := range g.allow {
		if p.Contains(a) {
			return nil
		}
	}
	for _, b := range blocked {
		for _, p := range b.nets {
			if p.Contains(a) {
				return &BlockedError{a, b.name}
			}
		}
	}
	return nil
}

// names reports whether the very address is allowed, not only a network with it.
func (g *Guard) names(a netip.Addr) bool {
	for _, p := range g.allow {
		if p.IsSingleIP() && p.Addr() == a {
			return true
		}
	}
	return false
}

// Dialer returns a dialer that connects to addresses that pass, by TCP only.
func (g *Guard) Dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{Timeout: timeout, ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
		if !strings.HasPrefix(network, "tcp") {
			return fmt.Errorf("connections by %s are not allowed", network)
		}
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return g.Check(a.Addr())
	}}
}
