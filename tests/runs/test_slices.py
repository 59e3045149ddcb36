"""What data.lung_crop shows of slices: a box for the network's view alone, with notes on what it
cannot do.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from covjax.configs import framework
from covjax.data.intensity import eight_bit
from covjax.data.loader import SliceReader, eval_batches
from covjax.data.lungs.fields import ONE, find_crop
from covjax.data.prepared.dataset import Prepared
from covjax.data.resizing import resize
from covjax.data.views import crop_note
from covjax.evaluation.predict import collect, make_predictor
from covjax.runs.slices import OUTSIDE, view_settings, with_crops
from covjax.screening.screener import Screener
from covjax.settings import read_settings
from tests.data.chests import chest
from tests.evaluation.linear import LinearSegmenter, stage

SIZE = (48, 40)


@pytest.fixture(scope="module")
def data():
    """A slice of a chest, the same with a lung consolidated, and the first with a mark at the edge
    of the body.
    """
    images = [eight_bit(chest(1, solid=solid).values[35], (-600, 1500)) for solid in ("", "right")]
    images.append(images[0])
    masks = np.zeros((3, *images[0].shape), np.uint8)
    for k, (rows, columns) in enumerate(find_crop(image).box for image in images):
        masks[k, rows.start + 20 : rows.start + 30, columns.start + 20 : columns.start + 30] = 1
    masks[2, : find_crop(images[2]).box[0].start][-2:] = 1
    return Prepared(
        fingerprint="f", source="folder", ids=("a", "b", "c"), labels=np.ones(3, np.int32),
        patients=("p", "q", "r"),
        splits=("",) * 3, has_mask=np.ones(3, bool),
        records=SimpleNamespace(images=images, masks=masks),
        shapes=(images[0].shape,) * 3, spacings=(None,) * 3,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def decoded(monkeypatch):
    monkeypatch.setattr(
        Prepared, "decode", lambda self, i: (self.records.images[i], self.records.masks[i])
    )


def cropping():
    config = framework.get_config()
    with config.unlocked():
        config.data.lung_crop = True
        config.segmenter.input.update(size=SIZE)
    return config


def test_notes_count_missing_lungs_and_marks_outside(data, caplog):
    found = with_crops(read_settings(cropping()), data)
    assert found.notes == {1: (crop_note(ONE),), 2: (OUTSIDE,)}
    assert found.boxes == {k: find_crop(data.records.images[k]).box for k in range(3)}
    assert "of 1 of 3 slices" in caplog.text and "in 1 marked" in caplog.text
    assert with_crops(read_settings(framework.get_config()), data) is data
    assert with_crops(read_settings(cropping()), data, np.array([0])).notes == {}


def test_the_crop_is_the_network_s_view_alone(data):
    """Scores are those of the whole slice: what lies outside is missed, whatever the network
    says.
    """
    settings = read_settings(cropping())
    for known in (data, with_crops(settings, data)):
        reader = SliceReader(
            known,
            np.arange(3),
            view_settings(settings.stages["segmenter"], settings.data),
            False,
            native=True,
        )
        for k, item in enumerate(reader[i] for i in range(3)):
            image = data.records.images[k]
            box = find_crop(data.records.images[k]).box
            np.testing.assert_array_equal(
                item["image"], resize(image[box], SIZE, Image.Resampling.BILINEAR)
            )
            np.testing.assert_array_equal(item["native"].truth, data.records.masks[k])
        segmenter = stage(LinearSegmenter(), SIZE)
        rows = collect(
            make_predictor(segmenter, ("predicted", "lesions"))(
                {}, eval_batches(reader, batch_size=2)
            )
        )
        np.testing.assert_array_equal(
            rows["confusion"].sum((1, 2)), [image.size for image in data.records.images]
        )
        outside = np.ones(data.records.images[2].shape, bool)
        outside[find_crop(data.records.images[2]).box] = False
        assert rows["unseen"].tolist() == [
            0,
            0,
            (data.records.masks[2].astype(bool) & outside).sum(),
        ]
        assert rows["unseen"][2] > 0 and not rows["predicted"][2][outside].any()
        assert rows["confusion"][2, 1, 0] >= rows["unseen"][2]
        screener = Screener({"segmenter": segmenter}, {"segmenter": {}}, 2, lung_crop=True)
        screened = list(screener.screen(data.records.images))
        for one, mask in zip(screened, rows["predicted"], strict=True):
            np.testing.assert_array_equal(one.mask, mask)
        assert [one.notes for one in screened] == [(), (crop_note(ONE),), ()]
