package anomaly

import "github.com/weirflow/weir/operators"

// StateOf gives p, which has declared nothing, the state handle of another.
func (p *process[K, T]) StateOf(from operators.KeyedProcess[K, T, Scored[K, T]]) {
	p.state = from.(*process[K, T]).state
}
