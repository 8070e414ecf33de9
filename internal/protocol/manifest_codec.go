package protocol

import (
	"math"

	"github.com/weirflow/weir/internal/base"
)

// Encode returns the canonical form of the manifest. Lists must be ordered as
// their fields say; Check verifies it.
func (m *Manifest) Encode() ([]byte, error) {
	return encode(formManifest, MaxManifest, func(e *encoder) {
		e.array(13, 13)
		e.str(m.Job, maxName)
		e.uint(uint64(m.Epoch))
		e.uint(uint64(m.Attempt))
		e.uint(uint64(m.Term))
		e.uint(uint64(m.Gen))
		e.sha(m.PlanHash)
		e.sha(m.Prev)
		e.uint(uint64(m.Final))
		putList(e, m.Tasks, putTask)
		putList(e, m.Splits, putSplit)
		putList(e, m.Lanes, putLane)
		putList(e, m.Control, putControl)
		putList(e, m.Schemas, putSchema)
	})
}

// DecodeManifest reads what Manifest.Encode wrote. It verifies the form only;
// Check verifies the content.
func DecodeManifest(b []byte) (*Manifest, error) {
	m := new(Manifest)
	err := decode(formManifest, MaxManifest, b, func(d *decoder) {
		d.fields(13)
		m.Job = d.str(maxName)
		m.Epoch = base.Epoch(d.u64())
		m.Attempt = Attempt(d.u64())
		m.Term = base.Term(d.u64())
		m.Gen = base.Generation(d.u64())
		m.PlanHash = d.sha()
		m.Prev = d.sha()
		m.Final = Final(d.uint(uint64(FinalEnd)))
		m.Tasks = list(d, MaxElems, 10, d.taskState)
		m.Splits = list(d, MaxElems, 17, d.split)
		m.Lanes = list(d, MaxElems, 78, d.laneState)
		m.Control = list(d, MaxElems, 6, d.control)
		m.Schemas = list(d, MaxElems, 5, d.schema)
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

func putList[T any](e *encoder, s []T, put func(*encoder, *T)) {
	e.array(len(s), MaxElems)
	for i := range s {
		put(e, &s[i])
	}
}

func putTask(e *encoder, t *TaskState) {
	e.array(7, 7)
	e.task(t.Task)
	e.uint(uint64(t.Gen))
	e.bool(t.Keyed)
	e.uint(t.Range.Lo)
	e.uint(t.Range.Hi)
	putList(e, t.Objects, putObject)
	putList(e, t.Named, putNamed)
}

func (d *decoder) taskState() (t TaskState) {
	d.fields(7)
	t.Task = d.task()
	t.Gen = base.Generation(d.u64())
	t.Keyed = d.bool()
	t.Range = base.HashRange{Lo: d.u64(), Hi: d.u64()}
	t.Objects = list(d, MaxElems, 44, d.object)
	t.Named = list(d, MaxElems, 39, d.named)
	return t
}

func putObject(e *encoder, o *ObjectRef) {
	e.array(9, 9)
	e.uint(uint64(o.Kind))
	e.sha(o.SHA)
	e.uint(o.Size)
	e.uint(o.Range.Lo)
	e.uint(o.Range.Hi)
	e.uint(uint64(o.Since))
	e.uint(uint64(o.Epoch))
	e.str(o.Name, maxName)
	e.bin(o.Inline, MaxInline)
}

func (d *decoder) object() (o ObjectRef) {
	d.fields(9)
	o.Kind = ObjectKind(d.uint(math.MaxUint8))
	o.SHA = d.sha()
	o.Size = d.u64()
	o.Range = base.HashRange{Lo: d.u64(), Hi: d.u64()}
	o.Since = base.Epoch(d.u64())
	o.Epoch = base.Epoch(d.u64())
	o.Name = d.str(maxName)
	o.Inline = d.bin(MaxInline)
	return o
}

func putNamed(e *encoder, n *NamedState) {
	e.array(4, 4)
	e.str(n.Name, maxName)
	e.sha(n.SHA)
	e.uint(n.Size)
	e.bin(n.Inline, MaxInline)
}

func (d *decoder) named() (n NamedState) {
	d.fields(4)
	n.Name = d.str(maxName)
	n.SHA = d.sha()
	n.Size = d.u64()
	n.Inline = d.bin(MaxInline)
	return n
}

func putSplit(e *encoder, s *SplitState) {
	e.array(7, 7)
	e.str(s.Source, maxName)
	e.str(s.Split, maxName)
	e.str(s.Identity, maxName)
	e.uint(s.Offset)
	e.bool(s.Finished)
	e.time(s.Watermark)
	e.bin(s.State, MaxInline)
}

func (d *decoder) split() (s SplitState) {
	d.fields(7)
	s.Source = d.str(maxName)
	s.Split = d.str(maxName)
	s.Identity = d.str(maxName)
	s.Offset = d.u64()
	s.Finished = d.bool()
	s.Watermark = d.time()
	s.State = d.bin(MaxInline)
	return s
}

func putLane(e *encoder, l *LaneState) {
	e.array(9, 9)
	e.lane(l.Block.Lane)
	e.sha(l.Block.SHA)
	e.uint(l.Block.Bytes)
	e.array(len(l.Block.Chunks), MaxChunks)
	for _, c := range l.Block.Chunks {
		e.uint(uint64(c))
	}
	e.uint(uint64(l.Pred.Epoch))
	e.uint(uint64(l.Pred.Chunk))
	e.sha(l.Pred.Manifest)
	e.uint(l.Before)
	e.uint(uint64(l.Committed))
}

func (d *decoder) laneState() (l LaneState) {
	d.fields(9)
	l.Block.Lane = d.lane()
	l.Block.SHA = d.sha()
	l.Block.Bytes = d.u64()
	l.Block.Chunks = list(d, MaxChunks, 1, func() uint32 { return uint32(d.uint(math.MaxUint32)) })
	l.Pred.Epoch = base.Epoch(d.u64())
	l.Pred.Chunk = uint32(d.uint(math.MaxUint32))
	l.Pred.Manifest = d.sha()
	l.Before = d.u64()
	l.Committed = base.Epoch(d.u64())
	return l
}

func putControl(e *encoder, c *ControlEvent) {
	e.array(4, 4)
	e.uint(c.ID)
	e.str(c.Target, maxName)
	e.str(c.Name, maxName)
	e.bin(c.Body, MaxInline)
}

func (d *decoder) control() (c ControlEvent) {
	d.fields(4)
	c.ID = d.u64()
	c.Target = d.str(maxName)
	c.Name = d.str(maxName)
	c.Body = d.bin(MaxInline)
	return c
}

func putSchema(e *encoder, s *Schema) {
	e.array(4, 4)
	e.str(s.Operator, maxName)
	e.str(s.State, maxName)
	e.str(s.Fingerprint, maxName)
	e.str(s.Detail, maxDetail)
}

func (d *decoder) schema() (s Schema) {
	d.fields(4)
	s.Operator = d.str(maxName)
	s.State = d.str(maxName)
	s.Fingerprint = d.str(maxName)
	s.Detail = d.str(maxDetail)
	return s
}
