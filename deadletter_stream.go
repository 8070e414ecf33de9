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
	base := []jetstream.SinkOption{
		jetstream.Create(jetstream.StreamSpec{Subjects: []string{stream + ".letters.>"}}), jetstream.Lanes(1),
	}
	return jetstream.Publish(stream, func(d DeadLetterRecord) string {
		return stream + ".letters." + strings.ReplaceAll(d.Operator, "/", ".")
	}, append(base, opts...)...)
}
