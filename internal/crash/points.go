package crash

// Point names one instant of the protocol at which a process may die, stall or
// see an error.
type Point uint8

// The crash points, in protocol order.
const (
	LeaseBeforeCreate Point = iota
	LeaseAfterCreate
	LeaseBeforeRenew
	LeaseAfterRenew
	GenBeforePut
	GenAfterPut
	CkptBeforeTrigger
	CkptAfterTriggerOne
	SrcBeforeOffset
	SrcAfterOffset
	SrcAfterBarrier
	AlignFirstBarrier
	AlignMid
	AlignLast
	SnapBeforeSwap
	SnapAfterSwap
	SnapMidCopy
	SnapBeforeDelta
	SnapAfterDelta
	SnapBeforeWriteback
	SnapAfterWriteback
	SnapBeforeBase
	SnapAfterBase
	SnapBeforePut
	SnapMidPut
	SnapAfterPut
	SinkBeforeSeal
	SinkAfterSeal
	SinkAfterBlockUpload
	AckBeforeSend
	AckAfterSend
	CoordAfterFirstAck
	CoordAfterLastAck
	CoordBeforeManifest
	CoordAfterManifest
	CoordBeforeClaim
	CoordAfterClaimUnacked
	CoordAfterClaim
	CoordAfterCompleteOne
	CommitBeforeBatch
	CommitMidBatch
	CommitBeforeMarker
	CommitAfterMarkerUnacked
	CommitAfterAck
	CommitBetweenChunks
	CommitBetweenLanes
	DoneBefore
	DoneAfter
	GCBeforeDelete
	GCMid
	RecAfterGen
	RecAfterFind
	RecAfterMarkers
	RecMidReplay
	RecMidDeploy
	RecMidRestore
	RecAfterSeek
	RescaleAfterEpoch
	RescaleAfterPlan
	RescaleMidDeploy
	SavepointMidCopy
	SavepointBeforePublish
	SavepointAfterPublish

	numPoints // the length of the list, not a point
)

// Info describes one crash point.
type Info struct {
	// Point is the constant that the code passes to At or AtErr.
	Point Point
	// Name is "group.instant", as used in WEIR_CRASH and in reports.
	Name string
	// Wired reports whether code reaches the point. Those of lease and rescale
	// belong to the cluster and those of savepoint to savepoints, which do not
	// exist yet.
	Wired bool
}

// table is the one list of names; its index is the constant.
var table = [numPoints]Info{
	LeaseBeforeCreate:        {Name: "lease.before_create"},
	LeaseAfterCreate:         {Name: "lease.after_create"},
	LeaseBeforeRenew:         {Name: "lease.before_renew"},
	LeaseAfterRenew:          {Name: "lease.after_renew"},
	GenBeforePut:             {Name: "gen.before_put", Wired: true},
	GenAfterPut:              {Name: "gen.after_put", Wired: true},
	CkptBeforeTrigger:        {Name: "ckpt.before_trigger", Wired: true},
	CkptAfterTriggerOne:      {Name: "ckpt.after_trigger_one", Wired: true},
	SrcBeforeOffset:          {Name: "src.before_offset", Wired: true},
	SrcAfterOffset:           {Name: "src.after_offset", Wired: true},
	SrcAfterBarrier:          {Name: "src.after_barrier", Wired: true},
	AlignFirstBarrier:        {Name: "align.first_barrier", Wired: true},
	AlignMid:                 {Name: "align.mid", Wired: true},
	AlignLast:                {Name: "align.last", Wired: true},
	SnapBeforeSwap:           {Name: "snap.before_swap", Wired: true},
	SnapAfterSwap:            {Name: "snap.after_swap", Wired: true},
	SnapMidCopy:              {Name: "snap.mid_copy", Wired: true},
	SnapBeforeDelta:          {Name: "snap.before_delta", Wired: true},
	SnapAfterDelta:           {Name: "snap.after_delta", Wired: true},
	SnapBeforeWriteback:      {Name: "snap.before_writeback", Wired: true},
	SnapAfterWriteback:       {Name: "snap.after_writeback", Wired: true},
	SnapBeforeBase:           {Name: "snap.before_base", Wired: true},
	SnapAfterBase:            {Name: "snap.after_base", Wired: true},
	SnapBeforePut:            {Name: "snap.before_put", Wired: true},
	SnapMidPut:               {Name: "snap.mid_put", Wired: true},
	SnapAfterPut:             {Name: "snap.after_put", Wired: true},
	SinkBeforeSeal:           {Name: "sink.before_seal", Wired: true},
	SinkAfterSeal:            {Name: "sink.after_seal", Wired: true},
	SinkAfterBlockUpload:     {Name: "sink.after_block_upload", Wired: true},
	AckBeforeSend:            {Name: "ack.before_send", Wired: true},
	AckAfterSend:             {Name: "ack.after_send", Wired: true},
	CoordAfterFirstAck:       {Name: "coord.after_first_ack", Wired: true},
	CoordAfterLastAck:        {Name: "coord.after_last_ack", Wired: true},
	CoordBeforeManifest:      {Name: "coord.before_manifest", Wired: true},
	CoordAfterManifest:       {Name: "coord.after_manifest", Wired: true},
	CoordBeforeClaim:         {Name: "coord.before_claim", Wired: true},
	CoordAfterClaimUnacked:   {Name: "coord.after_claim_unacked", Wired: true},
	CoordAfterClaim:          {Name: "coord.after_claim", Wired: true},
	CoordAfterCompleteOne:    {Name: "coord.after_complete_one", Wired: true},
	CommitBeforeBatch:        {Name: "commit.before_batch", Wired: true},
	CommitMidBatch:           {Name: "commit.mid_batch", Wired: true},
	CommitBeforeMarker:       {Name: "commit.before_marker", Wired: true},
	CommitAfterMarkerUnacked: {Name: "commit.after_marker_unacked", Wired: true},
	CommitAfterAck:           {Name: "commit.after_ack", Wired: true},
	CommitBetweenChunks:      {Name: "commit.between_chunks", Wired: true},
	CommitBetweenLanes:       {Name: "commit.between_lanes", Wired: true},
	DoneBefore:               {Name: "done.before", Wired: true},
	DoneAfter:                {Name: "done.after", Wired: true},
	GCBeforeDelete:           {Name: "gc.before_delete", Wired: true},
	GCMid:                    {Name: "gc.mid", Wired: true},
	RecAfterGen:              {Name: "rec.after_gen", Wired: true},
	RecAfterFind:             {Name: "rec.after_find", Wired: true},
	RecAfterMarkers:          {Name: "rec.after_markers", Wired: true},
	RecMidReplay:             {Name: "rec.mid_replay", Wired: true},
	RecMidDeploy:             {Name: "rec.mid_deploy", Wired: true},
	RecMidRestore:            {Name: "rec.mid_restore", Wired: true},
	RecAfterSeek:             {Name: "rec.after_seek", Wired: true},
	RescaleAfterEpoch:        {Name: "rescale.after_epoch"},
	RescaleAfterPlan:         {Name: "rescale.after_plan"},
	RescaleMidDeploy:         {Name: "rescale.mid_deploy"},
	SavepointMidCopy:         {Name: "savepoint.mid_copy"},
	SavepointBeforePublish:   {Name: "savepoint.before_publish"},
	SavepointAfterPublish:    {Name: "savepoint.after_publish"},
}

// Points returns every crash point in protocol order.
func Points() []Info {
	list := make([]Info, numPoints)
	for i := range list {
		list[i] = table[i]
		list[i].Point = Point(i)
	}
	return list
}

// Parse returns the point of that name.
func Parse(name string) (Point, bool) {
	for i := range table {
		if table[i].Name == name {
			return Point(i), true
		}
	}
	return 0, false
}

// String returns the point's name.
func (p Point) String() string {
	if p >= numPoints {
		return "unknown"
	}
	return table[p].Name
}
