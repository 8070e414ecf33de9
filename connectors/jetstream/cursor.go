package jetstream

import (
	"strconv"
	"strings"

	"github.com/weirflow/weir/connectors"
)

// cursor is where a reader stands. It is stored as a connectors.Position: Offset
// is the sequence of the last message that is done with, and Identity is the
// stream's creation time followed by what else there is:
//
//	;end=N  the sequence at which a source with UntilNow ends
//	;at=K   K records of the block message after Offset are done
type cursor struct {
	offset  uint64
	created string
	// end is the last sequence to read; hasEnd says that there is one.
	end    uint64
	hasEnd bool
	// at counts the records that are done of the block message in progress.
	at   int
	done bool
}

func (c cursor) position(pinned bool) connectors.Position {
	id := c.created
	if pinned && c.hasEnd {
		id += ";end=" + utoa(c.end)
	}
	if c.at > 0 {
		id += ";at=" + strconv.Itoa(c.at)
	}
	return connectors.Position{Started: true, Offset: c.offset, Identity: id, Done: c.done}
}

// parseCursor reads what position wrote.
func parseCursor(p connectors.Position) cursor {
	created, rest, _ := strings.Cut(p.Identity, ";")
	c := cursor{offset: p.Offset, created: created, done: p.Done}
	for field := range strings.SplitSeq(rest, ";") {
		key, value, _ := strings.Cut(field, "=")
		n, err := strconv.ParseUint(value, 10, 64)
		switch {
		case err != nil:
		case key == "end":
			c.end, c.hasEnd = n, true
		case key == "at":
			c.at = int(n)
		}
	}
	return c
}

// blockBits is how far the sequence is shifted in the position of a record that
// came in a block message; the record's index is below. Positions are thereby
// unique and ascending within a stream of blocks.
const blockBits = 20

// maxBlockIndex is the largest number of records in a block message.
const maxBlockIndex = 1 << blockBits
