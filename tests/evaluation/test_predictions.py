"""Masks as files, named by slice."""

import numpy as np
import pytest
from PIL import Image

from covjax.errors import InputError
from covjax.evaluation.predictions import file_of, prediction_writer
from tests.data.masks import read_mask

ROWS = {
    "predicted": np.eye(3, dtype=np.uint8)[None],
    "pixel_probability": np.full((1, 3, 3), 0.25, np.float32),
}


def test_names_with_folders_and_odd_characters(tmp_path):
    ids = ["a", "a/b", "2020.01.24 p27", "sub/ü%20", "-x", "a b/c:d\\e"]
    save = prediction_writer(tmp_path / "predictions", "png")
    for slice_id in ids:
        save([slice_id], ROWS)
    for slice_id in ids:
        pixels = np.asarray(Image.open(tmp_path / "predictions" / f"{slice_id}.png"))
        np.testing.assert_array_equal(pixels, np.eye(3) * 255)
    assert sum(p.is_file() for p in tmp_path.rglob("*")) == len(ids)


@pytest.mark.parametrize("slice_id", ["../a", "/etc/a", "a/../../b", "", "a//b", "a/", ".", "a\0b"])
def test_names_that_lead_elsewhere(tmp_path, slice_id):
    with pytest.raises(InputError, match="cannot name a file"):
        file_of(tmp_path, slice_id, ".png")


def test_probabilities(tmp_path):
    folder = tmp_path / "predictions"
    prediction_writer(folder, "npz")(["a"], ROWS)
    with np.load(folder / "a.npz") as content:
        np.testing.assert_array_equal(content["mask"], np.eye(3))
        np.testing.assert_array_equal(content["probability"], ROWS["pixel_probability"][0])
    assert prediction_writer(folder, None) is None


def test_classes_are_numbers_shown_in_colours(tmp_path):
    rows = {"predicted": np.tile(np.array([[[0, 1], [2, 1]]], np.uint8), (1, 8, 8))}
    prediction_writer(tmp_path / "predictions", "png", several=True)(["a"], rows)
    picture = Image.open(tmp_path / "predictions" / "a.png")
    np.testing.assert_array_equal(np.asarray(picture), rows["predicted"][0])
    np.testing.assert_array_equal(
        read_mask(tmp_path / "predictions" / "a.png", classes={0: 0, 1: 1, 2: 2}), picture
    )
    shown = np.asarray(picture.convert("RGB"))
    assert shown[0, 0].tolist() == [0, 0, 0] and shown[0, 1].tolist() == [213, 94, 0]
