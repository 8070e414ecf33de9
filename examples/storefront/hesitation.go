package storefront

import (
	"time"

	"github.com/weirflow/weir/operators/feature"
	"github.com/weirflow/weir/operators/pattern"
)

// Within is the longest time from the first of three views to the removal.
const Within = 10 * time.Minute

// UserItem is the key of hesitations.
type UserItem struct{ User, Item string }

// Interest is what a visitor did about an item before a click and with it: rolling
// features.
type Interest struct {
	Views   int64 `feature:"views_10m" json:"views_10m"`
	Removes int64 `feature:"removes_1h" json:"removes_1h"`
	// Spent is the price of what was bought, in cents.
	Spent int64 `feature:"spent_1h" json:"spent_1h"`
}

// interest declares the features. A horizon begins at a multiple of its hop, 25
// seconds for ten minutes and 150 for an hour: it is up to a hop longer.
func interest() *feature.Group[Click] {
	is := func(kind string) func(Click) bool { return func(c Click) bool { return c.Kind == kind } }
	return feature.Set(
		feature.Count[Click]("views").Where(is(View)).Over(10*time.Minute),
		feature.Count[Click]("removes").Where(is(Remove)).Over(time.Hour),
		feature.Sum("spent", func(c Click) int64 { return c.Price }).Where(is(Buy)).Over(time.Hour),
	).Including()
}

// Visit is a click and what the visitor did about the item before.
type Visit struct {
	Click
	Interest Interest
}

func (v Visit) key() UserItem { return UserItem{v.User, v.Item} }

// Hesitation is the pattern: an item viewed three times, added to the cart and
// removed within ten minutes, exactly ten included. Other clicks may come in between.
//
// Patterns see the clicks of one visitor and item in the order of their event times,
// and of their arrival where these are equal. A click that comes when the watermark
// has passed it already is late, and no part of it. A match uses up everything before
// its end; of several that one removal ends, the one that began first counts.
func Hesitation() *pattern.Pattern[Visit] {
	is := func(kind string) pattern.Cond[Visit] {
		return pattern.Equal("kind", func(v Visit) string { return v.Kind }, kind)
	}
	return pattern.Begin[Visit]("view").WhereCond(is(View)).Times(3).
		FollowedBy("add").WhereCond(is(Add)).
		FollowedBy("remove").WhereCond(is(Remove)).
		// A window is half open, and event times are in milliseconds.
		Within(Within + time.Millisecond).
		SkipStrategy(pattern.Skip{Kind: pattern.SkipPastLast})
}

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
	// Interest is that of the moment at which the removal came.
	Interest
}

// Hesitated is a match: the nudge, and the visit that ended it.
type Hesitated struct {
	Nudge Nudge
	End   Visit
}

func hesitated(k UserItem, m *pattern.Match[Visit]) Hesitated {
	viewed, _ := m.First("view")
	added, _ := m.First("add")
	removed, _ := m.First("remove")
	return Hesitated{
		Nudge: Nudge{User: k.User, Item: k.Item, Viewed: viewed.At, Added: added.At, Removed: removed.At, Interest: removed.Interest},
		End:   removed,
	}
}
