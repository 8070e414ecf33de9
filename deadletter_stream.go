package weir

import (
	"strings"

	"github.com/weirflow/weir/connectors"
	"github.com/weirflow/weir/connectors/jetstream"
)

// DeadLetterStream is a sink for DeadLetters: a JetStream stream, created when it is
// absent, with a message in MessagePack for each letter, exactly once, on the subject
// STREAM.letters.OPERATOR (slashes of the operator's name become dots). Options such as
// a connection or jetstream.JSON() come after these and may change them.
func DeadLetterStream(stream string, opts ...jetstream.SinkOption) connectors.Sink[DeadLetterRecord] {
	first := []jetstream.SinkOption{
		jetstream.Create(jetstream.StreamSpec{Subjects: []string{stream + ".letters.>"}}), jetstream.Lanes(1),
	}
	return jetstream.Publish(stream, func(d DeadLetterRecord) string {
		return stream + ".letters." + strings.ReplaceAll(d.Operator, "/", ".")
	}, append(first, opts...)...)
}

// retryStreamOf names the retry stream of a stream of dead letters, and returns how to make
// it.
func retryStreamOf(letters string) jetstream.StreamSpec {
	name := letters + "-RETRY"
	return jetstream.StreamSpec{Name: name, Subjects: []string{name + ".>"}}
}

// retryStream is the source of the retry stream that goes with a stream of dead
// letters, on the same server. It starts behind what is there: nothing can have been
// decided on letters of this job before its first start.
func retryStream(letters string, target connectors.Target) connectors.Source[DeadLetterRetry] {
	spec := retryStreamOf(letters)
	opts := []jetstream.SourceOption{jetstream.FromLatest(), jetstream.Create(spec)}
	if server := jetstream.ServerOf(target); server != nil {
		opts = append(opts, jetstream.On(*server))
	}
	return jetstream.Stream[DeadLetterRetry](spec.Name, opts...)
}
