"""The grid of a study: its runs, their configurations, and what is refused."""

import json
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs import study
from covjax.errors import InputError
from covjax.settings.config import flat_fields, settled
from covjax.study.grid import planned_runs, variant_config


def config(name="losses", **fields):
    found = study.get_config(name).unlock()
    found.study.update(fields)
    return found


def fields(value):
    return flat_fields(json.loads(value.to_json_best_effort()))


@pytest.mark.parametrize("name", study.STUDIES)
def test_every_study_can_be_run(name, tmp_path):
    runs = planned_runs(study.get_config(name), tmp_path)
    variants = list(study.STUDIES[name]()[1])
    # two seeds of four folds, all variants of each in turn
    assert [run.variant for run in runs] == variants * 8
    assert len({run.workdir for run in runs}) == len(runs)
    base = fields(settled(study.get_config(name)))
    for run in runs:
        # nothing is left open: it is what the run records
        assert fields(run.config) == fields(settled(run.config))
        differs = {k for k, v in fields(run.config).items() if base.get(k, v) != v}
        given = {f"segmenter.{k}" for k in flat_fields(study.STUDIES[name]()[1][run.variant])}
        assert differs <= given | {"seed", "split.fold"} and "study" not in run.config
        assert (run.config.seed, run.config.split.fold) == (run.seed, run.fold)


def test_a_smaller_grid(tmp_path):
    runs = planned_runs(config(only="dice, cross_entropy", seeds=(3,), folds=(2, 0)), tmp_path)
    assert [(run.variant, run.seed, run.fold) for run in runs] == [
        ("cross_entropy", 3, 2), ("dice", 3, 2), ("cross_entropy", 3, 0), ("dice", 3, 0),
    ]  # fmt: skip
    assert runs[1].workdir == tmp_path / "runs" / "dice" / "seed3_fold2"
    alone = config(only="cross_entropy", seeds=(1, 2))
    alone.split.folds = 0
    assert [run.workdir.name for run in planned_runs(alone, tmp_path)] == ["seed1", "seed2"]
    assert str(runs[0]) == "cross_entropy, seed 3, fold 2"


def test_a_model_of_another_name_takes_no_options_over():
    c = config()
    c.study.variants = ConfigDict({"one": {"segmenter": {"model": {"name": "other", "depth": 2}}},
                                   "two": {"segmenter": {"model": {"features": 4}}}})  # fmt: skip
    assert variant_config(c, "one").segmenter.model.to_dict() == {"name": "other", "depth": 2}
    two = variant_config(c, "two").segmenter.model
    assert two.features == 4 and two.name == "cov_raseg" and two.final == "linear"
    assert c.segmenter.model.features == 32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"only": "dise"}, "study.only: 'dise' is unknown.*did you mean 'dice'"),
        ({"only": "dice"}, "study.only: lacks the reference 'cross_entropy'"),
        ({"reference": "cross"}, "study.reference: 'cross' is unknown"),
        ({"seeds": ()}, "study.seeds: empty"),
        ({"seeds": (1, 1)}, "study.seeds: .* different whole numbers"),
        ({"folds": (-1,)}, "study.folds: .* 0 or more"),
        (
            {"folds": (4,)},
            "study.folds: 4 is not one of the folds 0 to split.folds - 1, split.folds is 4",
        ),
    ],
)
def test_grids_refused(change, words):
    with pytest.raises(InputError, match=words) as caught:
        planned_runs(config(**change), Path("nowhere"))
    assert "\n" not in str(caught.value) and not Path("nowhere").exists()


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        (
            {"segmenter": {"loss": {"nam": "dice"}}},
            "variants.odd.segmenter.loss: 'nam' is unknown.*'name'",
        ),
        (
            {"segmenter": {"loss": {"name": "dise"}}},
            "study.variants.odd: segmenter.loss.name: 'dise' is unknown",
        ),
        (
            {"segmenter": {"epochs": "many"}},
            "study.variants.odd.segmenter.epochs: many does not fit",
        ),
        (
            {"segmenter": {"epochs": {"a": 1}}},
            "study.variants.odd.segmenter.epochs: 'a' is unknown",
        ),
    ],
)
def test_variants_refused(variant, words):
    c = config()
    c.study.variants.odd = ConfigDict(variant)
    with pytest.raises(InputError, match=words):
        planned_runs(c, Path("nowhere"))


def test_configurations_refused():
    c = config()
    c.seed = 3
    with pytest.raises(InputError, match="seed, split.fold: a study has several"):
        planned_runs(c, Path("nowhere"))
    c = config()
    c.study.variants["a/b"] = ConfigDict()
    with pytest.raises(InputError, match="cannot be the name of a folder"):
        planned_runs(c, Path("nowhere"))
    c = config()
    del c.segmenter
    with pytest.raises(InputError, match="compares segmenters"):
        planned_runs(c, Path("nowhere"))
