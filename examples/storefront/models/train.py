"""Trains the two models of this example with LightGBM 4 on the moments of a play.

    go run ./internal/storefront/training -seed 1 > moments.csv
    python3 examples/storefront/models/train.py moments.csv

writes steady.txt and canary.txt, which the job loads, and beside the proof the same
trees as LightGBM's own JSON dump, which the proof reads with code of its own.
"""

import csv
import json
import pathlib
import sys

import lightgbm
import numpy

HERE = pathlib.Path(__file__).resolve().parent
PROOF = HERE.parents[2] / "internal" / "storefront" / "proof" / "models"

with open(sys.argv[1], encoding="utf-8") as file:
    rows = list(csv.reader(file))
names, table = rows[0][:-1], numpy.array(rows[1:], dtype=float)
features, labels = table[:, :-1], table[:, -1]
train, test = slice(0, len(table) * 4 // 5), slice(len(table) * 4 // 5, None)

for name, rounds, leaves in (("steady", 10, 6), ("canary", 20, 12)):
    model = lightgbm.train(
        {"objective": "binary", "num_leaves": leaves, "learning_rate": 0.2, "min_data_in_leaf": 200,
         "deterministic": True, "force_row_wise": True, "num_threads": 1, "seed": 7, "verbose": -1},
        lightgbm.Dataset(features[train], labels[train], feature_name=names), num_boost_round=rounds)
    model.save_model(HERE / f"{name}.txt")
    dump = model.dump_model()
    trees = [tree["tree_structure"] for tree in dump["tree_info"]]

    def strip(node):
        if "leaf_value" in node:
            return {"leaf": node["leaf_value"]}
        if node["decision_type"] != "<=" or node["missing_type"] != "None":
            sys.exit(f"the proof does not know such a split: {node['decision_type']}, {node['missing_type']}")
        return {"feature": node["split_feature"], "most": node["threshold"],
                "left": strip(node["left_child"]), "right": strip(node["right_child"])}

    with open(PROOF / f"{name}.json", "w", encoding="utf-8") as out:
        json.dump([strip(tree) for tree in trees], out, separators=(",", ":"))
        out.write("\n")
    scores = model.predict(features[test])
    order = numpy.argsort(scores)
    rank = numpy.empty(len(scores))
    rank[order] = numpy.arange(1, len(scores) + 1)
    ones = labels[test] == 1
    auc = (rank[ones].sum() - ones.sum() * (ones.sum() + 1) / 2) / (ones.sum() * (~ones).sum())
    print(f"{name}: {rounds} trees, area under the curve of the last fifth {auc:.3f}")
