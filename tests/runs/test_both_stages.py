"""Both stages together, with hand-made masks and calls: what stage 1 misses counts as missed
lesion.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from covjax.data.label_map import infected
from covjax.evaluation.outputs import StageOutput
from covjax.evaluation.result_files import write_results
from covjax.evaluation.results import Evaluated
from covjax.runs.both_stages import evaluate_two_stages, two_stages_output


class FakeReader:
    """Four slices of 2x2 pixels: two infected ones with 1 and 2 lesion pixels, two healthy ones."""

    masks = np.array(
        [[[1, 0], [0, 0]], [[1, 1], [0, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]], np.uint8
    )

    def __init__(self, indices=None):
        self.data = SimpleNamespace(
            ids=("a", "b", "c", "d"), patients=("p", "p", "q", "q"), labels=np.array([1, 1, 0, 0]),
            notes={}, has_mask=np.ones(4, bool), truth=("t1", "t2", "t0", "t0"),
            infected_pixels=infected(self.masks).sum((1, 2)),
            counted_pixels=(self.masks != 255).sum((1, 2)),
        )  # fmt: skip
        self.indices = np.arange(4) if indices is None else indices

    def __len__(self):
        return len(self.indices)

    def of(self, indices):
        return FakeReader(indices)


def segment_everything(reader):
    """A stage 2 that calls every pixel infected."""
    lesion = FakeReader.masks[reader.indices].sum((1, 2))
    confusion = np.zeros((len(reader), 2, 2), int)
    confusion[:, 0, 1] = 4 - lesion
    confusion[:, 1, 1] = lesion
    return confusion


def test_missed_slices_are_missed_lesion_and_false_alarms_are_invented_lesion():
    called = np.array([False, True, True, False])
    output = two_stages_output(called, FakeReader(), None, segment_everything)
    np.testing.assert_array_equal(
        output.rows["confusion"],
        [[[3, 0], [1, 0]], [[0, 2], [0, 2]], [[0, 4], [0, 0]], [[4, 0], [0, 0]]],
    )


def test_what_stage_2_segmented_already_is_not_segmented_again():
    called = np.array([False, True, True, False])
    segmented_again = []

    def segment(reader):
        segmented_again.extend(reader.indices.tolist())
        return segment_everything(reader)

    known = np.array([np.full((2, 2), 9), [[0, 2], [0, 2]]])
    segmented = StageOutput(np.arange(2), {"confusion": known})
    found = two_stages_output(called, FakeReader(), segmented, segment)
    assert segmented_again == [2]
    want = two_stages_output(called, FakeReader(), None, segment_everything)
    np.testing.assert_array_equal(found.rows["confusion"], want.rows["confusion"])


def test_scores_and_tables(tmp_path):
    called = np.array([False, True, True, False])
    rows = {"label": np.array([1, 1, 0, 0]), "called": called}
    reader = FakeReader()
    output = two_stages_output(called, reader, None, segment_everything)
    both = evaluate_two_stages(0.5, rows, output, reader.data)
    scores = both.section["scores"]
    assert both.section["confusion"] == [[7, 6], [1, 2]]
    assert scores["dice_infected"]["value"] == pytest.approx(2 * 2 / (2 * 2 + 6 + 1))
    assert (scores["missed_infected_slices"]["value"], scores["missed_infected_slices"]["n"]) == (
        0.5,
        2,
    )
    assert (scores["false_alarm_slices"]["value"], scores["false_alarm_slices"]["n"]) == (0.5, 2)
    assert scores["share_mean_absolute_error"]["value"] == pytest.approx((0.25 + 0.5 + 1 + 0) / 4)

    first = Evaluated({}, {"called": called.astype(int)}, reader.indices)
    write_results(
        tmp_path,
        "test",
        reader.data,
        reader.indices,
        {"classifier": first, "two_stages": both},
        {},
        {},
    )
    assert (tmp_path / "per_patient.csv").read_text().splitlines() == [
        "patient,slices,infected_slices,called_infected,marked_slices,true_share,scored_slices,"
        "scored_true_share,predicted_share,dice",
        "p,2,2,1,2,0.375,2,0.375,0.5,0.571428571",
        "q,2,0,1,2,0,2,0,0.5,0",
    ]
    assert (tmp_path / "per_image.csv").read_text().splitlines() == [
        "id,patient,label,truth,true_share,called,two_stages_dice,two_stages_predicted_share,notes",
        "a,p,1,t1,0.25,0,0,0,",
        "b,p,1,t2,0.5,1,0.666666667,1,",
        "c,q,0,t0,0,1,0,1,",
        "d,q,0,t0,0,0,,0,",
    ]


def test_classes_are_joined(monkeypatch):
    monkeypatch.setattr(
        FakeReader, "masks", FakeReader.masks * np.array([[1, 2], [2, 255]], np.uint8)
    )

    def segment(reader):
        return np.full((len(reader), 3, 3), 1)

    called = np.array([False, True, True, False])
    confusion = np.arange(9).reshape(1, 3, 3)
    segmented = StageOutput(np.array([1]), {"confusion": confusion})
    found = two_stages_output(called, FakeReader(), segmented, segment)
    np.testing.assert_array_equal(
        found.rows["confusion"],
        [
            [[3, 0], [1, 0]],
            [[0, 1 + 2], [3 + 6, 4 + 5 + 7 + 8]],
            [[1, 2], [2, 4]],
            [[4, 0], [0, 0]],
        ],
    )
