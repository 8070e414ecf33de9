package lint

import (
	"strings"
	"testing"
)

// layers gives each package, or everything below a path that ends in "/...", its
// layer. The longest match counts.
var layers = map[string]int{
	"internal/base": 0, "internal/invariants": 0, "internal/crash": 0,
	"internal/codec": 1, "internal/clock": 1, "internal/wire": 1, "internal/protocol": 1, "window": 1, "window/...": 1,
	"state": 2, "state/...": 2, "internal/natsd": 2, "internal/datadir": 2, "connectors": 2, "connectors/...": 2, "internal/fakemodel": 2,
	"operators": 3, "operators/...": 3,
	"engine": 4, "engine/...": 4,
	"":         5,
	"weirtest": 6, "weirtest/...": 6, "cmd/...": 6, "examples/...": 6, "benchmarks/...": 6, "internal/torture": 6, "internal/torture/...": 6,
	"internal/storefront": 6, "internal/storefront/...": 6, "internal/nab": 4, "internal/sim": 6, "internal/lint": 6, "internal/lint/...": 6,
}

// sideways lists the imports within one layer that are allowed.
var sideways = map[[2]string]bool{
	{"internal/crash", "internal/base"}:               true,
	{"internal/wire", "internal/codec"}:               true,
	{"state", "state/blob"}:                           true,
	{"engine", "engine/task"}:                         true,
	{"engine", "engine/exchange"}:                     true,
	{"engine", "engine/checkpoint"}:                   true,
	{"engine/task", "engine/exchange"}:                true,
	{"engine/metrics", "engine"}:                      true,
	{"engine/metrics", "engine/checkpoint"}:           true,
	{"window/windowtest", "window"}:                   true,
	{"operators/model", "operators/model/batcher"}:    true,
	{"operators/model", "operators/model/journal"}:    true,
	{"operators/model/local", "operators/model/tree"}: true,
}

// restricted names who may import a library; everybody at layer 6 and all tests
// may.
var restricted = map[string][]string{
	"github.com/nats-io/nats.go":          {"connectors/jetstream", "engine/cluster", "state/blob", "internal/natsd"},
	"github.com/nats-io/nats-server/v2":   {"internal/natsd"},
	"github.com/prometheus/client_golang": {"engine/metrics"},
	"github.com/vmihailenco/msgpack/v5":   {"internal/codec", "internal/protocol", "internal/wire", "engine/checkpoint"},
	"github.com/cockroachdb/pebble/v2":    {"state", "state/blob", "engine", "", "connectors/file"},
	"github.com/spf13/cobra":              {""},
}

func layerOf(pkg string) (int, bool) {
	rel := strings.TrimPrefix(strings.TrimPrefix(pkg, module), "/")
	if l, ok := layers[rel]; ok {
		return l, true
	}
	for p := rel; p != ""; {
		if l, ok := layers[p+"/..."]; ok {
			return l, true
		}
		i := strings.LastIndexByte(p, '/')
		if i < 0 {
			break
		}
		p = p[:i]
	}
	return 0, false
}

func rel(pkg string) string { return strings.TrimPrefix(strings.TrimPrefix(pkg, module), "/") }

func TestLayers(t *testing.T) {
	for _, f := range files(t) {
		from, ok := layerOf(f.pkg)
		if !ok {
			t.Errorf("%s: package %s has no layer; add it to the table", f.path, f.pkg)
			continue
		}
		// An external test package is above everything; an internal one is not.
		external := strings.HasSuffix(f.ast.Name.Name, "_test")
		for _, path := range f.imports() {
			if !strings.HasPrefix(path, module) {
				checkLibrary(t, &f, from, path)
				continue
			}
			to, ok := layerOf(path)
			switch {
			case !ok:
				t.Errorf("%s: import of %s, which has no layer", f.path, path)
			case external || path == f.pkg || f.test && to == from:
			case to > from:
				t.Errorf("%s (layer %d) imports %s (layer %d)", f.path, from, path, to)
			case to == from && from < 6 && !allowedSideways(rel(f.pkg), rel(path)):
				t.Errorf("%s imports %s of the same layer; list the pair if that is meant", f.path, path)
			case strings.HasPrefix(rel(f.pkg), "engine") && strings.HasPrefix(rel(path), "connectors") && !f.test:
				t.Errorf("%s: the engine reaches connectors through operators only", f.path)
			}
		}
	}
}

func allowedSideways(from, to string) bool {
	if sideways[[2]string{from, to}] {
		return true
	}
	// A connector implements the contracts in package connectors.
	// A client of models implements the contract in package operators/model.
	return strings.HasPrefix(from, "connectors/") && to == "connectors" ||
		strings.HasPrefix(from, "operators/") && to == "operators" ||
		strings.HasPrefix(from, "operators/model/") && (to == "operators/model" || to == "operators/model/internal/rest")
}

func checkLibrary(t *testing.T, f *file, layer int, path string) {
	t.Helper()
	if f.test || layer == 6 {
		return
	}
	for lib, who := range restricted {
		if path != lib && !strings.HasPrefix(path, lib+"/") {
			continue
		}
		allowed := false
		for _, w := range who {
			allowed = allowed || rel(f.pkg) == w
		}
		if !allowed {
			t.Errorf("%s imports %s; only %q may", f.path, path, who)
		}
	}
}
