package storefront

import (
	"time"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/state"
)

// Within is the longest time from the first of three views to the removal.
const Within = 10 * time.Minute

// UserItem is the key of hesitations.
type UserItem struct{ User, Item string }

// Nudge is a message of stream NUDGES: somebody hesitates. Times are event times
// in milliseconds since the epoch.
type Nudge struct {
	User string `json:"user"`
	Item string `json:"item"`
	// Viewed is when the first of the three views was.
	Viewed int64 `json:"viewed"`
	// Added and Removed are when the item went into the cart and out of it.
	Added   int64 `json:"added"`
	Removed int64 `json:"removed"`
}

// Hesitation finds an item that one visitor viewed three times, added to the cart
// and removed within ten minutes.
//
// It looks at the clicks of one visitor and item in the order of their event
// times, and of their arrival where these are equal; a click waits until the
// watermark has passed its time. One that comes when the watermark has passed it
// already is dropped. A removal makes a Nudge when an addition is before it, three
// views are before the last addition, and from the third last of these views to
// the removal it is ten minutes at most, exactly ten included. Other clicks may
// come in between. A nudge uses up everything before it.
type Hesitation struct {
	// waiting holds the kinds of clicks that the watermark has not passed, in
	// order of arrival, by event time in milliseconds.
	waiting *state.Map[int64, []string]
	seen    *state.Value[Interest]
}

// Interest is what Hesitation remembers of a visitor and an item: all times are in
// milliseconds since the epoch.
type Interest struct {
	// Views holds the last three views, oldest first; the first N are filled.
	Views [3]int64
	N     int64
	// Viewed is the third last view before Added, the last addition that had
	// three views before it. Added is 0 when there is none.
	Viewed, Added int64
}

// Declare implements weir.KeyedProcess.
func (h *Hesitation) Declare(d *weir.Declarer) {
	h.waiting = weir.MapState[int64, []string](d, "waiting")
	// Whatever was last written longer ago than Within is of no use any more.
	h.seen = weir.ValueState[Interest](d, "seen", state.TTL(Within+Bound))
}

// OnRecord implements weir.KeyedProcess.
func (h *Hesitation) OnRecord(c *weir.Context[UserItem, Nudge], click Click) error {
	if click.Time().Before(c.Watermark()) {
		return nil
	}
	kinds, _ := h.waiting.Get(click.At)
	h.waiting.Put(click.At, append(kinds, click.Kind))
	// At the watermark click.At a click with that time may still come; one
	// nanosecond later none can.
	c.RegisterEventTimer(click.Time().Add(1))
	return nil
}

// OnTimer implements weir.KeyedProcess.
func (h *Hesitation) OnTimer(c *weir.Context[UserItem, Nudge], t weir.Timer) error {
	at := t.Time.Add(-1).UnixMilli()
	kinds, _ := h.waiting.Get(at)
	h.waiting.Delete(at)
	in, _ := h.seen.Get()
	for _, kind := range kinds {
		if in.take(kind, at) {
			c.Emit(Nudge{User: c.Key().User, Item: c.Key().Item, Viewed: in.Viewed, Added: in.Added, Removed: at})
			in = Interest{}
		}
	}
	if in == (Interest{}) {
		h.seen.Clear()
	} else {
		h.seen.Set(in)
	}
	return nil
}

// take takes the next click and reports whether it ends a hesitation.
func (in *Interest) take(kind string, at int64) bool {
	switch kind {
	case View:
		if in.N == 3 {
			in.Views[0], in.Views[1] = in.Views[1], in.Views[2]
			in.N--
		}
		in.Views[in.N] = at
		in.N++
	case Add:
		if in.N == 3 {
			in.Viewed, in.Added = in.Views[0], at
		}
	case Remove:
		return in.Added != 0 && at-in.Viewed <= Within.Milliseconds()
	}
	return false
}
