package storefront

import (
	"embed"

	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/local"
)

// Moment is what a model is asked about: a click, or the end of a hesitation, and what
// the visitor had done about the item by then.
type Moment struct {
	User  string `json:"user"`
	Item  string `json:"item"`
	Kind  string `json:"kind"`
	Price int64  `json:"price"` // in cents
	At    int64  `json:"at"`    // in milliseconds since the epoch
	// Hesitates is set for the end of a hesitation, which is a removal.
	Hesitates bool `json:"hesitates"`
	Interest
}

func (m Moment) key() UserItem { return UserItem{m.User, m.Item} }

func moment(v Visit) Moment {
	return Moment{User: v.User, Item: v.Item, Kind: v.Kind, Price: v.Price, At: v.At, Interest: v.Interest}
}

func (h Hesitated) moment() Moment {
	m := moment(h.End)
	m.Hesitates = true
	return m
}

// Prediction is a message of stream PREDICTIONS: how likely it is that the visitor
// hesitates over the item within ten minutes.
type Prediction = model.Prediction[Moment, float64]

// Arms of the predictions. Steady answers for most; the canary, a larger model, for the
// keys that the routing gives it.
const (
	Steady = "steady"
	Canary = "canary"
)

// Routing gives the canary a share of the visitors and items, in percent.
func Routing(version uint64, canary uint32) model.Routing {
	weight := canary * model.FullWeight / 100
	return model.Routing{Version: version, Arms: []model.Share{{Arm: Canary, Weight: weight}, {Arm: Steady, Weight: model.FullWeight - weight}}}
}

// firstCanary is the share of the canary until a routing says another, in percent.
const firstCanary = 10

//go:embed models/*.txt
var models embed.FS

// inputs are the features in the order of the models' files.
var inputs = local.Codec[Moment, float64]{
	Features: []string{"kind", "price", "hesitates", "views_10m", "removes_1h", "spent_1h"},
	Row: func(m *Moment, row []float64) {
		kinds := map[string]float64{View: 0, Add: 1, Remove: 2, Buy: 3}
		row[0], row[1], row[2] = kinds[m.Kind], float64(m.Price), 0
		if m.Hesitates {
			row[2] = 1
		}
		row[3], row[4], row[5] = float64(m.Views), float64(m.Removes), float64(m.Spent)
	},
	Prediction: func(scores []float64) (float64, error) { return scores[0], nil },
}

// forest returns what opens a model in this process.
func forest(name, version string) func(model.Env) (model.Client[Moment, float64], error) {
	return func(model.Env) (model.Client[Moment, float64], error) {
		return local.Open(local.File{Path: "models/" + name + ".txt", Version: version}, inputs, local.Options{FS: models})
	}
}
