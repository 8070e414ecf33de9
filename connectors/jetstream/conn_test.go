package jetstream_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/weirflow/weir/connectors/jetstream"
	"github.com/weirflow/weir/internal/base"
)

// guarded starts a plain NATS server with the given guards on loopback.
func guarded(t *testing.T, change func(*server.Options)) string {
	t.Helper()
	o := &server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true}
	change(o)
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	return s.Addr().String()
}

func TestDialWithNKey(t *testing.T) {
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, _ := user.Seed()
	public, _ := user.PublicKey()
	addr := guarded(t, func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: public}} })
	file := filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(file, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	nc, err := jetstream.Dial(jetstream.Config{URL: "nats://" + addr, NKey: file})
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	if _, err := jetstream.Dial(jetstream.Config{URL: "nats://" + addr}); base.CodeOf(err) != jetstream.CodeAuth {
		t.Fatalf("without the seed: %v", err)
	}
	if err := os.WriteFile(file, []byte("SUNOSEED"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := jetstream.Dial(jetstream.Config{URL: "nats://" + addr, NKey: file}); base.CodeOf(err) != jetstream.CodeAuth || strings.Contains(err.Error(), "SUNOSEED") {
		t.Fatalf("with a broken seed: %v", err)
	}
}

func TestDialKeepsSecrets(t *testing.T) {
	addr := guarded(t, func(o *server.Options) { o.Username, o.Password = "u", "right" })
	nc, err := jetstream.Dial(jetstream.Config{URL: "nats://u:right@" + addr})
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	for name, c := range map[string]struct {
		cfg  jetstream.Config
		code string
	}{
		"wrong password": {jetstream.Config{URL: "nats://u:hunter2@" + addr}, jetstream.CodeAuth},
		"not a URL":      {jetstream.Config{URL: "nats://u:hunter2@[::1"}, jetstream.CodeConfig},
		"nobody there":   {jetstream.Config{URL: "nats://u:hunter2@127.0.0.1:1,nats://hunter2@127.0.0.1:2"}, jetstream.CodeDial},
		"no URL":         {jetstream.Config{}, jetstream.CodeConfig},
		"no creds file":  {jetstream.Config{URL: "nats://" + addr, Credentials: "/nonexistent/x.creds"}, jetstream.CodeConfig},
		"two identities": {jetstream.Config{URL: "nats://" + addr, Credentials: "a", NKey: "b"}, jetstream.CodeConfig},
		"half a pair":    {jetstream.Config{URL: "nats://" + addr, Cert: "a"}, jetstream.CodeConfig},
	} {
		_, err := jetstream.Dial(c.cfg)
		if base.CodeOf(err) != c.code {
			t.Errorf("%s: got %v, want %s", name, err, c.code)
		}
		if s := fmt.Sprint(err, c.cfg); strings.Contains(s, "hunter2") {
			t.Errorf("%s: the secret shows in %s", name, s)
		}
	}
}

func TestDialWithTLS(t *testing.T) {
	dir := t.TempDir()
	ca, caKey := certificate(t, dir, "ca", nil, nil)
	certificate(t, dir, "server", ca, caKey)
	certificate(t, dir, "client", ca, caKey)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	addr := guarded(t, func(o *server.Options) {
		o.TLS = true
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}
		o.TLSTimeout = 5
	})
	good := jetstream.Config{URL: "tls://" + addr, CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "client.pem"), Key: filepath.Join(dir, "client.key")}
	nc, err := jetstream.Dial(good)
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	bad := good
	bad.CA = ""
	if _, err := jetstream.Dial(bad); base.CodeOf(err) != jetstream.CodeDial || !strings.Contains(err.Error(), "TLS") {
		t.Fatalf("without the CA: %v", err)
	}
}

// certificate writes NAME.pem and NAME.key, signed by parent or by itself.
func certificate(t *testing.T, dir, name string, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: parent == nil,
	}
	if parent == nil {
		parent, parentKey = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, b := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}
