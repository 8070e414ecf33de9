// Package tree predicts by models that were trained elsewhere and lie in local
// files: ensembles of decision trees of LightGBM and XGBoost, and linear models.
//
// Load reads a file, Open also holds it against what the program expects: its
// checksum, its features, and predictions for given rows. A Model does not change
// and can be used by any number of goroutines.
//
//	m, err := tree.Open("fraud.txt", tree.Expect{SHA256: "…", Features: names}, tree.Limits{})
//	…
//	m.Predict(scores, row)
//
// # Formats
//
//	LightGBM text    what save_model writes, versions v2, v3 and v4
//	LightGBM JSON    what dump_model returns
//	XGBoost binary   the old format, .model or .bin, also with the mark "binf"
//	XGBoost JSON     what save_model writes to .json
//	XGBoost UBJSON   what save_model writes to .ubj, the default of new versions
//	linear JSON      a form of Weir's own: see Linear
//
// The format is recognised by the first bytes. Boosters: gbdt, dart and rf of
// LightGBM; gbtree, dart and gblinear of XGBoost.
//
// # Predictions
//
// Raw predictions are sums over the trees, in the order of the file, so that those
// of LightGBM come out to the last bit, and those of XGBoost, which adds in single
// precision, as well. Predict turns them into what the objective means: a
// probability for binary and multiclass objectives, exp for those with a
// logarithmic link. Unlike XGBoost's own, multi:softmax gives the probabilities
// instead of the number of the class.
//
// NaN is a missing value. LightGBM takes it as 0 where the training data had none
// missing, as the model says.
//
// # Not here
//
// Linear trees (linear_tree), trees with a vector in each leaf, LightGBM's early
// stopping of predictions, contributions of features, scikit-learn's pickles, and
// categories by name: they are numbers, as the library encoded them.
package tree
