"""The registry names every score that the functions return, and can be read without jax."""

import subprocess
import sys

import numpy as np
import pytest

from covjax import metrics
from covjax.scores import OUTLINES, PROTOCOLS, SCORES, STUDY, Score, find, in_front
from covjax.study import compare

CONFUSIONS = np.full((6, 2, 2), 5)
SURFACES = dict.fromkeys(OUTLINES, np.ones((6, 2)))


def test_registry_needs_no_other_package():
    code = "import sys, covjax.scores; assert not {'jax', 'numpy', 'scipy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_classifier_rows_are_the_scores_returned():
    scores = metrics.classification_scores([0, 1] * 6, np.linspace(0.1, 0.9, 12))
    assert set(scores) == {row.name for row in SCORES["classifier"]}


def test_segmenter_rows_are_the_scores_returned():
    scores = metrics.segmentation_scores(CONFUSIONS, ("background", "infected"))
    scores |= metrics.surface_summary(SURFACES, ("background", "infected"))
    found = {name for name in scores if "background" not in name}
    several = {"mean_dice", "mean_dice_per_image"}  # of several classes of infection alone
    assert {row.name for row in SCORES["segmenter"]} == found | several


@pytest.mark.parametrize("stage", SCORES)
def test_names_are_distinct_and_read_well(stage):
    rows = SCORES[stage]
    assert len({row.name for row in rows}) == len({row.label for row in rows}) == len(rows)
    assert all(row.meaning for row in rows if row.headline)
    assert all(find(stage, row.name) is row for row in rows)


def test_selected_names_are_registered():
    assert tuple(compare.SCORES) == STUDY
    assert all(find("segmenter", name).higher_is_better for name in (*STUDY, *PROTOCOLS))
    for stage in ("classifier", "segmenter"):
        assert any(row.selects_checkpoint and row.higher_is_better for row in SCORES[stage])


def test_other_classes_are_scored_as_infected():
    found = find("segmenter", "hd95_ground_glass_per_image")
    assert found == Score(
        "hd95_ground_glass_per_image",
        "HD95 ground glass per image",
        higher_is_better=False,
        unit="distance",
        scale="amount",
    )
    assert find("segmenter", "dice_ground_glass").label == "Dice ground glass"


def test_scores_that_are_not_registered_are_named_in_words():
    assert find("severity", "mean_f1") == Score("mean_f1", "Mean F1")
    assert in_front("severity", ["mean_f1"]) == ["mean_f1"]
    assert in_front("classifier", ["mean_f1"]) == []
