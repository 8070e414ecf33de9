package connectors

// BuildChecker is implemented by sources and targets whose configuration can be
// wrong. Whoever builds a job asks for the error and reports it together with the
// other mistakes of the job; opening the source or target fails with the same
// error.
type BuildChecker interface {
	// BuildError returns what is wrong with the configuration, a *base.Error, or nil.
	BuildError() error
}
