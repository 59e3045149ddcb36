"""What an evaluation does on request, on a trained run: augmentation, cleaning, masks as files,
heat maps.
"""

import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from covjax.data.prepared.dataset import prepare
from covjax.data.splits.splits import read_splits
from covjax.errors import InputError, RunError
from covjax.evaluation import runner
from covjax.evaluation.delivered import confusion_of
from covjax.evaluation.options import make_options
from covjax.evaluation.postprocess import remove_small
from covjax.runs import evaluate
from covjax.runs.evaluate import evaluate_run
from covjax.screening.screen import screen
from covjax.screening.screener import Screener
from tests.result_files import summary


@pytest.fixture(scope="module")
def workdir(trained, tmp_path_factory):
    """A copy of the shared run, which these tests evaluate in all ways; the original stays
    evaluated plainly.
    """
    return shutil.copytree(trained[0], tmp_path_factory.mktemp("evaluate") / "run")


@pytest.fixture(scope="module")
def results(workdir):
    return workdir / "results" / "test"


def test_options_change_the_scores_and_are_recorded(trained, workdir):
    plain = summary(trained[0])
    assert plain["options"] == {}
    evaluate_run(workdir, options=make_options(["flips", "scales"], 5))
    found = summary(workdir)
    assert found["options"] == {"tta": ["flips", "scales"], "min_size": 5}
    assert (
        found["classifier"]["scores"]["roc_auc"]["n"]
        == plain["classifier"]["scores"]["roc_auc"]["n"]
    )
    assert found["segmenter"]["confusion"] != plain["segmenter"]["confusion"]
    assert np.sum(found["segmenter"]["confusion"]) == np.sum(plain["segmenter"]["confusion"])


@pytest.mark.parametrize("form", ["png", "npz"])
def test_predictions_are_the_masks_that_were_counted(trained, workdir, results, form):
    config = trained[1]
    evaluate_run(workdir, batch_size=3, options=make_options(min_size=4), save_predictions=form)
    with np.load(results / "rows.npz") as rows:
        ids = rows["id"][rows["segmenter/position"]].tolist()
        counted = rows["segmenter/confusion"][:, :, 1].sum(1)
        called = rows["id"][rows["classifier/probability"] >= 0.5].tolist()
    files = {p.relative_to(results / "predictions").with_suffix("").as_posix(): p
             for p in (results / "predictions").rglob("*") if p.is_file()}  # fmt: skip
    assert files.keys() == {*ids, *called} and ids
    for name, count in zip(ids, counted, strict=True):
        if form == "png":
            mask = np.asarray(Image.open(files[name])) // 255
        else:
            with np.load(files[name]) as content:
                mask = content["mask"]
                probability = content["probability"]
            assert probability.dtype == np.float32 and not mask[probability < 0.5].any()
            np.testing.assert_array_equal(
                mask, remove_small((probability > 0.5).astype(np.uint8)[None], 4)[0]
            )
        assert mask.shape == (config.data.phantom.size,) * 2 and mask.sum() == count
    evaluate_run(workdir)
    assert not (results / "predictions").exists()  # they belonged to the evaluation before


def test_screening_delivers_the_very_masks_that_are_scored(trained, workdir, results):
    config = trained[1]
    options = make_options(["flips"], 3)
    evaluate_run(workdir, options=options, save_predictions="png")
    data = prepare(config.data)
    screener = Screener.from_workdir(workdir, options=options)
    with np.load(results / "rows.npz") as rows:
        called = rows["id"][rows["classifier/called"]].tolist()
        counted = dict(zip(rows["id"].tolist(), rows["two_stages/confusion"], strict=True))
    index = {name: i for i, name in enumerate(data.ids)}
    for name, found in zip(
        counted, screener.screen([data.decode(index[name])[0] for name in counted]), strict=True
    ):
        want = np.zeros_like(found.mask)
        if name in called:
            want = np.asarray(Image.open(results / "predictions" / f"{name}.png")) // 255
        np.testing.assert_array_equal(found.mask, want)
        np.testing.assert_array_equal(
            confusion_of(data.decode(index[name])[1], found.mask, 2), counted[name]
        )


def test_failed_evaluation_leaves_the_former_predictions(workdir, results, monkeypatch):
    evaluate_run(workdir, save_predictions="png")
    before = {p: p.read_bytes() for p in results.rglob("*") if p.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "evaluate_two_stages", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate_run(workdir, save_predictions="npz", options=make_options(min_size=50))
    assert {p: p.read_bytes() for p in results.rglob("*") if p.is_file()} == before


def test_heat_maps_and_features(workdir, results):
    evaluate_run(workdir, explain=True)
    test_ids = read_splits(workdir / "splits.json")["test"]
    with np.load(results / "rows.npz") as rows, np.load(results / "explain.npz") as found:
        probability = dict(
            zip(rows["id"].tolist(), rows["classifier/probability"].tolist(), strict=True)
        )
        label = dict(zip(rows["id"].tolist(), rows["label"].tolist(), strict=True))
        ids = found["id"].tolist()
        assert len(set(ids)) == len(ids) > 0
        assert found["image"].dtype == np.uint8 and found["image"].shape == found["heat"].shape == (
            len(ids),
            48,
            48,
        )
        assert (
            found["heat"].dtype == np.float32
            and found["heat"].min() >= 0
            and found["heat"].max() <= 1
        )
        assert found["probability"].tolist() == [probability[i] for i in ids]
        assert found["label"].tolist() == [label[i] for i in ids]
    with np.load(results / "features.npz") as found:
        assert (
            found["features"].shape == (len(test_ids), 64) and found["features"].dtype == np.float32
        )
        assert found["id"].tolist() == test_ids and found["label"].tolist() == [
            label[i] for i in test_ids
        ]


def test_features_are_thinned_evenly_where_there_are_too_many(
    trained, workdir, results, monkeypatch
):
    with np.load(trained[0] / "results" / "test" / "features.npz") as found:
        whole = found["features"], found["id"]
    monkeypatch.setattr(runner, "MAX_FEATURES", 64 * (len(whole[1]) // 3 + 1))
    evaluate_run(workdir, batch_size=2)
    with np.load(results / "features.npz") as found:
        np.testing.assert_allclose(found["features"], whole[0][::3], rtol=1e-3, atol=1e-3)
        assert found["id"].tolist() == whole[1][::3].tolist()


def test_screening_takes_the_same_options(trained, tmp_path):
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (32, 40), np.uint8) for _ in range(5)]
    for k, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "in" / f"{k}.png")
    options = make_options(["flips"], 3)
    screen(trained[0], tmp_path / "in", tmp_path / "out", batch_size=4, options=options)
    assert json.loads((tmp_path / "out" / "screening.json").read_text())["options"] == {
        "tta": ["flips"],
        "min_size": 3,
    }
    screener = Screener.from_workdir(trained[0], 4, options)
    found, mirrored = (
        list(screener.screen(some)) for some in (images, [image[::-1] for image in images])
    )
    for a, b in zip(found, mirrored, strict=True):
        assert a.probability == pytest.approx(b.probability, abs=1e-5)
        np.testing.assert_array_equal(a.mask, remove_small(a.mask[None], 3)[0])


def test_what_the_run_has_no_stage_for_is_refused():
    plain = make_options()
    evaluate.check_asked(["classifier"], plain, None, True)
    for asked, match in (
        ((["classifier"], make_options(min_size=3)), "--min_size: this run has no segmenter"),
        ((["classifier"], plain, "png"), "--save_predictions: this run has no segmenter"),
        ((["segmenter"], plain, None, True), "--explain: this run has no classifier"),
        ((["segmenter"], plain, "jpg"), "--save_predictions: 'jpg' is unknown"),
    ):
        with pytest.raises(InputError, match=match):
            evaluate.check_asked(*asked)


def test_a_slice_of_which_nothing_finite_comes_out_is_named(workdir, monkeypatch):
    load = evaluate.load_trained

    def damaged(*given):
        stage, variables = load(*given)
        return stage, jax.tree.map(lambda x: x * np.nan, variables)

    monkeypatch.setattr(evaluate, "load_trained", damaged)
    first = json.loads((workdir / "splits.json").read_text())["test"]
    with pytest.raises(RunError, match="NaN or infinite") as error:
        evaluate_run(workdir)
    assert str(error.value).split(":")[0] in first
