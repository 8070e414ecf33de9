package invariants

import "testing"

// panics reports whether f panics.
func panics(f func()) (p bool) {
	defer func() { p = recover() != nil }()
	f()
	return false
}

func TestCheckFollowsTheBuildTag(t *testing.T) {
	if panics(func() { Check(true, "holds"); Checkf(true, "holds %d", 1) }) {
		t.Fatal("a true condition panicked")
	}
	if got := panics(func() { Check(false, "broken") }); got != Enabled {
		t.Fatalf("Check(false) panicked=%v, want %v", got, Enabled)
	}
	if got := panics(func() { Checkf(false, "broken %d", 1) }); got != Enabled {
		t.Fatalf("Checkf(false) panicked=%v, want %v", got, Enabled)
	}
}

func TestMangleFollowsTheBuildTag(t *testing.T) {
	b := []byte{1, 2, 3}
	Mangle(b)
	if (b[0] == 0xcc && b[2] == 0xcc) != Enabled {
		t.Fatalf("Mangle left %v, enabled=%v", b, Enabled)
	}
}
