package torture

import "testing"

// TestMutantsApply: the text that each mutant changes is still in the code. make
// mutants shows that a test finds each.
func TestMutantsApply(t *testing.T) {
	if err := Applicable("../.."); err != nil {
		t.Error(err)
	}
}
