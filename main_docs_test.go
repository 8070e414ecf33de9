package weir

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

const cliDocs = "docs/reference/cli.md"

// TestCommandLineDocumentation compares the reference with what the commands say
// of themselves; -update rewrites it.
func TestCommandLineDocumentation(t *testing.T) {
	root := NewCommand(NewJob("storefront", nil))
	root.Use = "weir"
	text, err := os.ReadFile(cliDocs)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- begin commands -->\n", "<!-- end commands -->\n"
	head, rest, ok1 := strings.Cut(string(text), begin)
	got, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no commands between the two comments", cliDocs)
	}
	var want strings.Builder
	describe(&want, root)
	switch {
	case got == want.String():
	case *update:
		if err := os.WriteFile(cliDocs, []byte(head+begin+want.String()+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s does not describe the commands as they are; run the test with -update", cliDocs)
	}
}

// describe writes the help of a command and of those below it.
func describe(b *strings.Builder, cmd *cobra.Command) {
	if cmd.HasParent() {
		b.WriteString("## " + cmd.CommandPath() + "\n\n```\n")
		var out bytes.Buffer
		cmd.SetOut(&out)
		_ = cmd.Help() // it writes to a buffer
		for line := range strings.Lines(out.String()) {
			b.WriteString(strings.TrimRight(line, " \n") + "\n")
		}
		b.WriteString("```\n\n")
	}
	for _, sub := range cmd.Commands() {
		if sub.Name() != "help" && sub.Name() != "completion" {
			describe(b, sub)
		}
	}
}
