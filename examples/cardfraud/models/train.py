"""Trains the model of this example with LightGBM 4 on payments of other seeds than those
that it is shown with.

    for seed in 11 12 13 14; do go run ./examples/cardfraud -seed $seed -table fraud$seed.csv; done
    python3 examples/cardfraud/models/train.py fraud*.csv

writes fraud.txt, and expect.json with its checksum and the library's own predictions for
some rows, which the job holds the file against when it loads it.
"""

import csv
import hashlib
import json
import pathlib
import sys

import lightgbm
import numpy

HERE = pathlib.Path(__file__).resolve().parent

table, names = [], None
for name in sys.argv[1:]:
    with open(name, encoding="utf-8") as file:
        rows = list(csv.reader(file))
    names = rows[0][:-1]
    table.extend(rows[1:])
table = numpy.array(table, dtype=float)
features, labels = table[:, :-1], table[:, -1]

model = lightgbm.train(
    {"objective": "binary", "num_leaves": 12, "learning_rate": 0.15, "min_data_in_leaf": 20, "deterministic": True,
     "force_row_wise": True, "num_threads": 1, "seed": 7, "verbose": -1},
    lightgbm.Dataset(features, labels, feature_name=names), num_boost_round=60)
model.save_model(HERE / "fraud.txt")

some = [int(i) for i in numpy.flatnonzero(labels)[::400]] + list(range(0, len(table), 20000))
test = [{"row": list(features[i]), "prediction": [p]} for i, p in zip(some, model.predict(features[some]))]
expect = {"sha256": hashlib.sha256((HERE / "fraud.txt").read_bytes()).hexdigest(), "self_test": test, "tolerance": 1e-12}
with open(HERE / "expect.json", "w", encoding="utf-8") as out:
    json.dump(expect, out, indent=1)
    out.write("\n")
scores = model.predict(features)
for limit in (0.3, 0.5, 0.7, 0.9):
    found = (scores >= limit) & (labels == 1)
    print(limit, "precision", found.sum() / (scores >= limit).sum(), "recall", found.sum() / labels.sum())
