package proof

import (
	"embed"
	"encoding/json"
	"math"
)

//go:embed models
var dumps embed.FS

// node is a node of a tree: a leaf, or a question about one value of a row.
type node struct {
	Leaf    float64 `json:"leaf"`
	Feature int     `json:"feature"`
	Most    float64 `json:"most"` // goes left
	Left    *node   `json:"left"`
	Right   *node   `json:"right"`
}

func (n *node) value(row []float64) float64 {
	switch {
	case n.Left == nil:
		return n.Leaf
	case row[n.Feature] <= n.Most:
		return n.Left.value(row)
	}
	return n.Right.value(row)
}

// forest is a model: the logistic function of the sum of its trees.
type forest []*node

func (f forest) score(m *Moment) float64 {
	sum, row := 0.0, m.Row()
	for _, tree := range f {
		sum += tree.value(row)
	}
	return 1 / (1 + math.Exp(-sum))
}

// readForest reads a model by its name. The files are part of the program.
func readForest(name string) (f forest) {
	b, err := dumps.ReadFile("models/" + name + ".json")
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err != nil {
		panic("proof: the model " + name + ": " + err.Error())
	}
	return f
}
