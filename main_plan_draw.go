package weir

import "strings"

// canvas is a grid of runes that grows as it is drawn on. Lines are kept as the
// directions in which they leave a cell, so that crossings come out right.
type canvas struct {
	rows  [][]rune
	lines [][]uint8
}

// Directions in which a line leaves a cell.
const (
	up uint8 = 1 << iota
	down
	left
	right
)

var glyphs = map[uint8]rune{
	up | down: '│', up: '│', down: '│', left | right: '─', left: '─', right: '─',
	down | right: '┌', down | left: '┐', up | right: '└', up | left: '┘',
	up | down | left | right: '┼', up | left | right: '┴', down | left | right: '┬',
	up | down | right: '├', up | down | left: '┤',
}

func (c *canvas) grow(x, y int) {
	for len(c.rows) <= y {
		c.rows, c.lines = append(c.rows, nil), append(c.lines, nil)
	}
	for len(c.rows[y]) <= x {
		c.rows[y], c.lines[y] = append(c.rows[y], ' '), append(c.lines[y], 0)
	}
}

func (c *canvas) line(x, y int, dirs uint8) {
	c.grow(x, y)
	c.lines[y][x] |= dirs
	c.rows[y][x] = glyphs[c.lines[y][x]]
}

func (c *canvas) text(x, y int, s string) {
	for i, r := range []rune(s) {
		c.grow(x+i, y)
		c.rows[y][x+i] = r
	}
}

// vertical draws a line down a column, both ends included.
func (c *canvas) vertical(x, from, to int) {
	for y := from; y <= to; y++ {
		c.line(x, y, up|down)
	}
}

// String returns the picture without blanks at the ends of rows.
func (c *canvas) String() string {
	var b strings.Builder
	for _, r := range c.rows {
		b.WriteString(strings.TrimRight(string(r), " "))
		b.WriteByte('\n')
	}
	return b.String()
}

// draw renders the tasks of a plan as boxes with lines between them.
func draw(v planView) string {
	c := &canvas{}
	y := 0
	for _, layer := range layout(v) {
		height := 0
		for _, n := range layer {
			if n.text != nil {
				height = max(height, len(n.text)+2)
			}
		}
		for _, n := range layer {
			c.node(n, y, height)
		}
		y = c.links(layer, y+height)
	}
	return c.String()
}

// node draws a box; what is left of the layer's height below it is for its links.
func (c *canvas) node(n *node, y, height int) {
	if n.text == nil {
		c.vertical(n.x, y, y+height-1)
		return
	}
	bottom := y + len(n.text) + 1
	for x := n.x; x < n.x+n.w; x++ {
		dirs := left | right
		switch x {
		case n.x:
			dirs = right
		case n.x + n.w - 1:
			dirs = left
		}
		c.line(x, y, dirs)
		c.line(x, bottom, dirs)
	}
	for _, x := range []int{n.x, n.x + n.w - 1} {
		c.line(x, y, down)
		c.line(x, bottom, up)
		c.vertical(x, y+1, bottom-1)
	}
	c.text(n.x+2, y, " "+n.title+" ")
	for i, s := range n.text {
		c.text(n.x+2, y+1+i, s)
	}
	for _, l := range n.out {
		c.line(l.srcX, bottom, down)
		c.vertical(l.srcX, bottom+1, y+height-1)
	}
}

// links draws what leaves a layer, from row y on, and returns the row of the next
// layer.
func (c *canvas) links(layer []*node, y int) int {
	tracks, any := 0, false
	for _, n := range layer {
		for _, l := range n.out {
			tracks, any = max(tracks, l.track+1), true
		}
	}
	if !any {
		return y + 1
	}
	last := y + tracks + 1
	for _, n := range layer {
		for _, l := range n.out {
			c.link(l, y, last)
		}
	}
	return last + 1
}

func (c *canvas) link(l *link, y, last int) {
	if l.track < 0 {
		c.vertical(l.srcX, y, last)
	} else {
		row := y + 1 + l.track
		c.vertical(l.srcX, y, row-1)
		near, far := l.srcX, l.dstX
		turn, enter := right, left
		if far < near {
			turn, enter = left, right
		}
		c.line(near, row, up|turn)
		for x := min(near, far) + 1; x < max(near, far); x++ {
			c.line(x, row, left|right)
		}
		c.line(far, row, enter|down)
		c.vertical(far, row+1, last)
	}
	if l.to.text != nil {
		c.text(l.dstX, last, "▼")
	}
}
