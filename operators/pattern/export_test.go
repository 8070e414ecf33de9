package pattern

// InBuckets makes FlinkCompat keep its runs as the default mode does.
func InBuckets() Option { return func(o *options) { o.buckets = true } }

// Conditions returns the size of a set's table of conditions.
func (s *Set[T]) Conditions() int { return len(s.table.exprs) }

// SharedRuns returns how many runs of a key patterns share.
func (s *Set[T]) SharedRuns(k *SetKey[T]) (n int) {
	for _, sb := range k.subs {
		if sb.lane != nil {
			n += len(sb.lane.runs)
		}
	}
	return n
}

// Active returns the figure of a pattern's open runs.
func (s *Set[T]) Active(id string) int { return int(s.member(id).active()) }
