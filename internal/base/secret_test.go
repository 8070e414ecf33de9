package base_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirflow/weir/internal/base"
)

func TestSecretIsReadWhenUsed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	s := base.SecretFromFile(path)
	if _, err := s.Value(); err == nil {
		t.Fatal("a missing file gave a secret")
	}
	for _, want := range []string{"canary-1", "canary-2"} {
		if err := os.WriteFile(path, []byte(want+"\r\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Value(); err != nil || got != want {
			t.Fatalf("Value is %q, %v; want %q", got, err, want)
		}
	}
	t.Setenv("WEIR_TEST_SECRET", "canary-3")
	if got, err := base.SecretFromEnv("WEIR_TEST_SECRET").Value(); err != nil || got != "canary-3" {
		t.Fatalf("Value is %q, %v", got, err)
	}
}

func TestSecretRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for _, content := range []string{"", "\n", "canary\nline", strings.Repeat("canary", base.MaxSecret)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := base.SecretFromFile(path).Value()
		if err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%.10q: error %v", content, err)
		}
	}
	if _, err := base.SecretFromEnv("WEIR_TEST_NO_SUCH_SECRET").Value(); err == nil {
		t.Error("a missing variable gave a secret")
	}
	if _, err := (base.Secret{}).Value(); err == nil || !(base.Secret{}).IsZero() {
		t.Error("the zero secret has a value")
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	type config struct {
		Key base.Secret `json:"key"`
		Ptr *base.Secret
	}
	s := base.SecretFromEnv("CANARY")
	c := config{Key: s, Ptr: &s}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+" "+verb+" "+verb+"\n", s, c.Key, &c)
	}
	b, err := json.Marshal(c)
	if err != nil || string(b) != `{"key":"***","Ptr":"***"}` {
		t.Errorf("JSON is %s, %v", b, err)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "secret", s, "config", c)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", s, "config", c)
	if strings.Contains(out.String(), "CANARY") || !strings.Contains(out.String(), "***") {
		t.Errorf("printed: %s", out.String())
	}
}
