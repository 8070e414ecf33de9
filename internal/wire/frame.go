// Package wire is the form in which Weir's processes talk to each other: frames of
// a fixed header and a bounded payload. docs/format/frames.md describes them byte
// by byte.
//
// A reader trusts nothing: it knows the length before it allocates, verifies the
// checksum before it looks at a payload, and refuses what it does not understand.
// Every error of this package means that the connection must be closed; nothing
// can be resynchronised after it.
package wire

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/internal/codec"
)

const (
	// Version is the version of the frame format that this package writes and the
	// only one that it reads.
	Version = 1
	// HeaderLen is the length of a header in bytes.
	HeaderLen = 64
	// MaxPayload is the largest payload in bytes.
	MaxPayload = 4 << 20
	// CodeFrame is the code of every Error of this package.
	CodeFrame = "WEIR-0720"
)

// The offsets of the header's fields. They must not change within a version.
const (
	offMagic    = 0 // "WF"
	offVersion  = 2
	offKind     = 3
	offLength   = 4
	offJob      = 8
	offGen      = 24
	offTerm     = 32
	offSeq      = 40
	offEdge     = 48
	offSender   = 52
	offReceiver = 56
	offSum      = 60
)

// Kind says what a frame carries. The values are part of the format.
type Kind uint8

const (
	// Data carries a batch of records, opaque to this package.
	Data Kind = 1
	// Watermark carries a watermark.
	Watermark Kind = 2
	// Idle takes the sender out of the receiver's event-time minimum until its next
	// frame of another kind.
	Idle Kind = 3
	// BarrierKind carries a checkpoint barrier.
	BarrierKind Kind = 4
	// CancelBarrier takes a barrier back.
	CancelBarrier Kind = 5
	// EndOfInput says that no record follows on the edge.
	EndOfInput Kind = 6
	// Control carries one message between coordinator and task, in MessagePack.
	Control Kind = 7
)

// String returns the name of the kind.
func (k Kind) String() string {
	switch k {
	case Data:
		return "data"
	case Watermark:
		return "watermark"
	case Idle:
		return "idle"
	case BarrierKind:
		return "barrier"
	case CancelBarrier:
		return "cancel-barrier"
	case EndOfInput:
		return "end-of-input"
	case Control:
		return "control"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Header says whose frame it is. The receiver compares Job, Generation and Term
// with its own and refuses frames of lower ones; this package does not.
type Header struct {
	// Job is the job's uid.
	Job [16]byte
	// Generation is the sender's deployment.
	Generation base.Generation
	// Term is the sender's coordinator; 0 on edges between tasks.
	Term base.Term
	// Seq numbers the frames of one (edge, sender, receiver): 1, 2, 3, …; see
	// Sequence.
	Seq uint64
	// Edge, Sender and Receiver number the edge in the plan and the subtasks at
	// its ends.
	Edge, Sender, Receiver uint32
}

// Frame is a decoded frame.
type Frame struct {
	Header
	Kind Kind
	// Payload aliases the bytes that were decoded.
	Payload []byte
}

// Barrier is the payload of BarrierKind and, without Trigger, of CancelBarrier.
type Barrier struct {
	Epoch   base.Epoch
	Attempt uint64
	// Trigger is what the barrier carries besides, in MessagePack; nil when it is a
	// cancellation.
	Trigger []byte
}

// barrierLen is the length of a barrier's payload before its trigger.
const barrierLen = 16

// castagnoli is the table of CRC-32C.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameError builds the error for a frame that cannot be read or written.
func frameError(format string, args ...any) error {
	return &base.Error{Code: CodeFrame, Where: "frame", What: fmt.Sprintf(format, args...)}
}

// Begin reserves the header of a frame at the end of dst. The caller appends the
// payload to the result and calls Finish with the length that dst had before.
func Begin(dst []byte) []byte {
	var header [HeaderLen]byte
	return append(dst, header[:]...)
}

// Finish completes the frame that starts at dst[start]: everything after its
// header is the payload. The error is WEIR-0720 when the payload is too large or
// does not have the form that its kind demands.
func Finish(dst []byte, start int, kind Kind, h Header) error {
	b := dst[start:]
	payload := b[HeaderLen:]
	if len(payload) > MaxPayload {
		return frameError("the payload has %d bytes, %d are allowed", len(payload), MaxPayload)
	}
	if err := checkPayload(kind, payload); err != nil {
		return err
	}
	b[offMagic], b[offMagic+1], b[offVersion], b[offKind] = 'W', 'F', Version, byte(kind)
	le := binary.LittleEndian
	le.PutUint32(b[offLength:], uint32(len(payload)))
	copy(b[offJob:offGen], h.Job[:])
	le.PutUint64(b[offGen:], uint64(h.Generation))
	le.PutUint64(b[offTerm:], uint64(h.Term))
	le.PutUint64(b[offSeq:], h.Seq)
	le.PutUint32(b[offEdge:], h.Edge)
	le.PutUint32(b[offSender:], h.Sender)
	le.PutUint32(b[offReceiver:], h.Receiver)
	le.PutUint32(b[offSum:], checksum(b[:HeaderLen], payload))
	return nil
}

// checksum is the CRC-32C of the header without its last field, and the payload.
func checksum(header, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(header[:offSum], castagnoli), castagnoli, payload)
}

// Append appends a frame with the given payload; for Data, Idle, EndOfInput and
// Control. On error dst is returned unchanged.
func Append(dst []byte, kind Kind, h Header, payload []byte) ([]byte, error) {
	out := append(Begin(dst), payload...)
	if err := Finish(out, len(dst), kind, h); err != nil {
		return dst, err
	}
	return out, nil
}

// AppendWatermark appends a watermark frame.
func AppendWatermark(dst []byte, h Header, t base.Timestamp) ([]byte, error) {
	var payload [8]byte
	binary.LittleEndian.PutUint64(payload[:], uint64(t))
	return Append(dst, Watermark, h, payload[:])
}

// AppendBarrier appends a barrier frame; kind is BarrierKind or CancelBarrier.
func AppendBarrier(dst []byte, kind Kind, h Header, bar Barrier) ([]byte, error) {
	out := binary.LittleEndian.AppendUint64(Begin(dst), uint64(bar.Epoch))
	out = binary.LittleEndian.AppendUint64(out, bar.Attempt)
	out = append(out, bar.Trigger...)
	if err := Finish(out, len(dst), kind, h); err != nil {
		return dst, err
	}
	return out, nil
}

// AppendControl appends a control frame with *v in MessagePack.
func AppendControl[T any](dst []byte, h Header, c *codec.Codec[T], v *T) ([]byte, error) {
	out := c.Append(Begin(dst), v)
	if err := Finish(out, len(dst), Control, h); err != nil {
		return dst, err
	}
	return out, nil
}

// controlLimits bound a MessagePack payload.
var controlLimits = codec.Limits{MaxRecord: MaxPayload}

// checkPayload reports whether a payload has the form that its kind demands.
func checkPayload(kind Kind, payload []byte) error {
	n := len(payload)
	fits, check := false, []byte(nil)
	switch kind {
	case Data:
		fits = n > 0
	case Watermark:
		fits = n == 8
	case Idle, EndOfInput:
		fits = n == 0
	case BarrierKind:
		if fits = n > barrierLen; fits {
			check = payload[barrierLen:]
		}
	case CancelBarrier:
		fits = n == barrierLen
	case Control:
		fits, check = true, payload
	default:
		return frameError("%s is not known", kind)
	}
	if !fits {
		return frameError("a frame of kind %s cannot have a payload of %d bytes", kind, n)
	}
	if check == nil {
		return nil
	}
	if err := codec.Validate(check, controlLimits); err != nil {
		return &base.Error{Code: CodeFrame, Where: "frame", What: "the payload of a " + kind.String() + " frame is malformed", Cause: err}
	}
	return nil
}

// Time returns the watermark of a Watermark frame.
func (f *Frame) Time() base.Timestamp {
	return base.Timestamp(binary.LittleEndian.Uint64(f.Payload))
}

// Barrier returns the barrier of a BarrierKind or CancelBarrier frame.
func (f *Frame) Barrier() Barrier {
	bar := Barrier{
		Epoch:   base.Epoch(binary.LittleEndian.Uint64(f.Payload)),
		Attempt: binary.LittleEndian.Uint64(f.Payload[8:]),
	}
	if f.Kind == BarrierKind {
		bar.Trigger = f.Payload[barrierLen:]
	}
	return bar
}
