package pattern

import "github.com/weirflow/weir/internal/base"

// words finds the Equal condition of a text among many: an open hash table in which
// texts of up to 16 bytes are compared without going to where they are stored.
type words struct {
	slots []word // a power of two of them, at most half of them used
	texts []string
	used  int
}

// word is a text and its condition. Of a text of up to 16 bytes, lo and hi hold the first
// and the last 8; of a longer one, its hash.
type word struct {
	lo, hi uint64
	n      int32 // length
	id     int32 // 0: the slot is free
}

func wordOf(s string) word {
	n := len(s)
	w := word{n: int32(n)}
	switch {
	case n > 16:
		w.lo = base.HashString(s)
		w.hi = w.lo
	case n >= 8:
		w.lo, w.hi = eight(s[:8]), eight(s[n-8:])
	default:
		for i := range n {
			w.lo |= uint64(s[i]) << (8 * i)
		}
	}
	return w
}

func eight(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// slot is where to begin to look for a word among n slots.
func (w *word) slot(n int) int {
	h := (w.lo ^ w.hi>>7 ^ uint64(w.n)) * 0x9e3779b97f4a7c15
	return int((h^h>>32)>>3) & (n - 1)
}

// find returns the slot of a word, or the free one that it would have.
func (t *words) find(w *word, s string) int {
	for i := w.slot(len(t.slots)); ; i = (i + 1) & (len(t.slots) - 1) {
		o := &t.slots[i]
		if o.id == 0 || o.lo == w.lo && o.hi == w.hi && o.n == w.n && (w.n <= 16 || t.texts[i] == s) {
			return i
		}
	}
}

// get returns the condition of a text; 0 if there is none.
func (t *words) get(s string) int32 {
	if len(t.slots) == 0 {
		return 0
	}
	w := wordOf(s)
	return t.slots[t.find(&w, s)].id
}

// put gives a text a condition.
func (t *words) put(s string, id int32) {
	if 2*t.used >= len(t.slots) {
		old, texts := t.slots, t.texts
		n := max(8, 2*len(old))
		t.slots, t.texts, t.used = make([]word, n), make([]string, n), 0
		for i := range old {
			if old[i].id != 0 {
				t.put(texts[i], old[i].id)
			}
		}
	}
	w := wordOf(s)
	i := t.find(&w, s)
	if t.slots[i].id == 0 {
		t.used++
	}
	w.id = id
	t.slots[i], t.texts[i] = w, s
}
