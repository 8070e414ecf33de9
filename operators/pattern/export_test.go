package pattern

// InBuckets makes FlinkCompat keep its runs as the default mode does.
func InBuckets() Option { return func(o *options) { o.buckets = true } }

// Conditions returns the size of a set's table of conditions.
func (s *Set[T]) Conditions() int { return len(s.table.exprs) }
