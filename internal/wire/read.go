package wire

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"

	"github.com/weirflow/weir/internal/base"
)

// payloadLen checks what of a header can be checked before its payload is there,
// and returns the length of the payload.
func payloadLen(header []byte) (int, error) {
	if header[offMagic] != 'W' || header[offMagic+1] != 'F' {
		return 0, frameError("the bytes %x do not start a frame", header[:2])
	}
	if v := header[offVersion]; v != Version {
		return 0, frameError("the frame has version %d, this program reads version %d", v, Version)
	}
	n := binary.LittleEndian.Uint32(header[offLength:])
	if n > MaxPayload {
		return 0, frameError("the payload claims %d bytes, %d are allowed", n, MaxPayload)
	}
	return int(n), nil
}

// Decode decodes the frame at the start of src and returns it and the bytes that
// follow it. The payload aliases src. An incomplete frame is an error too; use
// Read for a stream.
func Decode(src []byte) (f Frame, rest []byte, err error) {
	if len(src) < HeaderLen {
		return Frame{}, nil, frameError("%d bytes are left, a header has %d", len(src), HeaderLen)
	}
	n, err := payloadLen(src)
	if err != nil {
		return Frame{}, nil, err
	}
	if len(src)-HeaderLen < n {
		return Frame{}, nil, frameError("the payload has %d bytes, %d are left", n, len(src)-HeaderLen)
	}
	end := HeaderLen + n
	f, err = open(src[:HeaderLen], src[HeaderLen:end:end])
	if err != nil {
		return Frame{}, nil, err
	}
	return f, src[end:], nil
}

// Read reads one frame from r into buf, which it grows as needed and returns for
// the next call; the payload aliases it. At a clean end between frames the error
// is io.EOF. Errors of r are returned as they are, apart from an end inside a
// frame, which is WEIR-0720 like everything malformed.
func Read(r io.Reader, buf []byte) (Frame, []byte, error) {
	buf = slices.Grow(buf[:0], HeaderLen)[:HeaderLen]
	if _, err := io.ReadFull(r, buf); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = frameError("the connection ended inside a header")
		}
		return Frame{}, buf, err
	}
	n, err := payloadLen(buf)
	if err != nil {
		return Frame{}, buf, err
	}
	buf = slices.Grow(buf, n)[:HeaderLen+n]
	if _, err := io.ReadFull(r, buf[HeaderLen:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			err = frameError("the connection ended inside a payload of %d bytes", n)
		}
		return Frame{}, buf, err
	}
	f, err := open(buf[:HeaderLen], buf[HeaderLen:])
	return f, buf, err
}

// open verifies a complete frame and takes its header apart.
func open(header, payload []byte) (Frame, error) {
	le := binary.LittleEndian
	if want, got := le.Uint32(header[offSum:]), checksum(header, payload); want != got {
		return Frame{}, frameError("the checksum is %08x, the frame says %08x", got, want)
	}
	f := Frame{
		Kind: Kind(header[offKind]),
		Header: Header{
			Job:        [16]byte(header[offJob:offGen]),
			Generation: base.Generation(le.Uint64(header[offGen:])),
			Term:       base.Term(le.Uint64(header[offTerm:])),
			Seq:        le.Uint64(header[offSeq:]),
			Edge:       le.Uint32(header[offEdge:]),
			Sender:     le.Uint32(header[offSender:]),
			Receiver:   le.Uint32(header[offReceiver:]),
		},
		Payload: payload,
	}
	return f, checkPayload(f.Kind, payload)
}

// Sequence checks on the receiver's side that no frame of one (edge, sender,
// receiver) was lost, repeated or reordered. The zero value expects frame 1.
type Sequence struct{ last uint64 }

// Accept takes the number of the next frame. A number that is not one more than
// the last is an Error WEIR-0720: the connection has failed.
func (s *Sequence) Accept(seq uint64) error {
	if seq != s.last+1 {
		return frameError("frame %d follows frame %d", seq, s.last)
	}
	s.last = seq
	return nil
}
