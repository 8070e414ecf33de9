package torture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirflow/weir/internal/crash"
)

// MatrixConfig says what Matrix does.
type MatrixConfig struct {
	// Dir holds the files; those of cells that found something stay.
	Dir  string
	Seed uint64
	// Short runs one cell per point, for the job only.
	Short bool
	// Only limits the cells to those whose name matches; nil for all.
	Only *regexp.Regexp
	// Workers is how many cells run at a time; 2 if not set.
	Workers int
	// Log takes a line for each cell.
	Log io.Writer
}

// CellResult is what a cell came to.
type CellResult struct {
	Cell   Cell
	Report *Report // nil with Err
	Err    error
	Took   time.Duration
}

// OK says that the cell found nothing.
func (r *CellResult) OK() bool { return r.Err == nil && r.Report.OK() }

// MatrixResult is what a matrix came to.
type MatrixResult struct {
	Cells []CellResult
	Took  time.Duration
	// Missed lists wired points that the job never comes to; Excused those of them
	// for which there is a reason, with it.
	Missed  []string
	Excused map[string]string
	// Records is the length of the input of each cell.
	Records int
}

// OK says that every point was reached and no cell found anything.
func (r *MatrixResult) OK() bool {
	return len(r.Missed) == 0 && !slices.ContainsFunc(r.Cells, func(c CellResult) bool { return !c.OK() })
}

// Summary renders the result on one line.
func (r *MatrixResult) Summary() string {
	points, jobs, servers, bad := map[string]bool{}, 0, 0, 0
	for i := range r.Cells {
		c := &r.Cells[i]
		points[c.Cell.Point] = true
		if c.Cell.NATS {
			servers++
		} else {
			jobs++
		}
		if !c.OK() {
			bad++
		}
	}
	verdict := "ok"
	if !r.OK() {
		verdict = "FAILED"
	}
	return fmt.Sprintf("%s: %d crash points, %d deaths of the job and %d of the server, %d records each, in %s: %d cells failed, %d points missed, %d excused",
		verdict, len(points), jobs, servers, r.Records, r.Took.Round(time.Second/10), bad, len(r.Missed), len(r.Excused))
}

// matrixRecords is the length of a cell's input, without its end.
const matrixRecords = 1600

// priors are where the job dies first when the point is one of the recovery: once
// with nothing to publish again, once amid publishing.
var priors = []string{"coord.before_claim:4", "commit.mid_batch:7"}

// Matrix runs the job once for each cell: every wired crash point, three times for
// the job and once for the server. Its error says that the matrix itself could not
// be run.
func Matrix(ctx context.Context, cfg MatrixConfig) (*MatrixResult, error) {
	began := time.Now()
	if cfg.Workers == 0 {
		cfg.Workers = 2
	}
	m := &matrix{cfg: cfg, plain: newInput(cfg.Seed, 0), bulk: newInput(cfg.Seed, largeInCell)}
	m.res.Records = len(m.plain.records)
	fmt.Fprintf(cfg.Log, "seed %d, %s\n", cfg.Seed, cfg.Dir)
	if err := m.run(ctx); err != nil {
		return &m.res, err
	}
	m.res.Took = time.Since(began)
	return &m.res, nil
}

// input is the input of cells, and its model.
type input struct {
	records []Record
	model   *Model
}

// bulky lists the points that a job comes to only when its state is larger than
// memory, or when an epoch has more results in a lane than fit in one batch.
var bulky = map[string]bool{"snap.before_writeback": true, "snap.after_writeback": true, "commit.between_chunks": true}

// largeInCell of 1000 records are large in the cells of those points.
const largeInCell = 400

func newInput(seed uint64, big int) *input {
	script := NewScript(seed, matrixRecords/2, time.Second, big)
	var records []Record
	for range matrixRecords {
		records = append(records, script.Next())
	}
	records = append(records, script.End()...)
	return &input{records, NewModel(records)}
}

type matrix struct {
	cfg         MatrixConfig
	plain, bulk *input

	mu  sync.Mutex
	res MatrixResult
}

func (m *matrix) run(ctx context.Context) error {
	benches := make([]*bench, m.cfg.Workers)
	defer func() {
		for _, b := range benches {
			if b != nil {
				b.close()
			}
		}
	}()
	for i := range benches {
		var err error
		if benches[i], err = newBench(ctx, filepath.Join(m.cfg.Dir, fmt.Sprint("bench", i))); err != nil {
			return err
		}
	}
	plan, err := m.plan(ctx, benches[0])
	if err != nil {
		return err
	}
	cells := make(chan Cell, len(plan))
	for _, c := range plan {
		cells <- c
	}
	close(cells)
	var wg sync.WaitGroup
	for _, b := range benches {
		wg.Go(func() {
			for c := range cells {
				if ctx.Err() == nil {
					m.cell(ctx, b, c)
				}
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

// plan finds out how often each point is reached, in a job without faults and in
// one that recovers, and makes the cells.
func (m *matrix) plan(ctx context.Context, b *bench) ([]Cell, error) {
	fresh, err := m.calibrate(ctx, b, Cell{})
	if err != nil {
		return nil, err
	}
	again, err := m.calibrate(ctx, b, Cell{Prior: priors[len(priors)-1]})
	if err != nil {
		return nil, err
	}
	bulk, err := m.calibrate(ctx, b, Cell{Bulky: true})
	if err != nil {
		return nil, err
	}
	m.res.Excused = map[string]string{}
	var cells []Cell
	for _, p := range crash.Points() {
		if !p.Wired {
			continue
		}
		if bulky[p.Name] {
			fresh[p.Name], again[p.Name] = bulk[p.Name], bulk[p.Name]
		}
		if fresh[p.Name] == 0 && again[p.Name] == 0 {
			if why, ok := unreached[p.Name]; ok {
				m.res.Excused[p.Name] = why
			} else {
				m.res.Missed = append(m.res.Missed, p.Name)
			}
			continue
		}
		cells = append(cells, m.cellsOf(p.Name, fresh[p.Name], again[p.Name])...)
	}
	if m.cfg.Only != nil {
		cells = slices.DeleteFunc(cells, func(c Cell) bool { return !m.cfg.Only.MatchString(c.String()) })
	}
	return cells, nil
}

// calibrate runs a job without a death of its own and returns the hits of all
// points.
func (m *matrix) calibrate(ctx context.Context, b *bench, c Cell) (map[string]uint64, error) {
	began := time.Now()
	rep, hits, err := b.run(ctx, c, m.inputOf(c), true)
	if err != nil {
		return nil, fmt.Errorf("a job without faults: %w", err)
	}
	if !rep.OK() {
		return nil, fmt.Errorf("a job without faults: %s\n%s", rep, rep.Details())
	}
	fmt.Fprintf(m.cfg.Log, "%6.2fs  no faults%s: %s\n", time.Since(began).Seconds(), strings.TrimPrefix(c.String(), ":0"), rep)
	return hits, nil
}

// cellsOf spreads the deaths at a point: early, in the middle and late in the job,
// or, for the points of a start, in the first start and in two kinds of recovery.
func (m *matrix) cellsOf(point string, fresh, again uint64) []Cell {
	group, _, _ := strings.Cut(point, ".")
	if group == "rec" || group == "gen" || fresh == 0 {
		cells := []Cell{
			{Point: point, Hit: min(1, again), Prior: priors[0]},
			{Point: point, Hit: (again + 1) / 2, Prior: priors[1]},
			{Point: point, Hit: again, Prior: priors[1]},
			{Point: point, Hit: again, Prior: priors[0], NATS: true},
		}
		if fresh > 0 {
			cells[2] = Cell{Point: point, Hit: 1}
		}
		return m.some(cells)
	}
	bulk := bulky[point]
	return m.some([]Cell{
		{Point: point, Hit: (fresh + 1) / 2, Bulky: bulk},
		{Point: point, Hit: 1, Bulky: bulk},
		{Point: point, Hit: max(1, fresh*4/5), Bulky: bulk},
		{Point: point, Hit: (fresh + 2) / 3, Bulky: bulk, NATS: true},
	})
}

func (m *matrix) inputOf(c Cell) *input {
	if c.Bulky {
		return m.bulk
	}
	return m.plain
}

func (m *matrix) some(cells []Cell) []Cell {
	if m.cfg.Short {
		return cells[:1]
	}
	return cells
}

// cell runs a cell. How often a point is reached differs from run to run, so a hit
// that is not reached is tried again with an earlier one.
func (m *matrix) cell(ctx context.Context, b *bench, c Cell) {
	res := CellResult{Cell: c}
	began := time.Now()
	for {
		res.Report, _, res.Err = b.run(ctx, res.Cell, m.inputOf(c), false)
		if !errors.Is(res.Err, errNotReached) || res.Cell.Hit == 1 {
			break
		}
		res.Cell.Hit /= 2
	}
	res.Took = time.Since(began)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.res.Cells = append(m.res.Cells, res)
	verdict := "ok"
	switch {
	case res.Err != nil:
		verdict = "FAILED: " + res.Err.Error()
	case !res.Report.OK():
		verdict = fmt.Sprintf("FAILED: %s\n%s\nfiles are in %s", res.Report, res.Report.Details(), b.dir)
	}
	fmt.Fprintf(m.cfg.Log, "%6.2fs  %s  %s\n", res.Took.Seconds(), res.Cell, verdict)
}
