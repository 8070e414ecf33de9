package connectors

// Checker is implemented by sources and targets whose configuration can be
// wrong. Whoever builds a job calls Check and reports the error together with
// the other mistakes of the job; Splits, Open, OpenLanes and OpenWriter return
// the same error.
type Checker interface {
	// Check returns what is wrong with the configuration, a *base.Error, or nil.
	Check() error
}
