package weir

import (
	"fmt"
	"sort"

	"github.com/weirflow/weir/connectors"
)

// Bindings replaces sources and sinks of a job by name, so that a test runs the
// job as it is in production on inputs and outputs of its own.
type Bindings struct {
	sources, sinks map[string]any
}

// BindSource makes the job read src in place of the source of that name.
func BindSource[T any](b *Bindings, name string, src connectors.Source[T]) {
	if b.sources == nil {
		b.sources = map[string]any{}
	}
	b.sources[name] = src
}

// BindSink makes the job write to sink in place of the sink of that name.
func BindSink[T any](b *Bindings, name string, sink connectors.Sink[T]) {
	if b.sinks == nil {
		b.sinks = map[string]any{}
	}
	b.sinks[name] = sink
}

// unused lists the bound names that are not in the job.
func (b *Bindings) unused(places map[string]string) []string {
	if b == nil {
		return nil
	}
	var out []string
	for _, m := range []map[string]any{b.sources, b.sinks} {
		for name := range m {
			if _, ok := places[name]; !ok {
				out = append(out, name)
			}
		}
	}
	sort.Strings(out)
	return out
}

func boundSource[T any](j *Job, name, where string) (connectors.Source[T], bool) {
	if j.opts.bindings == nil {
		return nil, false
	}
	v, ok := j.opts.bindings.sources[j.scope+name]
	if !ok {
		return nil, false
	}
	src, ok := v.(connectors.Source[T])
	if !ok {
		j.fail(where, "WEIR-0104", fmt.Sprintf("source %s reads %T, and is bound to %T", name, *new(T), v), "bind a source of the same type")
	}
	return src, ok
}

func boundSink[T any](j *Job, name, where string) (connectors.Sink[T], bool) {
	if j.opts.bindings == nil {
		return connectors.Sink[T]{}, false
	}
	v, ok := j.opts.bindings.sinks[j.scope+name]
	if !ok {
		return connectors.Sink[T]{}, false
	}
	sink, ok := v.(connectors.Sink[T])
	if !ok {
		j.fail(where, "WEIR-0104", fmt.Sprintf("sink %s takes %T, and is bound to %T", name, *new(T), v), "bind a sink of the same type")
	}
	return sink, ok
}
