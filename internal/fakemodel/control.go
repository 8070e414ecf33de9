package fakemodel

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/weirflow/weir/internal/clock"
)

func sortedNames(m map[string]Model) []string {
	out := make([]string, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// deadline is for connections, which go by real time whatever the server's clock says.
func (s *Server) deadline() time.Time { return time.Unix(0, clock.Real().Now()).Add(s.opts.transfer) }

func (s *Server) getCalls(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	calls := s.book.calls(func(c *Call) bool {
		return (!q.Has("key") || c.Key == q.Get("key")) && (!q.Has("model") || c.Model == q.Get("model")) &&
			(!q.Has("outcome") || string(c.Outcome) == q.Get("outcome"))
	})
	writeLines(s, w, calls)
}

func (s *Server) getKeys(w http.ResponseWriter, r *http.Request) {
	least := 1
	if text := r.URL.Query().Get("min"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			http.Error(w, "min is not a number", http.StatusBadRequest)
			return
		}
		least = n
	}
	writeLines(s, w, s.book.counts(least))
}

// linesPerDeadline is how many lines a client must take within the time for a transfer.
const linesPerDeadline = 1000

// writeLines writes values as lines of JSON.
func writeLines[T any](s *Server, w http.ResponseWriter, values []T) {
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(w)
	for i, v := range values {
		if i%linesPerDeadline == 0 {
			_ = rc.SetWriteDeadline(s.deadline())
		}
		if enc.Encode(v) != nil {
			return // the client is gone
		}
	}
}
