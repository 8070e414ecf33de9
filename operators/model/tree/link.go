package tree

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// link turns raw predictions into those that the objective means.
type link struct {
	kind  linkKind
	scale float64 // of sigmoid
}

type linkKind uint8

const (
	identity linkKind = iota
	sigmoid
	softmax
	exponential
	logOnePlusExp
	signedSquare
	step
)

func (l link) apply(v []float64) {
	if l.kind == softmax {
		normalize(v)
		return
	}
	for i, x := range v {
		switch l.kind {
		case sigmoid:
			v[i] = 1 / (1 + math.Exp(-l.scale*x))
		case exponential:
			v[i] = math.Exp(x)
		case logOnePlusExp:
			v[i] = math.Log1p(math.Exp(x))
		case signedSquare:
			v[i] = math.Copysign(x*x, x)
		case step:
			v[i] = 0
			if x > 0 {
				v[i] = 1
			}
		}
	}
}

func normalize(v []float64) {
	most := math.Inf(-1)
	for _, x := range v {
		most = max(most, x)
	}
	sum := 0.0
	for i, x := range v {
		v[i] = math.Exp(x - most)
		sum += v[i]
	}
	for i := range v {
		v[i] /= sum
	}
}

// lightgbmLink reads an objective such as "binary sigmoid:1".
func lightgbmLink(objective string) (link, error) {
	name, params, _ := strings.Cut(strings.TrimSpace(objective), " ")
	l := link{kind: identity, scale: 1}
	switch name {
	case "binary", "multiclassova":
		l.kind = sigmoid
	case "cross_entropy", "xentropy":
		l.kind = sigmoid
	case "multiclass":
		l.kind = softmax
	case "poisson", "gamma", "tweedie":
		l.kind = exponential
	case "cross_entropy_lambda", "xentlambda":
		l.kind = logOnePlusExp
	case "", "custom", "none", "null", "na", "regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg":
	default:
		return l, fmt.Errorf("objective %q is not known", objective)
	}
	for p := range strings.FieldsSeq(params) {
		switch key, value, _ := strings.Cut(p, ":"); key {
		case "sigmoid":
			v, err := strconv.ParseFloat(value, 64)
			if err != nil || !(v > 0) || math.IsInf(v, 0) {
				return l, fmt.Errorf("objective %q has a sigmoid that is no positive number", objective)
			}
			l.scale = v
		case "sqrt":
			if name == "regression" {
				l.kind = signedSquare
			}
		}
	}
	return l, nil
}

// xgboostLink returns the link of an objective, and what turns a base score in the
// unit of predictions into a raw one.
func xgboostLink(objective string) (l link, margin func(float64) (float64, error), err error) {
	l = link{kind: identity, scale: 1}
	margin = func(p float64) (float64, error) { return p, nil }
	logit := func(p float64) (float64, error) {
		if !(p > 0 && p < 1) {
			return 0, fmt.Errorf("base score %g of %s is not between 0 and 1", p, objective)
		}
		return -math.Log(1/p - 1), nil
	}
	log := func(p float64) (float64, error) {
		if !(p > 0) {
			return 0, fmt.Errorf("base score %g of %s is not positive", p, objective)
		}
		return math.Log(p), nil
	}
	switch objective {
	case "binary:logistic", "reg:logistic":
		return link{sigmoid, 1}, logit, nil
	case "binary:logitraw":
		return l, logit, nil
	case "count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft":
		return link{exponential, 1}, log, nil
	case "multi:softmax", "multi:softprob":
		return link{softmax, 1}, margin, nil
	case "binary:hinge":
		return link{step, 1}, margin, nil
	case "reg:squarederror", "reg:linear", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror",
		"reg:quantileerror", "rank:pairwise", "rank:ndcg", "rank:map", "":
		return l, margin, nil
	}
	return l, nil, fmt.Errorf("objective %q is not known", objective)
}
