package jetstream

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/internal/base"
)

// A block message holds many records: "WBK", version 1, the number of records
// (u32, little endian), the records, and a CRC-32C over all before it. A record
// is the number of its headers, name and value of each, and the data; numbers and
// lengths are unsigned varints. The message carries the header hdrBlock.
const (
	packedMagic  = "WBK\x01"
	packedHeader = len(packedMagic) + 4
	packedCRC    = 4
	// hdrBlock marks a message as a block; its value is the format's version.
	hdrBlock = "Weir-Block"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// BlockRecord is one record of a block message.
type BlockRecord struct {
	Data    []byte
	Headers base.Headers
}

// Unblock returns the records of a block message, as a sink with the option Blocks
// writes it, in their order. Data aliases the message. It fails when the message
// is damaged or no block, and never allocates more than a small multiple of its
// length.
func Unblock(data []byte) ([]BlockRecord, error) {
	if len(data) < packedHeader+packedCRC || string(data[:len(packedMagic)]) != packedMagic {
		return nil, errors.New("the message is not a block of version 1")
	}
	body, sum := data[:len(data)-packedCRC], binary.LittleEndian.Uint32(data[len(data)-packedCRC:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, errors.New("the checksum of the block does not match")
	}
	count := binary.LittleEndian.Uint32(data[len(packedMagic):])
	r := unpacker{rest: body[packedHeader:]}
	if uint64(count)*2 > uint64(len(r.rest)) { // a record takes two bytes at least
		return nil, errors.New("the block claims more records than it can hold")
	}
	out := make([]BlockRecord, 0, count)
	for range count {
		out = append(out, r.record())
	}
	if r.bad || len(r.rest) > 0 {
		return nil, errors.New("the records of the block do not fill it exactly")
	}
	return out, nil
}

type unpacker struct {
	rest []byte
	bad  bool
}

func (r *unpacker) record() BlockRecord {
	n := r.uvarint()
	if n > uint64(len(r.rest))/2 {
		r.bad, r.rest = true, nil
		return BlockRecord{}
	}
	var hs base.Headers
	if n > 0 {
		hs = make(base.Headers, n)
	}
	for i := range hs {
		hs[i].Name = string(r.take())
		hs[i].Value = string(r.take())
	}
	return BlockRecord{Data: r.take(), Headers: hs}
}

func (r *unpacker) uvarint() uint64 {
	n, used := binary.Uvarint(r.rest)
	if used <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[used:]
	return n
}

func (r *unpacker) take() []byte {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// packer builds block messages of at most max bytes. Its memory is reused: a
// finished block is valid until the next append.
type packer struct {
	max   int
	buf   []byte
	count uint32
}

// packedSize bounds what a record adds to a block.
func packedSize(m *connectors.Message) int {
	n := 2*binary.MaxVarintLen32 + len(m.Data)
	for i := range m.Headers {
		n += 2*binary.MaxVarintLen32 + len(m.Headers[i].Name) + len(m.Headers[i].Value)
	}
	return n
}

// fits reports whether the record still goes into the open block. The first
// record always does.
func (p *packer) fits(m *connectors.Message) bool {
	return p.count == 0 || len(p.buf)+packedSize(m)+packedCRC <= p.max
}

func (p *packer) append(m *connectors.Message) {
	if p.count == 0 {
		p.buf = append(p.buf[:0], packedMagic+"\x00\x00\x00\x00"...)
	}
	p.count++
	p.buf = binary.AppendUvarint(p.buf, uint64(len(m.Headers)))
	for i := range m.Headers {
		p.buf = appendBytes(p.buf, m.Headers[i].Name)
		p.buf = appendBytes(p.buf, m.Headers[i].Value)
	}
	p.buf = appendBytes(p.buf, m.Data)
}

// finish closes the block and returns it.
func (p *packer) finish() []byte {
	binary.LittleEndian.PutUint32(p.buf[len(packedMagic):], p.count)
	p.buf = binary.LittleEndian.AppendUint32(p.buf, crc32.Checksum(p.buf, castagnoli))
	p.count = 0
	return p.buf
}

func appendBytes[B string | []byte](dst []byte, s B) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}
