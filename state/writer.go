package state

import (
	"context"
	"crypto/sha256"
	"hash"
	"hash/crc32"
	"runtime"
	"sync"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/crash"
	"github.com/weirflow/weir/internal/protocol"
	"github.com/weirflow/weir/state/blob"
)

// writer turns the buffers of all backends into objects, on one goroutine. Copy
// buffers are few and recycled: a backend that gets ahead of the disk waits.
type writer struct {
	s    *Store
	size int // of a buffer

	mu    sync.Mutex
	wake  *sync.Cond // the queue or the list of free buffers has changed
	queue []job
	free  []*buffer
	made  int
	limit int // of made
	quit  bool

	done chan struct{}
	// The rest belongs to the goroutine.
	back map[*Backend]*backState
}

// job is one thing to do for a backend.
type job struct {
	b      *Backend
	stamp  uint32
	buf    *buffer
	end    *endOfEpoch
	chain  []protocol.ObjectRef // of a restore
	forget bool
}

// endOfEpoch completes the object of a barrier.
type endOfEpoch struct {
	epoch                  base.Epoch
	first, slices          int
	bytes, entries         int64
	baseBytes, baseEntries int64
	groups                 []*Group
}

// backState is what the writer knows of a backend.
type backState struct {
	chain chain
	open  map[uint32]*object
}

func newWriter(s *Store) *writer {
	size := maxBuffer
	for size > minBuffer && int64(size) > s.opts.Memory/512 {
		size /= 2
	}
	w := &writer{s: s, size: size, limit: minBuffers, done: make(chan struct{}), back: map[*Backend]*backState{}}
	w.wake = sync.NewCond(&w.mu)
	go w.run()
	return w
}

const (
	minBuffers = 8
	// perBackend is how many buffers each backend adds: one for either stream,
	// and one under way, so that no backend waits for another's.
	perBackend = 3
)

// grant sizes the pool for a number of backends.
func (w *writer) grant(backends int) {
	w.mu.Lock()
	w.limit = max(w.limit, minBuffers+perBackend*backends)
	w.mu.Unlock()
}

// take returns an empty buffer for at least n bytes and waits for one if it must.
func (w *writer) take(n int) *buffer {
	if n > w.size {
		return &buffer{mem: w.s.mem.alloc(n)}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.free) == 0 && w.made >= w.limit && !w.quit {
		w.wake.Wait()
	}
	if k := len(w.free); k > 0 {
		b := w.free[k-1]
		w.free = w.free[:k-1]
		return b
	}
	w.made++
	return &buffer{mem: w.s.mem.alloc(w.size)}
}

// put takes a buffer back.
func (w *writer) put(b *buffer) {
	if b.mem.size > w.size {
		w.s.mem.release(b.mem)
		return
	}
	b.n = 0
	w.mu.Lock()
	w.free = append(w.free, b)
	w.mu.Unlock()
	w.wake.Broadcast()
}

// idle says that a buffer can be had without waiting.
func (w *writer) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.free) > 0 || w.made < w.limit-perBackend
}

func (w *writer) send(j job) {
	w.mu.Lock()
	w.queue = append(w.queue, j)
	w.mu.Unlock()
	w.wake.Broadcast()
}

// add hands over a block of the object with a stamp.
func (w *writer) add(b *Backend, stamp uint32, buf *buffer) {
	w.send(job{b: b, stamp: stamp, buf: buf})
}

// end completes that object.
func (w *writer) end(b *Backend, stamp uint32, e *endOfEpoch) {
	e.groups = b.groups
	w.send(job{b: b, stamp: stamp, end: e})
}

// restored tells what a backend was restored from.
func (w *writer) restored(b *Backend, refs []protocol.ObjectRef) { w.send(job{b: b, chain: refs}) }

// forget gives up what is under way for a backend.
func (w *writer) forget(b *Backend) { w.send(job{b: b, forget: true}) }

// close stops the goroutine after the job at hand and frees the buffers.
func (w *writer) close() {
	w.mu.Lock()
	w.quit = true
	w.mu.Unlock()
	w.wake.Broadcast()
	<-w.done
}

func (w *writer) run() {
	defer close(w.done)
	for {
		w.mu.Lock()
		for len(w.queue) == 0 && !w.quit {
			w.wake.Wait()
		}
		if w.quit {
			w.mu.Unlock()
			w.abandon()
			return
		}
		j := w.queue[0]
		w.queue[0] = job{}
		w.queue = w.queue[1:]
		w.mu.Unlock()
		w.do(j)
		runtime.Gosched() // a busy core would let this goroutine run for 10 ms
	}
}

// abandon aborts all objects under way.
func (w *writer) abandon() {
	for _, st := range w.back {
		for _, o := range st.open {
			o.abort()
		}
	}
	w.back = nil
}

func (w *writer) do(j job) {
	st := w.back[j.b]
	if st == nil {
		st = &backState{chain: chain{rangeOf: j.b.rangeOf}, open: map[uint32]*object{}}
		w.back[j.b] = st
	}
	switch {
	case j.forget:
		for _, o := range st.open {
			o.abort()
		}
		delete(w.back, j.b)
	case j.chain != nil:
		st.chain.imported = j.chain
	case j.buf != nil:
		o := st.open[j.stamp]
		if o == nil {
			o = w.newObject()
			st.open[j.stamp] = o
		}
		o.block(j.buf.bytes())
		w.put(j.buf)
	case j.end != nil:
		o := st.open[j.stamp]
		delete(st.open, j.stamp)
		snap, err := w.finish(st, o, j.end)
		if err != nil {
			j.b.failed.Store(true)
		}
		if f := j.b.opts.OnSnapshot; f != nil {
			f(snap, err)
		}
	}
}

// finish makes an object durable and returns the snapshot that it completes.
func (w *writer) finish(st *backState, o *object, e *endOfEpoch) (Snapshot, error) {
	snap := Snapshot{
		Epoch: e.epoch, Bytes: e.bytes, Entries: e.entries, BaseBytes: e.baseBytes, BaseEntries: e.baseEntries,
	}
	c := &st.chain
	crash.At(crash.SnapBeforeDelta)
	var done chainObject
	if o != nil {
		var err error
		if done, err = o.close(e); err != nil {
			c.broken = true
			return snap, stateError(CodeWrite, "the state of the checkpoint cannot be stored", "", "the job goes on; see to the checkpoint store", err)
		}
		done.epoch = e.epoch
		snap.Bytes = int64(done.size)
	}
	crash.At(crash.SnapAfterDelta)
	c.rebase(e.first, e.slices)
	if o == nil {
		c.skip()
	} else {
		c.add(done)
	}
	if c.broken {
		return snap, stateError(CodeIncomplete, "an earlier checkpoint object was lost; the state has to be written completely first", "",
			"the next checkpoint does that", nil)
	}
	if first, tooMany := c.inlineTail(); tooMany {
		// Packing is an economy: when it fails, the chain is complete without it.
		if p, err := w.pack(c.objects[first:], e.groups); err == nil {
			c.replaceTail(first, p)
		}
	}
	snap.Chain = c.refs()
	return snap, nil
}

// object is a checkpoint object under construction.
type object struct {
	w     *writer
	small []byte // all of it, while it may become inline
	up    blob.Upload
	sum   hash.Hash
	size  uint64
	foot  footer
	err   error
}

func (w *writer) newObject() *object {
	o := &object{w: w, sum: sha256.New()}
	o.write(appendHeader(nil))
	return o
}

// block appends a block.
func (o *object) block(b []byte) {
	o.foot.blocks = append(o.foot.blocks, blockInfo{off: o.size, len: uint32(len(b)), crc: crc32.Checksum(b, castagnoli)})
	o.write(b)
}

// write appends bytes. The first error sticks.
func (o *object) write(b []byte) {
	if o.err != nil {
		return
	}
	o.sum.Write(b)
	o.size += uint64(len(b))
	if o.up == nil {
		if len(o.small)+len(b) <= inlineLimit {
			o.small = append(o.small, b...)
			return
		}
		crash.At(crash.SnapBeforePut)
		if o.up, o.err = blob.Create(context.Background(), o.w.s.opts.Blob); o.err != nil {
			return
		}
		if _, o.err = o.up.Write(o.small); o.err != nil {
			return
		}
		o.small = nil
	}
	_, o.err = o.up.Write(b)
}

// close completes the object and makes it durable.
func (o *object) close(e *endOfEpoch) (chainObject, error) {
	for _, g := range e.groups {
		o.foot.groups = append(o.foot.groups, infoOf(g))
	}
	o.foot.entries, o.foot.base = uint64(e.entries), uint64(e.baseEntries)
	o.write(o.foot.append(nil))
	done := chainObject{size: o.size}
	o.sum.Sum(done.sha[:0])
	if o.err == nil && o.up != nil {
		o.err = o.up.Commit(context.Background(), protocol.ObjectKey(o.w.s.opts.Job, done.sha))
		o.up = nil
		crash.At(crash.SnapAfterPut)
	}
	if o.err != nil {
		o.abort()
		return done, o.err
	}
	done.inline = o.small
	return done, nil
}

func (o *object) abort() {
	if o.up != nil {
		o.up.Abort()
		o.up = nil
	}
}

// pack joins inline objects to one.
func (w *writer) pack(list []chainObject, groups []*Group) (chainObject, error) {
	o, e := w.newObject(), &endOfEpoch{groups: groups}
	for i := range list {
		in := list[i].inline
		_, f, err := openObject(in)
		if err != nil {
			return chainObject{}, err
		}
		for _, b := range f.blocks {
			o.block(in[b.off : b.off+uint64(b.len)])
		}
		e.entries += int64(f.entries)
		e.baseEntries += int64(f.base)
	}
	return o.close(e)
}
