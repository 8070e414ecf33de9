package connectors

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"strconv"
	"unsafe"

	"github.com/weirflow/weir/internal/base"
)

// The form of a staged block is documented in docs/format/blocks.md. It is read
// back after restarts and upgrades: a change of any of these needs a new version.
const (
	blockMagic   = "WEIRBLK"
	blockVersion = 1
	// blockHeader is magic 7, version 1, messages u64, chunks u32, reserved u32,
	// length of the message area u64.
	blockHeader = 32
	// chunkEntry is messages u32, end in the message area u64.
	chunkEntry = 12
	blockCRC   = 4
	// headerCost is what one header costs besides its name and value: ": " and
	// the line end in the text protocols that carry it.
	headerCost = 4
)

// castagnoli is the CRC-32C table; the hardware computes it.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Size returns what the message counts against ChunkLimits, in bytes: subject,
// data, and name, value and 4 bytes for each header.
func (m *Message) Size() int {
	n := len(m.Subject) + len(m.Data)
	for i := range m.Headers {
		n += len(m.Headers[i].Name) + len(m.Headers[i].Value) + headerCost
	}
	return n
}

// BlockBuilder stages the messages of one lane and one epoch. It decides the
// bounds of the chunks while messages are appended, from the limits and the
// messages alone: the block of a claimed epoch commits in the same chunks in
// every replay, whatever the limits are by then. It is owned by one goroutine.
type BlockBuilder struct {
	limits ChunkLimits
	// buf holds room for the header and then the encoded messages.
	buf    []byte
	chunks []chunkBound
	count  int
	// The open chunk: its number of messages, their Size, and where buf holds
	// the subject of its last message.
	openCount, openSize    int
	subjectFrom, subjectTo int
}

// chunkBound is a closed or open chunk: its messages, and its end counted from
// the start of the message area.
type chunkBound struct {
	count uint32
	end   uint64
}

// NewBlock returns an empty builder. A limit of 0 or less sets no bound. A
// message may be no larger than the smaller of MaxMessage and MaxBytes.
func NewBlock(limits ChunkLimits) *BlockBuilder {
	unbounded := func(n int) int {
		if n <= 0 {
			return math.MaxInt32
		}
		return n
	}
	limits.MaxMessages = min(unbounded(limits.MaxMessages), math.MaxInt32)
	limits.MaxBytes = unbounded(limits.MaxBytes)
	limits.MaxMessage = min(unbounded(limits.MaxMessage), limits.MaxBytes)
	return &BlockBuilder{limits: limits}
}

// Append copies the message into the block. It fails with WEIR-0501, and leaves
// the block as it was, when the message is larger than the target takes.
func (b *BlockBuilder) Append(m *Message) error {
	size := m.Size()
	if size > b.limits.MaxMessage {
		return tooLarge(m, size, b.limits.MaxMessage)
	}
	if len(b.buf) == 0 {
		b.buf = append(b.buf, make([]byte, blockHeader)...)
	}
	if b.openCount == 0 || b.openCount == b.limits.MaxMessages || b.openSize > b.limits.MaxBytes-size {
		b.chunks = append(b.chunks, chunkBound{})
		b.openCount, b.openSize = 0, 0
	}
	if b.openCount > 0 && string(b.buf[b.subjectFrom:b.subjectTo]) == m.Subject {
		b.buf = append(b.buf, 0)
	} else {
		b.buf = binary.AppendUvarint(b.buf, uint64(len(m.Subject))+1)
		b.subjectFrom = len(b.buf)
		b.buf = append(b.buf, m.Subject...)
		b.subjectTo = len(b.buf)
	}
	b.buf = binary.AppendUvarint(b.buf, uint64(len(m.Headers)))
	for i := range m.Headers {
		b.buf = appendBytes(b.buf, m.Headers[i].Name)
		b.buf = appendBytes(b.buf, m.Headers[i].Value)
	}
	b.buf = appendBytes(b.buf, m.Data)
	b.openCount++
	b.openSize += size
	b.count++
	last := &b.chunks[len(b.chunks)-1]
	last.count, last.end = uint32(b.openCount), uint64(len(b.buf)-blockHeader)
	return nil
}

func appendBytes[B string | []byte](dst []byte, s B) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func tooLarge(m *Message, size, limit int) error {
	return &base.Error{
		Code:  "WEIR-0501",
		What:  "a message of " + strconv.Itoa(size) + " bytes is larger than the " + strconv.Itoa(limit) + " bytes that the target takes",
		Where: m.Subject,
		Next:  "make the record smaller, raise the limit of the target, or give the sink a record policy that skips it",
	}
}

// Count returns the number of messages appended since the last Seal.
func (b *BlockBuilder) Count() int { return b.count }

// Chunks returns the number of chunks so far.
func (b *BlockBuilder) Chunks() int { return len(b.chunks) }

// Bytes returns the length that the sealed block has as it stands.
func (b *BlockBuilder) Bytes() int {
	return max(len(b.buf), blockHeader) + len(b.chunks)*chunkEntry + blockCRC
}

// Seal returns the encoded block, which the caller then owns, and empties the
// builder for the next epoch. The same messages under the same limits give the
// same bytes.
func (b *BlockBuilder) Seal() []byte {
	out := b.buf
	if len(out) == 0 {
		out = append(out, make([]byte, blockHeader)...)
	}
	copy(out, blockMagic)
	out[7] = blockVersion
	binary.LittleEndian.PutUint64(out[8:], uint64(b.count))
	binary.LittleEndian.PutUint32(out[16:], uint32(len(b.chunks)))
	binary.LittleEndian.PutUint32(out[20:], 0) // recycled memory is not zero
	binary.LittleEndian.PutUint64(out[24:], uint64(len(out)-blockHeader))
	for _, c := range b.chunks {
		out = binary.LittleEndian.AppendUint32(out, c.count)
		out = binary.LittleEndian.AppendUint64(out, c.end)
	}
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli))
	*b = BlockBuilder{limits: b.limits, chunks: b.chunks[:0]}
	return out
}

// Recycle gives an empty builder the memory of an earlier block that nobody
// reads any more. It does nothing when messages were appended already.
func (b *BlockBuilder) Recycle(mem []byte) {
	if len(b.buf) == 0 {
		b.buf = mem[:0]
	}
}

// Block is a sealed block, checked and ready to be read. It may be read from
// several goroutines.
type Block struct {
	data   []byte
	msgs   []byte
	chunks []chunkBound
	// cumulative holds the messages up to and including each chunk.
	cumulative []uint64
}

// OpenBlock checks a sealed block completely, checksum and every length, and
// keeps data, which must not change any more. It fails with WEIR-0502 and
// allocates no more than a small multiple of len(data).
func OpenBlock(data []byte) (*Block, error) {
	if len(data) < blockHeader+blockCRC || string(data[:7]) != blockMagic {
		return nil, badBlock("it does not begin like a block")
	}
	if data[7] != blockVersion {
		return nil, base.Fatal(&base.Error{
			Code: "WEIR-0502",
			What: "a staged block has version " + strconv.Itoa(int(data[7])) + ", and this build reads version " + strconv.Itoa(blockVersion),
			Next: "run the build that wrote it, or a newer one",
		})
	}
	body := data[:len(data)-blockCRC]
	if binary.LittleEndian.Uint32(data[len(body):]) != crc32.Checksum(body, castagnoli) {
		return nil, badBlock("its checksum does not match")
	}
	count := binary.LittleEndian.Uint64(data[8:])
	chunks := uint64(binary.LittleEndian.Uint32(data[16:]))
	size := binary.LittleEndian.Uint64(data[24:])
	rest := uint64(len(body) - blockHeader)
	if binary.LittleEndian.Uint32(data[20:]) != 0 || chunks*chunkEntry > rest || size != rest-chunks*chunkEntry {
		return nil, badBlock("its header contradicts its length")
	}
	b := &Block{data: data, msgs: body[blockHeader : blockHeader+size]}
	b.chunks = make([]chunkBound, chunks)
	b.cumulative = make([]uint64, chunks)
	index := body[blockHeader+size:]
	for i := range b.chunks {
		e := index[i*chunkEntry:]
		b.chunks[i] = chunkBound{binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint64(e[4:])}
	}
	if err := b.check(count); err != nil {
		return nil, err
	}
	return b, nil
}

// check walks all messages once, so that Chunk cannot meet a bad one.
func (b *Block) check(count uint64) error {
	var from, sum uint64
	for i, c := range b.chunks {
		if c.count == 0 || c.end <= from || c.end > uint64(len(b.msgs)) {
			return badBlock("chunk " + strconv.Itoa(i) + " has impossible bounds")
		}
		r := blockReader{rest: b.msgs[from:c.end]}
		for range c.count {
			if r.next(nil); r.bad {
				return badBlock("a message of chunk " + strconv.Itoa(i) + " is malformed")
			}
		}
		if len(r.rest) > 0 {
			return badBlock("chunk " + strconv.Itoa(i) + " has bytes left over")
		}
		from, sum = c.end, sum+uint64(c.count)
		b.cumulative[i] = sum
	}
	if from != uint64(len(b.msgs)) || sum != count {
		return badBlock("its chunks do not add up to its header")
	}
	return nil
}

func badBlock(why string) error {
	return base.Fatal(&base.Error{
		Code: "WEIR-0502",
		What: "a staged block cannot be read: " + why,
		Next: "the checkpoint store returned damaged data; check the disk, and restore the object from a copy",
	})
}

// Count returns the number of messages in the block.
func (b *Block) Count() int {
	if len(b.cumulative) == 0 {
		return 0
	}
	return int(b.cumulative[len(b.cumulative)-1])
}

// Bytes returns the length of the encoded block.
func (b *Block) Bytes() int { return len(b.data) }

// Chunks returns the number of chunks; 0 for an empty block.
func (b *Block) Chunks() int { return len(b.chunks) }

// Cumulative returns the number of messages in chunks 0 to i, i included.
func (b *Block) Cumulative(i int) uint64 { return b.cumulative[i] }

// Chunk returns the messages of chunk i, counted from 0. Their subjects, data
// and headers alias the block: they are valid, and must not be changed, as long
// as the block's data is.
func (b *Block) Chunk(i int) []Message {
	var from uint64
	if i > 0 {
		from = b.chunks[i-1].end
	}
	r := blockReader{rest: b.msgs[from:b.chunks[i].end]}
	out := make([]Message, b.chunks[i].count)
	for j := range out {
		r.next(&out[j])
	}
	return out
}

// blockReader reads the messages of one chunk. Once bad it stays bad.
type blockReader struct {
	rest    []byte
	subject []byte
	started bool
	bad     bool
}

// next reads one message into m, or only checks it when m is nil.
func (r *blockReader) next(m *Message) {
	// A subject that repeats must be written as a repetition, so that a block
	// has one encoding only.
	switch n := r.uvarint(); {
	case n == 0:
		r.bad = r.bad || !r.started
	default:
		s := r.take(n - 1)
		r.bad = r.bad || r.started && string(s) == string(r.subject)
		r.subject, r.started = s, true
	}
	headers := r.uvarint()
	if r.bad || headers > uint64(len(r.rest))/2 { // each takes two length bytes
		r.bad = true
		return
	}
	var hs base.Headers
	if m != nil && headers > 0 {
		hs = make(base.Headers, 0, headers)
	}
	for range headers {
		name, value := r.take(r.uvarint()), r.take(r.uvarint())
		if hs != nil {
			hs = append(hs, base.Header{Name: alias(name), Value: alias(value)})
		}
	}
	data := r.take(r.uvarint())
	if m != nil {
		*m = Message{Subject: alias(r.subject), Data: data, Headers: hs}
	}
}

// uvarint reads a number in its shortest form.
func (r *blockReader) uvarint() uint64 {
	if len(r.rest) > 0 && r.rest[0] < 0x80 {
		n := r.rest[0]
		r.rest = r.rest[1:]
		return uint64(n)
	}
	n, used := binary.Uvarint(r.rest)
	if used <= 0 || r.rest[used-1] == 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[used:]
	return n
}

// take cuts the next n bytes off.
func (r *blockReader) take(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	s := r.rest[:n:n]
	r.rest = r.rest[n:]
	return s
}

// alias views immutable bytes as a string without a copy.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
