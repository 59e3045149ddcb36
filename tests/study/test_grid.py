"""The grid of a study: its runs, their configurations, and what is refused."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from covjax.configs import study
from covjax.errors import InputError
from covjax.fields import flat_fields
from covjax.settings import read_settings, settings_dict
from covjax.stages.settings import ModelSettings
from covjax.study.grid import planned_runs, study_of, variant_settings


def config(name="losses", **fields):
    found = study.get_config(name).unlock()
    found.study.update(fields)
    return found


def fields(settings):
    return flat_fields(settings_dict(settings))


@pytest.mark.parametrize("name", study.STUDIES)
def test_every_study_can_be_run(name, tmp_path):
    runs = planned_runs(read_settings(study.get_config(name)), tmp_path)
    variants = list(study.STUDIES[name]()[1])
    # two seeds of four folds, all variants of each in turn
    assert [run.variant for run in runs] == variants * 8
    assert len({run.workdir for run in runs}) == len(runs)
    base = fields(read_settings(study.get_config(name)))
    for run in runs:
        # nothing is left open: it is what the run records
        assert run.config == read_settings(settings_dict(run.config))
        differs = {k for k, v in fields(run.config).items() if base.get(k, v) != v}
        given = {f"segmenter.{k}" for k in flat_fields(study.STUDIES[name]()[1][run.variant])}
        assert differs <= given | {"seed", "split.fold"} and run.config.study is None
        assert (run.config.seed, run.config.split.fold) == (run.seed, run.fold)


def test_a_smaller_grid(tmp_path):
    runs = planned_runs(
        read_settings(config(only="dice, cross_entropy", seeds=(3,), folds=(2, 0))), tmp_path
    )
    assert [(run.variant, run.seed, run.fold) for run in runs] == [
        ("cross_entropy", 3, 2), ("dice", 3, 2), ("cross_entropy", 3, 0), ("dice", 3, 0),
    ]  # fmt: skip
    assert runs[1].workdir == tmp_path / "runs" / "dice" / "seed3_fold2"
    alone = config(only="cross_entropy", seeds=(1, 2))
    alone.split.folds = 0
    assert [run.workdir.name for run in planned_runs(read_settings(alone), tmp_path)] == [
        "seed1",
        "seed2",
    ]
    assert str(runs[0]) == "cross_entropy, seed 3, fold 2"


def test_a_model_of_another_name_takes_no_options_over():
    c = config()
    c.study.variants = ConfigDict({"one": {"segmenter": {"model": {"name": "unet", "width": 2}}},
                                   "two": {"segmenter": {"model": {"features": 4}}}})  # fmt: skip
    study = read_settings(c)
    one = variant_settings(study, "one").stages["segmenter"].model
    assert one == ModelSettings("unet", {"width": 2})
    two = variant_settings(study, "two").stages["segmenter"].model
    assert two.name == "cov_raseg"
    assert two.options["features"] == 4 and two.options["final"] == "linear"
    assert study.stages["segmenter"].model.options["features"] == 32


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
        planned_runs(read_settings(config(**change)), Path("nowhere"))
    assert "\n" not in str(caught.value) and not Path("nowhere").exists()


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        (
            {"segmenter": {"loss": {"nam": "dice"}}},
            "variants.odd: segmenter.loss: 'nam' is unknown.*'name'",
        ),
        (
            {"segmenter": {"loss": {"name": "dise"}}},
            "study.variants.odd: segmenter.loss.name: 'dise' is unknown",
        ),
        (
            {"segmenter": {"epochs": "many"}},
            "study.variants.odd: segmenter.epochs: 'many' is of the wrong type",
        ),
        (
            {"segmenter": {"epochs": {"a": 1}}},
            "study.variants.odd: segmenter.epochs: {'a': 1} is of the wrong type",
        ),
    ],
)
def test_variants_refused(variant, words):
    c = config()
    c.study.variants.odd = ConfigDict(variant)
    with pytest.raises(InputError, match=words):
        planned_runs(read_settings(c), Path("nowhere"))


def test_configurations_refused():
    c = config()
    c.seed = 3
    with pytest.raises(InputError, match="seed, split.fold: a study has several"):
        planned_runs(read_settings(c), Path("nowhere"))
    c = config()
    c.study.variants["a/b"] = ConfigDict()
    with pytest.raises(InputError, match="cannot be the name of a folder"):
        planned_runs(read_settings(c), Path("nowhere"))
    c = config()
    del c.segmenter
    with pytest.raises(InputError, match="config: has no stage"):
        planned_runs(read_settings(c), Path("nowhere"))


def test_fields_are_varied_by_one_line(tmp_path):
    line = "segmenter.optimizer.learning_rate:1e-3,3e-4; segmenter.input.size:(64,64),(96, 80)"
    runs = planned_runs(read_settings(config(vary=line, seeds=(0,), folds=(0,))), tmp_path)
    assert [(run.variant, *_varied(run.config)) for run in runs] == [
        ("1e-3_64-64", 1e-3, (64, 64)), ("1e-3_96-80", 1e-3, (96, 80)),
        ("3e-4_64-64", 3e-4, (64, 64)), ("3e-4_96-80", 3e-4, (96, 80)),
    ]  # fmt: skip
    assert study_of(read_settings(config(vary=line))).reference == "1e-3_64-64"
    named = config(vary=line, reference="3e-4_64-64", only="3e-4_64-64,1e-3_64-64")
    assert study_of(read_settings(named)).reference == "3e-4_64-64"
    words = config(vary="segmenter.loss.name:dice,focal", seeds=(0,), folds=(0,))
    words.segmenter.loss.class_weights = "none"
    losses = planned_runs(read_settings(words), tmp_path)
    assert [run.config.stages["segmenter"].loss.name for run in losses] == ["dice", "focal"]


def _varied(settings):
    stage = settings.stages["segmenter"]
    return stage.optimizer.learning_rate, stage.input.size


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("segmenter.epochs", "must be FIELD:VALUE,VALUE"),
        ("segmenter.epochs:1,,2", "must be FIELD:VALUE,VALUE"),
        ("epochs:1,2", "must be FIELD:VALUE,VALUE"),
        ("segmenter.epochs:1,1", "study.vary: 1 is given twice"),
        ("segmenter.epochs:1;segmenter.epochs:2", "named twice"),
        ("segmenter.epoch:1,2", "study.variants.1: segmenter: 'epoch' is unknown"),
        ("segmenter.epochs:1,many", "study.variants.many: segmenter.epochs"),
    ],
)
def test_a_line_that_varies_nothing_sensible_is_refused(tmp_path, line, message):
    with pytest.raises(InputError, match=message):
        planned_runs(read_settings(config(vary=line)), tmp_path)
