package main

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"math"
	"slices"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/state"
)

const (
	// shards is how many parts a collection has. Each is searched where its documents
	// are, on as many subtasks as there are.
	shards = 4
	// found is how many passages a search returns.
	found = 8
	// remembered is how many turns of a conversation are, and spare how many older ones
	// are kept to take the place of turns that are undone.
	remembered = 4
	spare      = 4
)

// place is a key of the search: a shard of a collection, or a conversation.
type place struct {
	Collection, Conversation string
	Shard                    int
}

func shardOf(id string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return int(h.Sum32() % shards)
}

// query is a prompt with the vector of its question.
type query struct {
	Attempt weir.Attempt
	Prompt  Prompt
	Vector  []float32
}

// visit is what comes to a place: a document to keep or to forget, a turn to remember
// or to forget, or a query.
type visit struct {
	Place    place
	Document *Embedded
	Removed  *Embedded
	Turn     *Turn
	Undone   int
	Query    *query
}

// part is what a query found at one place.
type part struct {
	Attempt  weir.Attempt
	Prompt   Prompt
	Passages []Passage
	Memory   []Turn
}

// retrieve finds the passages that are nearest to a question, by exact search, and
// what was said last in the conversation.
//
//	prompted, retry-requested ─▶ embed ─▶ one visit to each shard and to the conversation ─▶ search ─▶ gather ─▶ retrieved
//	document-embedded, document-removed, memory-updated, memory-undone ────────────────────────┘
func retrieve(j *weir.Job, c config) {
	said := ask(j, "retrieve", prompted, c, c.models.embeddings, func(a weir.Attempt) string { return payload[Prompt](a).Question })
	queries := weir.Map(said, "query", func(r reply[[]float32]) query { return query{r.Attempt, payload[Prompt](r.Attempt), r.Out} })

	visits := weir.Union("visits",
		weir.FlatMap(queries, "scatter", scatter),
		weir.TryMap(read(j, documentEmbedded), "keep", keepVisit, refused),
		weir.TryMap(read(j, documentRemoved), "forget", forgetVisit, refused),
		weir.TryMap(read(j, memoryUpdated), "remember", func(e weir.Event) (visit, error) { return turnVisit(e, false) }, refused),
		weir.TryMap(read(j, memoryUndone), "unsay", func(e weir.Event) (visit, error) { return turnVisit(e, true) }, refused))
	publish(j, lookUp(visits), retrieved)
}

// lookUp answers the queries among visits.
func lookUp(visits weir.Stream[visit]) weir.Stream[weir.Event] {
	parts := weir.Process(weir.KeyBy(visits, "by-place", func(v visit) place { return v.Place }), "search",
		func() weir.KeyedProcess[place, visit, part] { return new(search) })
	return weir.Process(weir.KeyBy(parts, "by-query", func(p part) string { return p.Attempt.ID() }), "gather",
		func() weir.KeyedProcess[string, part, weir.Event] { return new(gather) })
}

// scatter sends a query to all places where something may be found.
func scatter(q query, emit func(visit)) {
	for i := range shards {
		emit(visit{Place: place{Collection: q.Prompt.Collection, Shard: i}, Query: &q})
	}
	emit(visit{Place: place{Conversation: q.Attempt.Event.Key}, Query: &query{Attempt: q.Attempt, Prompt: q.Prompt}})
}

func keepVisit(e weir.Event) (visit, error) {
	d, err := weir.EventPayload[Embedded](e)
	return visit{Place: place{Collection: e.Key, Shard: shardOf(d.ID)}, Document: &d}, err
}

func forgetVisit(e weir.Event) (visit, error) {
	d, err := weir.EventPayload[Document](e)
	return visit{Place: place{Collection: e.Key, Shard: shardOf(d.ID)}, Removed: &Embedded{Document: d, Version: e.At}}, err
}

func turnVisit(e weir.Event, undone bool) (visit, error) {
	t, err := weir.EventPayload[Turn](e)
	v := visit{Place: place{Conversation: e.Key}, Turn: &t}
	if undone {
		v.Turn, v.Undone = nil, t.Turn
	}
	return v, err
}

// search is the exact search at one place.
type search struct {
	weir.NoTimers[place, part]
	vectors *state.Map[string, []byte]
	texts   *state.Map[string, string]
	// versions has the newest version seen of each document, also of those removed:
	// additions and removals come on different streams.
	versions *state.Map[string, int64]
	turns    *state.Value[[]Turn]
	// gone are turns that were undone before they were remembered: the two come on
	// different streams.
	gone *state.Map[int, bool]
}

// Declare implements weir.KeyedProcess.
func (s *search) Declare(d *weir.Declarer) {
	s.vectors = weir.MapState[string, []byte](d, "vectors")
	s.texts = weir.MapState[string, string](d, "texts")
	s.versions = weir.MapState[string, int64](d, "versions")
	s.turns = weir.ValueState[[]Turn](d, "turns")
	s.gone = weir.MapState[int, bool](d, "gone")
}

// OnRecord implements weir.KeyedProcess.
func (s *search) OnRecord(c *weir.Context[place, part], v visit) error {
	switch {
	case v.Document != nil && s.newer(v.Document):
		s.vectors.Put(v.Document.ID, packVector(v.Document.Vector))
		s.texts.Put(v.Document.ID, v.Document.Text)
	case v.Removed != nil && s.newer(v.Removed):
		s.vectors.Delete(v.Removed.ID)
		s.texts.Delete(v.Removed.ID)
	case v.Turn != nil:
		s.remember(*v.Turn)
	case v.Undone > 0:
		s.unsay(v.Undone)
	case v.Query != nil:
		p := part{Attempt: v.Query.Attempt, Prompt: v.Query.Prompt}
		if v.Place.Conversation != "" {
			turns, _ := s.turns.Get()
			p.Memory = turns[max(0, len(turns)-remembered):]
		} else {
			p.Passages = s.nearest(v.Query.Vector)
		}
		c.Emit(p)
	}
	return nil
}

// newer reports whether nothing newer was said of the document before.
func (s *search) newer(d *Embedded) bool {
	if last, ok := s.versions.Get(d.ID); ok && last > d.Version {
		return false
	}
	s.versions.Put(d.ID, d.Version)
	return true
}

// remember keeps a turn among the last ones.
func (s *search) remember(t Turn) {
	if s.gone.Delete(t.Turn) {
		return
	}
	turns, _ := s.turns.Get()
	turns = append(slices.Clone(turns), t)
	slices.SortFunc(turns, func(a, b Turn) int { return a.Turn - b.Turn })
	s.turns.Set(turns[max(0, len(turns)-remembered-spare):])
}

func (s *search) unsay(n int) {
	turns, _ := s.turns.Get()
	for _, t := range turns {
		if t.Turn == n {
			s.turns.Set(slices.DeleteFunc(slices.Clone(turns), func(t Turn) bool { return t.Turn == n }))
			return
		}
	}
	if len(turns) == 0 || n > turns[len(turns)-1].Turn {
		s.gone.Put(n, true)
	}
}

// nearest compares a vector with those of all documents of the shard.
func (s *search) nearest(q []float32) []Passage {
	var best []Passage
	norm := math.Sqrt(dot(q, q))
	for id, packed := range s.vectors.All() {
		best = insert(best, Passage{ID: id, Score: cosine(q, norm, packed)})
	}
	for i := range best {
		best[i].Text, _ = s.texts.Get(best[i].ID)
	}
	return best
}

// insert adds a passage to the best ones, which are sorted: highest score first, then
// by ID, so that the result does not depend on the order of documents.
func insert(best []Passage, p Passage) []Passage {
	i, _ := slices.BinarySearchFunc(best, p, compare)
	if i == found {
		return best
	}
	best = slices.Insert(best, i, p)
	return best[:min(len(best), found)]
}

func compare(a, b Passage) int {
	return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.ID, b.ID))
}

func packVector(v []float32) []byte {
	out := make([]byte, 0, 4*len(v))
	for _, x := range v {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(x))
	}
	return out
}

func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

// cosine compares a vector of length norm with a packed one; 0 where that has another
// number of dimensions, as another model's would.
func cosine(q []float32, norm float64, packed []byte) float64 {
	if len(packed) != 4*len(q) {
		return 0
	}
	var sum, squares float64
	for i, x := range q {
		y := float64(math.Float32frombits(binary.LittleEndian.Uint32(packed[4*i:])))
		sum += float64(x) * y
		squares += y * y
	}
	if squares == 0 || norm == 0 {
		return 0
	}
	return sum / (norm * math.Sqrt(squares))
}

// gather waits for what all places say about a query. The best of the shards' best are
// the best of all.
type gather struct {
	weir.NoTimers[string, weir.Event]
	parts *state.List[part]
}

// Declare implements weir.KeyedProcess.
func (g *gather) Declare(d *weir.Declarer) { g.parts = weir.ListState[part](d, "parts") }

// OnRecord implements weir.KeyedProcess.
func (g *gather) OnRecord(c *weir.Context[string, weir.Event], p part) error {
	if g.parts.Len() < shards {
		g.parts.Append(p)
		return nil
	}
	out := Context{Prompt: p.Prompt, Passages: p.Passages, Memory: p.Memory}
	for q := range g.parts.All() {
		for _, x := range q.Passages {
			out.Passages = insert(out.Passages, x)
		}
		out.Memory = append(out.Memory, q.Memory...)
	}
	g.parts.Clear()
	e, err := p.Attempt.Next(retrieved, c.ProcessingTime(), out)
	if err == nil {
		c.Emit(e)
	}
	return err
}
