package guard

import (
	"container/list"
	"sync"

	"github.com/weirflow/weir/operators/model"
)

// entryOverhead is about what an entry takes besides its key and value, in bytes.
const entryOverhead = 200

// cache keeps answers by a key of the input, the most recently used.
type cache[Out any] struct {
	bounds CacheBounds
	size   func(Out) int64 // may be nil

	mu      sync.Mutex
	entries map[string]*list.Element
	recent  list.List // of *entry[Out]; the front was used last
	bytes   int64
}

type entry[Out any] struct {
	key     string
	out     Out
	version string
	made    int64
	bytes   int64
}

func newCache[Out any](b CacheBounds, size func(Out) int64) *cache[Out] {
	return &cache[Out]{bounds: b, size: size, entries: map[string]*list.Element{}}
}

// get returns the answer for key: one within its TTL, or if stale is set any that is
// still there.
func (c *cache[Out]) get(key string, now int64, stale bool) (res model.Result[Out], ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.entries[key]
	if el == nil {
		return res, false
	}
	e := el.Value.(*entry[Out])
	age := now - e.made
	if age >= int64(c.bounds.TTL)+int64(c.bounds.StaleFor) {
		c.remove(el)
		return res, false
	}
	if age >= int64(c.bounds.TTL) && !stale {
		return res, false
	}
	c.recent.MoveToFront(el)
	return model.Result[Out]{Out: e.out, Version: e.version, Cached: true}, true
}

// put keeps an answer, unless it is larger than the whole cache.
func (c *cache[Out]) put(key string, r model.Result[Out], now int64) {
	size := int64(len(key)) + entryOverhead
	if c.size != nil {
		size += max(c.size(r.Out), 0)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.entries[key]; el != nil {
		c.remove(el)
	}
	if size > c.bounds.Bytes {
		return
	}
	for len(c.entries) >= c.bounds.Entries || c.bytes+size > c.bounds.Bytes {
		c.remove(c.recent.Back())
	}
	c.bytes += size
	c.entries[key] = c.recent.PushFront(&entry[Out]{key: key, out: r.Out, version: r.Version, made: now, bytes: size})
}

func (c *cache[Out]) remove(el *list.Element) {
	e := c.recent.Remove(el).(*entry[Out])
	delete(c.entries, e.key)
	c.bytes -= e.bytes
}

func (c *cache[Out]) load() (entries int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries), c.bytes
}
