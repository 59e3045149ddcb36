"""Reads the results of a run with pandas: Dice by the size of the lesion, and the worst slices.

python examples/results_with_pandas.py [WORKDIR]
"""

import sys
from pathlib import Path

import pandas as pd
import train_from_python

COLUMNS = ["id", "patient", "dice", "true_share", "predicted_share"]


def main(workdir: Path) -> None:
    if not (workdir / "results").is_dir():
        train_from_python.main(workdir)
    results = workdir / "results" / "test"
    slices = pd.read_csv(results / "per_image.csv").dropna(subset=["dice"])
    bins = pd.cut(slices["true_share"], [0, 0.01, 0.03, 1], labels=["small", "middle", "large"])
    print(slices.groupby(bins, observed=True)["dice"].agg(["count", "mean", "min", "max"]))
    print(slices.nsmallest(3, "dice")[COLUMNS].to_string(index=False))
    patients = pd.read_csv(results / "per_patient.csv")
    print(patients[["patient", "slices", "dice"]].to_string(index=False))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/small"))
