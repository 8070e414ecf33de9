// Package rollout compares the arms of a model operator, and decides by what it finds
// how a new model takes over: step by step, or not at all. It is made of pure functions
// and plain state, told everything by events: a replay decides the same.
//
// # Comparing
//
// What is seen of a model (Seen) is joined by the ID of the prediction: the answer that
// counts with what shadows said about the same record, and with the outcome, which may
// come much later (Joined). That makes facts about an arm under one version of the
// routing (Fact), which are counted over windows of event time (Acc), and put together
// as a Report of all arms.
//
// The Population Stability Index of two histograms with shares p and q in the same bins
// is the sum of (p-q)*ln(p/q) over the bins: the symmetric divergence J(1,2) of Kullback
// and Leibler, "On Information and Sufficiency", Annals of Mathematical Statistics 22
// (1951), in credit scoring under this name since Lewis, "An Introduction to Credit
// Scoring" (1994), with the custom that below 0.1 is little and 0.25 and more is much. So
// that an empty bin has a share too, half a score is added to each bin.
//
// Two samples of n and m scores from the same model have a PSI of about
// (bins-1)*(1/n+1/m), see Yurdakul and Naranjo, "Statistical Properties of the
// Population Stability Index", Journal of Risk Model Validation 14 (2020): what chance
// makes. The plan takes it off before it holds a PSI against a limit.
//
// # Deciding
//
// A Plan has steps, each with a share of the keys for the candidate, and limits. At each
// report, on all that was seen under the routing of a step:
//
//   - If a limit is broken beyond chance, the candidate is rolled back at once.
//   - If there are as many samples as the step wants, for as long as it wants, and all
//     limits are kept, the next step begins; after the last one the candidate has taken
//     over.
//   - If the time for the step is up, the candidate is rolled back.
//   - Otherwise nothing changes.
//
// Beyond chance means: the confidence bound of the figure is beyond the limit. The plan
// looks again and again, which makes chance see something sooner or later, so that look
// k, of each of the five limits in each of n steps, has only Alpha/(5*n) * 6/(pi*k)^2 of
// the plan's Alpha; the sum over all looks, steps and limits is Alpha. A candidate that is
// exactly at a limit is rolled back by such a look with a probability of about Alpha at
// most. (About: bounds are Wilson's for shares, and normal approximations for the rest,
// which are loose where there is little to see.)
//
// A rollout that has ended stays ended: a candidate that was rolled back comes back only
// by a plan with another name. When a routing is in effect that is newer than the
// rollout's own, somebody else has decided; the rollout ends then, too.
//
// An operator accepts no routing that is not newer than the one in effect. Where
// somebody else's came first, and no report had shown it yet, a rollback is refused; it
// is repeated with a higher version when a report shows that. A step is not: until the
// reports tell the two apart by their versions, one of the same version passes for it.
//
// # Not here
//
// More than two arms in one plan, steps that go back by one, outcomes that are corrected
// later (the first one counts), and outcomes of a model whose predictions are not seen.
package rollout
