package pattern

// InBuckets makes FlinkCompat keep its runs as the default mode does.
func InBuckets() Option { return func(o *options) { o.buckets = true } }
