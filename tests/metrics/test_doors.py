"""What the scores' functions say of what they cannot use: one line that names the argument, never a
number.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from covjax import metrics
from covjax.errors import InputError

LABELS = np.array([0, 1] * 4)
PROBABILITY = np.linspace(0.1, 0.9, 8)
MASK = np.zeros((3, 20, 20), np.uint8)
MASK[:, 5:9, 5:9] = 1
CONFUSIONS = np.array([[[384, 0], [0, 16]]] * 3)
SURFACES = metrics.surface_scores(MASK, MASK)
NO_NUMBER = (np.nan, "0.5", None, [1], 1j)

# Of each function: arguments that are right, and by their positions some that are wrong.
DOORS = {
    "confusion_matrix": (
        (MASK, MASK, 2),
        {
            0: (MASK / 2, MASK[0], "a", None, np.uint8(1)),
            1: (MASK / 2, MASK[0], "a"),
            2: (0, -1, "2", 2.0, None, True),
        },
    ),
    "segmentation_scores": (
        (CONFUSIONS, ("a", "b")),
        {
            0: (
                MASK,
                MASK[0],
                CONFUSIONS[0],
                CONFUSIONS / 1,
                -CONFUSIONS,
                CONFUSIONS * np.nan,
                "ab",
                None,
                3,
            ),
            1: (
                MASK,
                "abc",
                ("a",),
                ("a", "a"),
                ("a", "b", "c"),
                (1, 2),
                None,
                2,
                {"a": 1, "b": 2},
            ),
        },
    ),
    "infection_scores": (
        (CONFUSIONS, ("a", "b")),
        {0: (MASK, CONFUSIONS / 1, None), 1: (MASK, "abc", ("a", "b", "c"), None)},
    ),
    "infected_or_not": (
        (CONFUSIONS,),
        {
            0: (
                np.arange(4),
                CONFUSIONS / 1,
                CONFUSIONS * np.nan,
                np.ones((1, 1), int),
                -CONFUSIONS,
                "a",
                None,
            )
        },
    ),
    "per_image_dice": (
        (CONFUSIONS, 1),
        {0: (MASK[0], CONFUSIONS / 1, None), 1: (MASK, 2, -1, "1", 1.0, None, True)},
    ),
    "per_image_iou": (
        (CONFUSIONS, 1),
        {0: (MASK[0], CONFUSIONS / 1, None), 1: (MASK, 2, -1, "1", 1.0, None)},
    ),
    "surface_scores": (
        (MASK, MASK, 2, 255, 2.0),
        {
            0: (3 * MASK, -MASK.astype(int), MASK[0], MASK / 1, MASK * np.nan, "a", None),
            1: (255 * MASK, 3 * MASK, -MASK.astype(int), MASK[0], MASK / 1, MASK[:, :5]),
            2: (0, "2", 2.0, None),
            4: (-1, *NO_NUMBER),
        },
    ),
    "bf_score": (
        (MASK, MASK, 2, 255, 3.0),
        {
            0: (MASK[0], MASK / 1),
            1: (255 * MASK, MASK / 1),
            2: (0, "2"),
            4: (0, -1, np.nan, "3", [1]),
        },
    ),
    "surface_summary": (
        (SURFACES, ("a", "b")),
        {
            0: (
                CONFUSIONS,
                {},
                {"bf_score": np.ones((3, 2))},
                SURFACES | {"nsd": np.ones((2, 2))},
                None,
            ),
            1: (("a",), "abc", ("a", "b", "c"), None),
        },
    ),
    "wilson": ((1, 3, 1.96), {0: (-1, 4, *NO_NUMBER), 1: (0, *NO_NUMBER), 2: (-1, *NO_NUMBER)}),
    "hanley_mcneil": (
        (0.7, 3, 4),
        {0: (-1, 1.1, *NO_NUMBER), 1: (0, *NO_NUMBER), 2: (0, *NO_NUMBER)},
    ),
    "classification_scores": (
        (LABELS, PROBABILITY, 0.5, list("abcdefgh"), LABELS == 1),
        {
            0: (
                "abababab",
                LABELS + 1,
                np.where(LABELS, 1, np.nan),
                LABELS[:3],
                None,
                [[0], [1, 0]],
            ),
            1: (
                "abababab",
                10 * PROBABILITY,
                np.where(LABELS, np.nan, 0.5),
                PROBABILITY[:3],
                PROBABILITY + 1j,
                [[1], [1, 2]],
            ),
            3: ("abcdefgh", [None] * 8, [np.nan] * 8, ["a"] * 7, 3),
            4: (np.where(LABELS, np.nan, 1), 2 * LABELS, LABELS[:3], "a", PROBABILITY),
        },
    ),
    "threshold_table": (
        (LABELS, PROBABILITY, [0.5]),
        {0: (None,), 1: (PROBABILITY * np.nan,), 2: (0.5, "0.5", ["a"], [np.nan], [None])},
    ),
    "choose_threshold": (
        (LABELS, PROBABILITY, "mcc"),
        {1: (PROBABILITY * np.nan, "a"), 2: ("mc", None, "fixed", 3, "sensitivity:2")},
    ),
    "fit_temperature": (
        (LABELS, PROBABILITY - 0.5),
        {0: (np.ones(8), None), 1: (PROBABILITY * np.nan, None)},
    ),
    "roc_curve": (
        (LABELS, PROBABILITY),
        {0: (None, LABELS[:2]), 1: (PROBABILITY * np.nan, PROBABILITY * np.inf)},
    ),
    "precision_recall_curve": ((LABELS, PROBABILITY), {0: (None,), 1: (PROBABILITY * np.nan, "a")}),
    "delong": ((LABELS, PROBABILITY), {0: (None, np.ones(8)), 1: (PROBABILITY * np.nan, "a")}),
    "bootstrap": (
        (metrics.mean_of(PROBABILITY), list("abcdefgh")),
        {0: (PROBABILITY, None), 1: (None, "abcdefgh", [], [None] * 8, 3)},
    ),
    "mean_of": (
        (PROBABILITY,),
        {0: (None, "a", ["a"], 3, np.zeros((2, 2, 2)), PROBABILITY * np.inf)},
    ),
    "mcnemar": (
        (LABELS == 1, LABELS == 0),
        {0: (LABELS, PROBABILITY, LABELS[:2] == 1, None), 1: (PROBABILITY, None)},
    ),
    "holm": (([0.1, None],), {0: (0.1, "0.1", [np.nan], [2], [-0.1], ["a"])}),
    "score": ((0.5, 3), {0: (np.nan, np.inf, None, "0.5", [1], 1j), 1: (-1, 1.5, *NO_NUMBER)}),
}
WRONG = [
    (name, k, wrong)
    for name, (_, places) in DOORS.items()
    for k, every in places.items()
    for wrong in every
]


def by_position(labels, log_odds, rule):
    return metrics.choose_threshold(labels, log_odds=log_odds, rule=rule)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "position", "wrong"), WRONG)
def test_what_cannot_be_used_gets_one_line(name, position, wrong):
    right = DOORS[name][0]
    called = by_position if name == "choose_threshold" else getattr(metrics, name)
    called(*right)
    with pytest.raises(InputError) as error:
        called(*right[:position], wrong, *right[position + 1 :])
    message = str(error.value)
    assert "\n" not in message and len(message) < 250 and ": " in message


@pytest.mark.parametrize(
    "patients", ["abc", None, [None] * 3, [np.nan] * 3, ["a"] * 2, 3, {"a": 1, "b": 2, "c": 3}]
)
def test_patients_are_names(patients):
    metrics.segmentation_scores(CONFUSIONS, ("a", "b"), ["a", "", "b"])
    if patients is not None:  # which asks for no intervals
        with pytest.raises(InputError, match="^patients"):
            metrics.segmentation_scores(CONFUSIONS, ("a", "b"), patients)


@pytest.mark.parametrize(
    "name", ["segmentation_scores", "infection_scores", "per_image_dice", "per_image_iou"]
)
@pytest.mark.parametrize("masks", [MASK, MASK[0], MASK[:, :8], MASK > 0, MASK * 255, MASK / 1])
def test_two_masks_given_as_counts_are_sent_to_the_function_that_takes_them(name, masks):
    with pytest.raises(InputError, match=r"covjax.metrics.mask_scores\(truth, predicted\)"):
        getattr(metrics, name)(masks, masks)
    assert metrics.mask_scores(masks, masks)["dice_infected"]["value"] == 1  # the remedy


@pytest.mark.parametrize("other", [MASK, MASK * 255])
def test_masks_of_0_and_255_have_no_boundary_scores_by_accident(other):
    """All that is marked counted nowhere: every score was NaN."""
    with pytest.raises(InputError, match=r"mask_scores\(truth, predicted\)"):
        metrics.surface_scores(MASK if other is not MASK else MASK * 255, MASK * 255)
    assert metrics.mask_scores(other, MASK)["nsd_infected_per_image"]["value"] == 1


def test_labels_that_count_nowhere_may_be_anything_in_the_prediction():
    truth = MASK.copy()
    truth[:, :3] = 255
    predicted = MASK.copy()
    predicted[:, :3] = 7
    np.testing.assert_array_equal(metrics.surface_scores(truth, predicted)["nsd"], 1)


def test_counts_under_jit_check_shapes_and_types_alone():
    counted = jax.jit(lambda a, b: metrics.confusion_matrix(a, b, 2))
    np.testing.assert_array_equal(counted(jnp.asarray(MASK), jnp.asarray(MASK)), CONFUSIONS)
    with pytest.raises(InputError, match="integer labels"):
        counted(jnp.asarray(MASK, jnp.float32), jnp.asarray(MASK))


def test_an_interval_without_limits_is_none():
    assert "interval" not in metrics.score(0.5, 3, (np.nan, 1.0))
