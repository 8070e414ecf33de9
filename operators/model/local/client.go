// Package local predicts by models in local files, within the process, and swaps them
// for others while calls go on.
//
//	client, err := local.Open(
//		local.File{Path: "fraud.txt", Version: "7", Expect: tree.Expect{SHA256: "…", SelfTest: rows}},
//		local.Codec[Features, float64]{
//			Features:   []string{"amount", "count_1h"},
//			Row:        func(f *Features, row []float64) { row[0], row[1] = f.Amount, f.Count },
//			Prediction: func(scores []float64) (float64, error) { return scores[0], nil },
//		}, local.Options{})
//	…
//	err = client.Swap(local.File{Path: "fraud-8.txt", Version: "8", Expect: …})
//
// # Swaps
//
// A file is read aside and held against its checksum, the features of the codec and
// the predictions of its self-test, while calls go on with the model in use. A file
// that does not pass changes nothing. Then it takes the place of the other at once:
// calls that began before end with the old model, and all calls of one Invoke are
// answered by one model. Load and Use are the two halves of Swap, for those who load
// when there is time and switch at a barrier, or switch back.
//
// # Not here
//
// ONNX, and models in other languages.
package local

import (
	"context"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/weirflow/weir/internal/base"
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/internal/rest"
	"github.com/weirflow/weir/operators/model/tree"
)

// File is a file with a model, of a format that package tree reads.
type File struct {
	// Path of the file, within Options.Dir if that is set.
	Path string `json:"path"`
	// Version is that of results; "" is the beginning of the checksum.
	Version string `json:"version,omitempty"`
	// Expect is what must be true of the model. Features and NumOutputs need not be
	// given: the codec has them.
	Expect tree.Expect `json:"expect"`
}

// Codec turns inputs into rows and scores into predictions.
type Codec[In, Out any] struct {
	// Features are the names of the values of a row.
	Features []string
	// Row writes the values of an input to row, which has one for each feature. NaN is
	// a missing value.
	Row func(in *In, row []float64)
	// Outputs is the number of scores of a model; 0: as many as the first one has.
	Outputs int
	// Prediction makes a prediction of the scores, which it may not keep. An error
	// makes the answer invalid.
	Prediction func(scores []float64) (Out, error)
}

// Options are the options of Open.
type Options struct {
	// Dir is where files must lie; "": anywhere. With it, no path leads out of it, by
	// ".." or by links: for swaps that somebody else than the operator of the job may
	// ask for.
	Dir string
	// FS is where files are instead, such as an embed.FS with models that are part of
	// the program.
	FS fs.FS
	// Limits bound what a file may hold.
	Limits tree.Limits
}

// Client predicts by the model in use. It implements model.Client.
type Client[In, Out any] struct {
	codec   Codec[In, Out]
	options Options
	scratch sync.Pool // of *scratch

	mu      sync.Mutex
	current *running // guarded by mu
}

// Version is a model that was loaded. It may be used by any client whose codec has the
// same features and outputs.
type Version struct {
	name  string
	model *tree.Model
}

// Name is the version as results have it.
func (v *Version) Name() string { return v.name }

// Info describes the model.
func (v *Version) Info() tree.Info { return v.model.Info() }

// running is a version while it is in use, or calls that began when it was go on.
type running struct {
	*Version
	calls    int           // guarded by the client's mu
	replaced bool          // guarded by the client's mu
	ended    chan struct{} // closed when replaced and no calls are left
}

type scratch struct{ rows, scores []float64 }

// Open loads the first model. Errors have the codes model.CodeAccess, tree.CodeModel
// and tree.CodeExpect.
func Open[In, Out any](first File, codec Codec[In, Out], o Options) (*Client[In, Out], error) {
	if o.Dir != "" && o.FS != nil {
		return nil, rest.Error("the options have both Dir and FS", first.Path, "give one of them")
	}
	if len(codec.Features) == 0 || codec.Row == nil || codec.Prediction == nil || codec.Outputs < 0 {
		return nil, rest.Error("the codec lacks Features, Row or Prediction", first.Path, "give them all")
	}
	c := &Client[In, Out]{codec: codec, options: o}
	c.scratch.New = func() any { return new(scratch) }
	v, err := c.Load(first)
	if err != nil {
		return nil, err
	}
	c.codec.Outputs = v.model.Info().NumOutputs
	c.current = &running{Version: v, ended: make(chan struct{})}
	return c, nil
}

// Load reads a model and checks it, and leaves the one in use in its place. Errors
// have the codes tree.CodeModel and tree.CodeExpect.
func (c *Client[In, Out]) Load(f File) (*Version, error) {
	if len(f.Expect.Features) == 0 {
		f.Expect.Features = c.codec.Features
	}
	if f.Expect.NumOutputs == 0 {
		f.Expect.NumOutputs = c.codec.Outputs
	}
	m, err := c.read(&f)
	if err != nil {
		return nil, err
	}
	v := &Version{name: f.Version, model: m}
	if v.name == "" {
		v.name = m.Info().SHA256[:12]
	}
	if err := c.fits(v); err != nil {
		return nil, err
	}
	return v, nil
}

func (c *Client[In, Out]) read(f *File) (*tree.Model, error) {
	if c.options.Dir == "" && c.options.FS == nil {
		return tree.Open(f.Path, f.Expect, c.options.Limits)
	}
	unreadable := func(err error) error {
		return &base.Error{Code: tree.CodeModel, What: "the model cannot be read", Where: f.Path, Cause: err, Next: "put the file into the directory of models"}
	}
	file, err := c.open(f.Path)
	if err != nil {
		return nil, unreadable(err)
	}
	defer file.Close()
	most := c.options.Limits.Bytes
	if most == 0 {
		most = 256 << 20
	}
	b, err := io.ReadAll(io.LimitReader(file, most+1)) // Read refuses what is longer
	if err != nil {
		return nil, unreadable(err)
	}
	m, err := tree.Read(b, c.options.Limits)
	if err == nil {
		err = m.Verify(f.Expect)
	}
	if err != nil {
		if e, ok := err.(*base.Error); ok {
			e.Where = f.Path
		}
		return nil, err
	}
	return m, nil
}

// open opens a file within Options.Dir or Options.FS.
func (c *Client[In, Out]) open(name string) (fs.File, error) {
	if c.options.FS != nil {
		return c.options.FS.Open(name)
	}
	root, err := os.OpenRoot(c.options.Dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.Open(name)
}

// fits returns an error unless the version has the codec's features and outputs.
func (c *Client[In, Out]) fits(v *Version) error {
	return v.model.Verify(tree.Expect{Features: c.codec.Features, NumOutputs: c.codec.Outputs})
}

// Use puts a version in the place of the one in use, from the next Invoke on, and
// returns a channel that is closed when the calls that the old one has begun are
// answered. Its error has the code tree.CodeExpect: the version was loaded for other
// features or outputs, and the old one stays.
func (c *Client[In, Out]) Use(v *Version) (ended <-chan struct{}, err error) {
	if err := c.fits(v); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.current
	c.current = &running{Version: v, ended: make(chan struct{})}
	old.replaced = true
	if old.calls == 0 {
		close(old.ended)
	}
	return old.ended, nil
}

// Swap loads a model, checks it, and puts it in the place of the one in use. On an
// error that one stays. It does not wait for calls that go on.
func (c *Client[In, Out]) Swap(f File) error {
	v, err := c.Load(f)
	if err != nil {
		return err
	}
	_, err = c.Use(v)
	return err
}

// Shared gives the client itself, for all subtasks, which so have one model in memory
// and swap it at once: as an arm, say, of weir.InferRouted. A model is rolled out by
// swapping that of an arm that has no weight, and then moving the weights by a control
// record: which of the two models answers for a record is then decided by the routing,
// and the same on every subtask.
func (c *Client[In, Out]) Shared(model.Env) (model.Client[In, Out], error) { return c, nil }

// Current is the version in use.
func (c *Client[In, Out]) Current() *Version {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current.Version
}

func (c *Client[In, Out]) begin() *running {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current.calls++
	return c.current
}

func (c *Client[In, Out]) end(r *running) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.calls--; r.calls == 0 && r.replaced {
		close(r.ended)
	}
}

// block is how many rows are predicted before the context is asked again.
const block = 256

// Invoke implements model.Client, in the goroutine of the caller.
func (c *Client[In, Out]) Invoke(ctx context.Context, calls []model.Call[In]) ([]model.Result[Out], error) {
	r := c.begin()
	defer c.end(r)
	s := c.scratch.Get().(*scratch)
	defer c.scratch.Put(s)
	features, outputs := len(c.codec.Features), c.codec.Outputs
	if s.rows == nil {
		s.rows, s.scores = make([]float64, block*features), make([]float64, block*outputs)
	}
	results := make([]model.Result[Out], len(calls))
	for at := 0; at < len(calls); at += block {
		if err := ctx.Err(); err != nil {
			return nil, &model.Failure{Kind: model.Unavailable, What: "the time for predictions ran out", Cause: err}
		}
		n := min(block, len(calls)-at)
		rows := s.rows[:n*features]
		clear(rows)
		for i := range n {
			c.codec.Row(&calls[at+i].In, rows[i*features:(i+1)*features:(i+1)*features])
		}
		r.model.PredictBatch(s.scores[:n*outputs], rows)
		for i := range n {
			results[at+i] = c.result(r.name, s.scores[i*outputs:(i+1)*outputs:(i+1)*outputs])
		}
	}
	return results, nil
}

func (c *Client[In, Out]) result(version string, scores []float64) model.Result[Out] {
	r := model.Result[Out]{Version: version}
	if err := rest.Finite(scores); err != nil {
		r.Err = rest.Invalid(err, "the model's scores are no numbers")
		return r
	}
	out, err := c.codec.Prediction(scores)
	if err != nil {
		r.Err = rest.Nonsense(err, "the scores %.3g make no sense", scores)
		return r
	}
	r.Out = out
	return r
}
