"""Pooling folds: the same as evaluating their slices in one go."""

import csv
import json
import shutil

import numpy as np
import pytest

from covjax.data.prepared.dataset import Prepared
from covjax.data.splits.splits import count_notes
from covjax.errors import InputError
from covjax.evaluation.outputs import outputs_to_arrays
from covjax.report import build_report, summary_table
from covjax.runs import pool
from covjax.runs.evaluate import evaluate_run
from covjax.runs.pool import pool_runs


def copied(workdir, target, **fields):
    """A copy of a run, not yet evaluated, with other splits."""
    shutil.copytree(
        workdir, target, ignore=shutil.ignore_patterns("results", "report", "tensorboard")
    )
    splits = json.loads((target / "splits.json").read_text()) | fields
    (target / "splits.json").write_text(json.dumps(splits))
    return target


@pytest.fixture(scope="module")
def folds(trained, tmp_path_factory):
    """Two runs with the same weights that test different slices, and one that tests the slices of
    both.
    """
    folder = tmp_path_factory.mktemp("folds")
    workdir = trained[0]
    splits = json.loads((workdir / "splits.json").read_text())
    people = splits["patients"]
    a = copied(workdir, folder / "a", folds=2, fold=0)
    b = copied(
        workdir, folder / "b", folds=2, fold=1, test=splits["val"], val=splits["test"],
        patients=people | {"test": people["val"], "val": people["test"]},
    )  # fmt: skip
    whole = copied(
        workdir, folder / "whole", test=splits["test"] + splits["val"], val=splits["train"][:1],
        train=splits["train"][1:], by="slice",
    )  # fmt: skip
    for run in (a, b, whole):
        evaluate_run(run)
    config = json.loads((b / "config.json").read_text())
    config["data"]["cache"] = False
    config["segmenter"] |= {"remat": True, "checkpoint_every": 7}  # how, not what, is computed
    (b / "config.json").write_text(json.dumps(config))
    return a, b, whole


def summary(workdir):
    return json.loads((workdir / "results" / "test" / "summary.json").read_text())


def same(a, b, path=""):
    """Equal up to the rounding of a batch: networks see the slices in other batches here and
    there.
    """
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), path
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{path}/{k}")
    elif isinstance(a, float):
        assert a == pytest.approx(b, abs=1e-5), path
    else:
        assert a == b, path


def without(section: dict, name: str) -> dict:
    return {key: value for key, value in section.items() if key != name}


def test_equals_one_evaluation_of_all_slices(folds, tmp_path):
    a, b, whole = folds
    pool_runs([a, b], tmp_path / "out")
    got = summary(tmp_path / "out")
    want = summary(whole)
    assert got["options"] == {"pooled_runs": 2, "pooled_folds": [0, 1], "of_folds": 2}
    for stage in ("classifier", "segmenter", "two_stages"):
        # scores of a pool are of several checkpoints
        same(got[stage], without(want[stage], "checkpoint"), stage)
    one, other = (
        read_csv(run / "results" / "test" / "per_image.csv") for run in (tmp_path / "out", whole)
    )
    assert [row["id"] for row in one] == [row["id"] for row in other]
    for x, y in zip(one, other, strict=True):
        for name in x.keys() - {"id", "patient", "notes"}:
            assert (x[name] == "") == (y[name] == "")
            if name == "truth":
                assert x[name] == y[name]
                continue
            assert float(x[name] or 0) == pytest.approx(float(y[name] or 0), abs=1e-4), name
    assert read_csv(tmp_path / "out" / "results" / "test" / "per_patient.csv") == read_csv(
        whole / "results" / "test" / "per_patient.csv"
    )


def test_notes_of_a_slice_are_counted_one_by_one():
    data = Prepared(
        fingerprint="f", source="s", ids=("a", "b"), labels=np.zeros(2, int), patients=("p", "q"),
        splits=("", ""),
        has_mask=np.ones(2, bool), records=None, infected_pixels=np.zeros(2, int),
        counted_pixels=np.ones(2, int),
        truth=("x", "y"), notes={0: ("one", "two"), 1: ("one",)},
    )  # fmt: skip
    places = np.arange(2)
    pooled, _ = pool._joined(
        {"fingerprint": "f", "source": "s"}, [outputs_to_arrays({}, data, places)]
    )
    assert count_notes(pooled, places) == count_notes(data, places) == {"one": 2, "two": 1}


def test_examples_are_the_best_and_worst_of_all(folds, tmp_path):
    pool_runs(folds[:2], tmp_path / "out")
    with (
        np.load(tmp_path / "out" / "results" / "test" / "examples.npz") as got,
        np.load(folds[2] / "results" / "test" / "examples.npz") as want,
    ):
        count = min(ranks_kept(run).count("best") for run in folds)
        assert count > 0
        for rank, places in (("best", slice(0, count)), ("worst", slice(-count, None))):
            np.testing.assert_allclose(
                got["dice"][got["rank"] == rank][places],
                want["dice"][want["rank"] == rank][places],
                atol=1e-6,
            )
        assert (
            len(set(got["id"].tolist()))
            == len(got["id"])
            == len(got["image"])
            == len(got["predicted"])
        )


def ranks_kept(run):
    with np.load(run / "results" / "test" / "examples.npz") as kept:
        return kept["rank"].tolist()


def test_the_report_can_be_built(folds, tmp_path):
    pool_runs(folds[:2], tmp_path / "out")
    assert "classifier" in summary_table(tmp_path / "out")
    assert "pooled_folds" in build_report(tmp_path / "out").read_text(encoding="utf-8")


def test_pooling_again_what_was_pooled_is_refused_and_so_is_what_does_not_fit(folds, tmp_path):
    a, b, whole = folds
    out = tmp_path / "out"

    def refused(match, *runs, output=out):
        with pytest.raises(InputError, match=match) as caught:
            pool_runs(runs, output)
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.glob("out*"))

    refused("two runs or more", a)
    refused(f"{whole}: .* slices, first .* are in the test split of {a} too", a, whole)
    other = copied(a, tmp_path / "other", fingerprint="f" * 16)
    shutil.copytree(b / "results", other / "results")
    refused("other: trained on other data", a, other)
    config = json.loads((b / "config.json").read_text())
    config["segmenter"]["epochs"] = 77
    other = copied(b, tmp_path / "epochs")
    refused("results/test/summary.json: missing, run eval.py", a, other)
    shutil.copytree(b / "results", other / "results")
    (other / "config.json").write_text(json.dumps(config))
    refused("epochs: segmenter.epochs is 77, in .* it is 2", a, other)
    changed = summary(b)
    for field, value, match in (
        ("options", {"min_size": 3}, "epochs: evaluated with other options"),
        ("definitions", -1, "epochs: evaluated by another covjax"),
    ):
        shutil.copy(b / "config.json", other / "config.json")
        (other / "results" / "test" / "summary.json").write_text(
            json.dumps(changed | {field: value})
        )
        refused(match, a, other)
    (other / "results" / "test" / "summary.json").write_text(json.dumps(changed))
    (other / "results" / "test" / "rows.npz").write_bytes(b"PK not really")
    refused("rows.npz: damaged", a, other)
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").write_text("")
    refused("full exists and is not an empty folder", a, b, output=full)


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))
