package torture

// unreached lists wired crash points that the job of this package does not come
// to, each with the reason.
var unreached = map[string]string{}
