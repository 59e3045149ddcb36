"""Studies run: resumed, grown, refused, with runs that fail; and compared, against brute force over
made-up runs.
"""

import itertools
import json

import numpy as np
import pytest
from scipy import stats

from covjax.configs import study
from covjax.errors import InputError, Interrupted, RunError
from covjax.metrics import DEFINITIONS
from covjax.report import build_study_page, study_table
from covjax.settings import read_settings, write_settings
from covjax.study import run as running
from covjax.study import run_study

SLICES = 24
PATIENTS = 6


def config(folder, **fields):
    found = study.get_config("losses").unlock()
    found.data.prepared_dir = str(folder / "prepared")
    found.data.phantom.update(patients=PATIENTS, slices_per_patient=4, size=48)
    found.split.folds = 2
    found.segmenter.update(epochs=1, batch_size=2)
    found.segmenter.input.size = (24, 24)
    found.segmenter.model.features = 2
    found.study.update({"only": "cross_entropy,dice", "seeds": (0, 1)} | fields)
    return found


def confusions(variant, seed, indices):
    """What a made-up network counts, 100 pixels a slice; that of seed 1 finds nothing in the slices
    0, 8, 16.
    """
    rng = np.random.default_rng([len(variant), seed])
    counts = rng.multinomial(100, [0.6, 0.1, 0.1, 0.2], SLICES).reshape(-1, 2, 2)
    counts[::8, 1] = [0, 0]
    return counts[indices]


class Made:
    """Takes the place of training: notes what is run and writes what evaluation would have left."""

    def __init__(self):
        self.runs = []
        self.trouble = {}

    def __call__(self, config, workdir):
        variant = workdir.parent.name
        label = f"{workdir.parent.name}/{workdir.name}"
        self.runs.append(label)
        workdir.mkdir(parents=True, exist_ok=True)
        write_settings(workdir / "config.json", config)
        if label in self.trouble:
            raise self.trouble[label]
        indices = np.arange(config.split.fold, SLICES, 2)
        folder = workdir / "results" / "test"
        folder.mkdir(parents=True)
        (folder.parent / "timing.json").write_text(
            json.dumps(
                {
                    "segmenter": {
                        "epochs": 1,
                        "parameters": 77,
                        "best_epoch": 1,
                        "train_seconds": 30.0,
                    }
                }
            )
        )
        np.savez(folder / "rows.npz", **{
            "id": np.array([f"s{i}" for i in indices]),
            "patient": np.array([f"p{i // 4}" for i in indices]),
            "label": np.ones(len(indices), int), "segmenter/position": np.arange(len(indices)),
            "segmenter/confusion": confusions(variant, config.seed, indices),
        })  # fmt: skip
        summary = {
            "definitions": DEFINITIONS,
            "split": "test",
            "options": {},
            "segmenter": {"scores": {}},
        }
        (folder / "summary.json").write_text(json.dumps(summary))


@pytest.fixture
def made(monkeypatch):
    training = Made()
    monkeypatch.setattr(running, "train_run", training)
    monkeypatch.setattr(running, "_measured", lambda runs: {name: 1.5 for name in runs})
    return training


def told(workdir):
    found = json.loads((workdir / "study.json").read_text())
    return found, {one["name"]: one for one in found["variants"]}


def dice(counts):
    return 2 * counts[1, 1] / (2 * counts[1, 1] + counts[0, 1] + counts[1, 0])


def test_scores_and_differences_against_brute_force(tmp_path, made):
    run_study(read_settings(config(tmp_path)), tmp_path / "study")
    assert len(made.runs) == 8
    found, variants = told(tmp_path / "study")
    assert found["settings"]["slices"] == SLICES and found["settings"]["patients"] == PATIENTS
    every = {
        v: [confusions(v, seed, np.arange(SLICES)) for seed in (0, 1)]
        for v in ("cross_entropy", "dice")
    }
    each = {v: np.mean([[dice(c) for c in counts] for counts in every[v]], 0) for v in every}
    pooled = {v: np.mean([dice(counts.sum(0)) for counts in every[v]]) for v in every}
    for name, one in variants.items():
        assert (one["planned"], len(one["runs"]), one["ms_per_slice"]) == (4, 4, 1.5)
        assert one["scores"]["dice_infected_per_image"]["value"] == pytest.approx(each[name].mean())
        assert one["scores"]["dice_infected"]["value"] == pytest.approx(pooled[name])
        for score in one["scores"].values():
            assert (
                score["n"] == SLICES
                and score["interval"][0] < score["value"] < score["interval"][1]
            )
            assert score["interval_method"] == f"t over {PATIENTS} patients, jackknife, logit scale"
        for k, run in enumerate(one["runs"]):
            counts = every[name][k // 2][k % 2 :: 2]
            assert (run["seed"], run["fold"], run["parameters"]) == (k // 2, k % 2, 77)
            assert run["dice_infected_per_image"] == pytest.approx(
                np.mean([dice(c) for c in counts])
            )
            assert run["dice_infected"] == pytest.approx(dice(counts.sum(0)))
    assert "differences" not in variants["cross_entropy"]
    differences = variants["dice"]["differences"]
    assert differences["dice_infected"]["value"] == pytest.approx(
        pooled["dice"] - pooled["cross_entropy"]
    )
    main = differences["dice_infected_per_image"]
    apart = each["dice"] - each["cross_entropy"]
    assert main["value"] == pytest.approx(apart.mean()) and main["p_holm"] >= main["p_value"]
    of_seed = [
        [np.mean([dice(c) for c in every[v][k]]) for k in (0, 1)] for v in ("dice", "cross_entropy")
    ]
    assert main["by_seed"] == pytest.approx(np.subtract(*of_seed))
    of_seed = [[dice(every[v][k].sum(0)) for k in (0, 1)] for v in ("dice", "cross_entropy")]
    assert differences["dice_infected"]["by_seed"] == pytest.approx(np.subtract(*of_seed))
    # The same p, exchanging the variants patient by patient, and the interval of equal patients'
    # differences.
    patient = apart.reshape(PATIENTS, 4).mean(1)
    signs = np.array(list(itertools.product([1, -1], repeat=PATIENTS)))
    assert main["p_value"] == pytest.approx(
        np.mean(np.abs(signs @ patient) >= abs(patient.sum()) - 1e-12)
    )
    want = stats.t.interval(0.95, PATIENTS - 1, patient.mean(), stats.sem(patient))
    np.testing.assert_allclose(main["interval"], want)
    assert main["trainings"] == 2


def test_interrupted_and_resumed_and_grown(tmp_path, made, capsys):
    workdir = tmp_path / "study"
    made.trouble = {"cross_entropy/seed0_fold1": Interrupted(2, "stopped")}
    with pytest.raises(Interrupted):
        run_study(read_settings(config(tmp_path)), workdir)
    assert made.runs == [
        "cross_entropy/seed0_fold0",
        "dice/seed0_fold0",
        "cross_entropy/seed0_fold1",
    ]
    assert not (workdir / "study.json").exists()
    made.trouble = {}
    made.runs = []
    run_study(read_settings(config(tmp_path, seeds=(0,))), workdir)
    assert made.runs == ["cross_entropy/seed0_fold1", "dice/seed0_fold1"]
    said = capsys.readouterr().out
    assert (
        "4 runs, 2 of them finished" in said
        and "run 4 of 4: dice, seed 0, fold 1 (about 1 min left)" in said
    )
    found = told(workdir)
    made.runs = []
    run_study(read_settings(config(tmp_path, seeds=(0,))), workdir)
    assert made.runs == [] and told(workdir) == found
    run_study(read_settings(config(tmp_path, only="cross_entropy,focal", seeds=(0,))), workdir)
    assert made.runs == ["focal/seed0_fold0", "focal/seed0_fold1"]
    assert (
        json.loads((workdir / "config.json").read_text())["study"]["only"] == "cross_entropy,focal"
    )


def test_another_configuration_is_refused_before_anything_is_run(tmp_path, made):
    workdir = tmp_path / "study"
    run_study(read_settings(config(tmp_path, seeds=(0,))), workdir)
    before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    made.runs = []
    other = config(tmp_path, only="cross_entropy,focal", seeds=(5,))
    other.segmenter.epochs = 2
    with pytest.raises(InputError, match=r"study/config.json.*segmenter.epochs: 1 there, 2 now"):
        run_study(read_settings(other), workdir)
    other = config(tmp_path, seeds=(0,))
    other.study.variants.dice.segmenter.loss.name = "tversky"
    with pytest.raises(
        InputError, match=r'dice/seed0_fold0/config.json.*loss.name: "dice" there, "tversky" now'
    ):
        run_study(read_settings(other), workdir)
    assert (
        made.runs == [] and {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()} == before
    )
    shares = config(tmp_path)
    shares.split.folds = 9
    with pytest.raises(InputError, match="split.folds: 9 cannot be made of 6 patients"):
        run_study(read_settings(shares), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_run_that_fails_is_told_and_left_out(tmp_path, made, capsys):
    made.trouble = {"dice/seed1_fold0": RunError("the loss is not finite")}
    run_study(read_settings(config(tmp_path)), tmp_path / "study")
    assert "failed: dice, seed 1, fold 0: the loss is not finite" in capsys.readouterr().err
    found, variants = told(tmp_path / "study")
    assert found["failed"] == {"dice, seed 1, fold 0": "the loss is not finite"}
    assert (variants["dice"]["planned"], len(variants["dice"]["runs"])) == (4, 3)
    # The difference is over what both were tested on: of the slices of fold 0, seed 0 only.
    every = {
        v: [[dice(c) for c in confusions(v, s, np.arange(SLICES))] for s in (0, 1)]
        for v in variants
    }
    apart = np.array(every["dice"]) - np.array(every["cross_entropy"])
    want = np.where(np.arange(SLICES) % 2, apart.mean(0), apart[0]).mean()
    assert variants["dice"]["differences"]["dice_infected_per_image"]["value"] == pytest.approx(
        want
    )
    assert "3 of 4" in study_table(tmp_path / "study")
    assert "the loss is not finite" in build_study_page(tmp_path / "study").read_text()
    # Nor is all lost where a variant never ends.
    made.trouble = {f"dice/seed0_fold{k}": RunError("diverged") for k in (0, 1)}
    run_study(read_settings(config(tmp_path, seeds=(0,))), tmp_path / "other")
    one = told(tmp_path / "other")[1]["dice"]
    assert one["scores"]["dice_infected"] == {"value": None, "n": 0, "reason": "no run is finished"}
    assert "undefined (no run is finished)" in study_table(tmp_path / "other")
    build_study_page(tmp_path / "other")


def test_a_run_evaluated_with_options_is_evaluated_again(tmp_path, made):
    run_study(read_settings(config(tmp_path, seeds=(0,))), tmp_path / "study")
    path = (
        tmp_path / "study" / "runs" / "dice" / "seed0_fold1" / "results" / "test" / "summary.json"
    )
    run = next(
        r
        for r in running.planned_runs(read_settings(config(tmp_path)), tmp_path / "study")
        if r.workdir == path.parents[2]
    )
    assert running.is_finished(run)
    for change in ({"options": {"tta": ["flips"]}}, {"definitions": DEFINITIONS - 1}):
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        assert not running.is_finished(run)


def test_a_real_one(tmp_path):
    c = config(tmp_path, seeds=(0,), folds=(0,))
    run_study(read_settings(c), tmp_path / "study")
    _, variants = told(tmp_path / "study")
    for one in variants.values():
        run = tmp_path / "study" / one["runs"][0]["workdir"]
        summary = json.loads((run / "results" / "test" / "summary.json").read_text())["segmenter"][
            "scores"
        ]
        for what, score in one["scores"].items():
            assert score["value"] == pytest.approx(summary[what]["value"])
        assert one["ms_per_slice"] > 0 and one["runs"][0]["parameters"] == 506
    text = build_study_page(tmp_path / "study").read_text()
    assert "Synthetic data" in text and "data:image/png" in text
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "study" / "runs").rglob("*")}
    run_study(read_settings(c), tmp_path / "study")
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "study" / "runs").rglob("*")}
