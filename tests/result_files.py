"""Result files, as tests read them."""

import csv
import json


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def summary(workdir, split="test"):
    return json.loads((workdir / "results" / split / "summary.json").read_text(encoding="utf-8"))
