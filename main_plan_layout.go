package weir

import (
	"fmt"
	"slices"
	"sort"
)

// The picture of a plan is drawn in layers: a task is one layer below the lowest
// task that feeds it, edges run from layer to layer, and an edge that spans
// several gets a narrow place of its own in those between. Each edge leaves and
// enters at a column of its own and has a row of its own for its way across, so
// that lines cross and never join.

// node is a task, or a place where an edge passes a layer.
type node struct {
	text    []string // lines in the box; nil for a passing edge
	title   string
	layer   int
	x, w    int
	order   float64
	in, out []*link
}

// link is one edge between two neighbouring layers.
type link struct {
	from, to   *node
	srcX, dstX int
	track      int
}

func (n *node) center() int { return n.x + n.w/2 }

// Distances in the picture, all odd, which keeps the centres of layers in line.
const boxGap = 3

// layout places all nodes and returns them by layer.
func layout(v planView) [][]*node {
	layers := layerNodes(v)
	for range 4 {
		for _, l := range layers {
			arrange(l, func(n *node) []*link { return n.in }, func(k *link) *node { return k.from })
		}
		for i := len(layers) - 1; i >= 0; i-- {
			arrange(layers[i], func(n *node) []*link { return n.out }, func(k *link) *node { return k.to })
		}
	}
	widest := 0
	for _, l := range layers {
		widest = max(widest, place(l, 0))
	}
	for _, l := range layers {
		place(l, (widest-place(l, 0))/2)
	}
	for i := range layers {
		ports(layers[i])
	}
	return layers
}

// layerNodes makes the nodes and links, in layers.
func layerNodes(v planView) [][]*node {
	index := map[string]int{}
	for i := range v.Tasks {
		index[v.Tasks[i].Name] = i
	}
	nodes := make([]*node, len(v.Tasks))
	width := 0
	for i, t := range v.Tasks {
		n := &node{title: fmt.Sprintf("%s ×%d", t.Name, t.Parallelism)}
		for _, e := range v.Edges {
			if e.To == t.Name {
				n.text = append(n.text, "← "+e.From+", "+e.Partition)
			}
		}
		for _, o := range t.Operators {
			n.text = append(n.text, o.Kind+" "+o.Name)
			for _, s := range o.States {
				n.text = append(n.text, "  state "+s.Name)
			}
		}
		for _, s := range append(n.text, n.title+"  ") {
			width = max(width, len([]rune(s))+4)
		}
		nodes[i] = n
	}
	// Builders connect a task only to later ones, so one pass finds the layers.
	for _, e := range v.Edges {
		to := nodes[index[e.To]]
		to.layer = max(to.layer, nodes[index[e.From]].layer+1)
	}
	var layers [][]*node
	add := func(n *node) {
		for len(layers) <= n.layer {
			layers = append(layers, nil)
		}
		layers[n.layer] = append(layers[n.layer], n)
	}
	for _, n := range nodes {
		n.w = width | 1
		add(n)
	}
	for _, e := range v.Edges {
		from, to := nodes[index[e.From]], nodes[index[e.To]]
		for from.layer+1 < to.layer {
			pass := &node{layer: from.layer + 1, w: 1}
			add(pass)
			join(from, pass)
			from = pass
		}
		join(from, to)
	}
	return layers
}

func join(from, to *node) {
	l := &link{from: from, to: to}
	from.out, to.in = append(from.out, l), append(to.in, l)
}

// arrange orders the nodes of a layer by the mean place of their neighbours.
func arrange(layer []*node, links func(*node) []*link, end func(*link) *node) {
	for i, n := range layer {
		n.order = float64(i)
		if ls := links(n); len(ls) > 0 {
			n.order = 0
			for _, l := range ls {
				n.order += float64(end(l).x) / float64(len(ls))
			}
		}
	}
	slices.SortStableFunc(layer, func(a, b *node) int {
		switch {
		case a.order < b.order:
			return -1
		case a.order > b.order:
			return 1
		}
		return 0
	})
	// Until columns are known, the place in the layer stands for them.
	for i, n := range layer {
		n.x = i
	}
}

// place sets the columns of a layer from x on and returns its width.
func place(layer []*node, x int) int {
	start := x
	for i, n := range layer {
		if i > 0 {
			x += boxGap
		}
		n.x = x
		x += n.w
	}
	return x - start
}

// ports gives the links of the layer's nodes their columns at both ends, those
// at the top of the next layer included.
func ports(layer []*node) {
	var all []*link
	for _, n := range layer {
		sort.SliceStable(n.out, func(i, j int) bool { return n.out[i].to.center() < n.out[j].to.center() })
		for i, l := range n.out {
			l.srcX = n.x + n.w*(i+1)/(len(n.out)+1)
		}
		all = append(all, n.out...)
	}
	done := map[*node]bool{}
	for _, l := range all {
		n := l.to
		if done[n] {
			continue
		}
		done[n] = true
		sort.SliceStable(n.in, func(i, j int) bool { return n.in[i].srcX < n.in[j].srcX })
		for i, in := range n.in {
			in.dstX = n.x + n.w*(i+1)/(len(n.in)+1)
		}
	}
	avoid(all)
	tracks(all)
}

// avoid moves the lower ends of links out of columns in which another link
// begins, where there is room.
func avoid(all []*link) {
	taken := func(x int, self *link) bool {
		for _, l := range all {
			if l != self && (l.srcX == x || l.dstX == x) {
				return true
			}
		}
		return false
	}
	for _, l := range all {
		for d := 1; taken(l.dstX, l) && d < l.to.w/2; d++ {
			for _, x := range []int{l.dstX + d, l.dstX - d} {
				if x > l.to.x && x < l.to.x+l.to.w-1 && !taken(x, l) {
					l.dstX = x
					break
				}
			}
		}
	}
}

// tracks gives each link that is not straight a row of its own. One that begins
// in the column in which another ends turns off above the other's row.
func tracks(all []*link) {
	var left []*link
	for _, l := range all {
		l.track = -1
		if l.srcX != l.dstX {
			left = append(left, l)
		}
	}
	for t := 0; len(left) > 0; t++ {
		pick := 0
		for i, b := range left {
			if !slices.ContainsFunc(left, func(a *link) bool { return a != b && a.srcX == b.dstX }) {
				pick = i
				break
			}
		}
		left[pick].track = t
		left = slices.Delete(left, pick, pick+1)
	}
}
