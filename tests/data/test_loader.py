"""Batches: the same order whoever asks and wherever one starts, and padding that says what it
is.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from covjax.data import loader
from covjax.data.loader import (
    SliceReader,
    eval_batches,
    pad_batch,
    steps_per_epoch,
    train_batches,
)
from covjax.data.resizing import resize
from covjax.data.views import ViewSettings
from covjax.errors import InputError

SIZES = ViewSettings((10, 14), (6, 8))


class Counting:
    """Prepared slices that count how often each is decoded."""

    def __init__(self, n):
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (n, 16, 20), np.uint8)
        self.masks = rng.choice([0, 1, 255], (n, 16, 20)).astype(np.uint8)
        self.labels = (np.arange(n) % 2).astype(np.int32)
        self.ids = [str(i) for i in range(n)]
        self.spacings = [None] * n
        self.decoded = []

    def decode(self, i):
        self.decoded.append(int(i))
        return self.images[i], self.masks[i]


def reader(n=23, indices=None, cache=False):
    return SliceReader(Counting(n), np.arange(n) if indices is None else indices, SIZES, cache)


def order(*args, **kwargs):
    return [batch["index"].tolist() for batch in train_batches(*args, **kwargs)]


def test_contents():
    indices = np.array([7, 3, 11, 5])
    r = reader(indices=indices)
    for batch in train_batches(r, batch_size=2, seed=0, epoch=0):
        assert {k: (v.shape, v.dtype.name) for k, v in batch.items()} == {
            "image": ((2, 10, 14), "uint8"), "mask": ((2, 6, 8), "uint8"), "label": ((2,), "int32"),
            "index": ((2,), "int64"),
        }  # fmt: skip
        for k, i in enumerate(batch["index"]):
            assert i in indices and batch["label"][k] == r.data.labels[i]
            expected = np.asarray(
                Image.fromarray(r.data.images[i]).resize((14, 10), Image.Resampling.BILINEAR)
            )
            np.testing.assert_array_equal(batch["image"][k], expected)
            np.testing.assert_array_equal(
                batch["mask"][k], resize(r.data.masks[i], (6, 8), Image.Resampling.NEAREST)
            )


def test_order_depends_on_seed_and_epoch_alone():
    first = order(reader(), batch_size=4, seed=1, epoch=2)
    assert first == order(reader(cache=True), batch_size=4, seed=1, epoch=2)
    assert len(first) == 5 and len(set(sum(first, []))) == 20  # whole batches, no slice twice
    others = [
        order(reader(), batch_size=4, seed=s, epoch=e)
        for s, e in ((1, 3), (2, 2), (2, 1), (2**32 - 1, 0))
    ]
    assert all(other != first for other in others)
    # nor on the batch size
    assert sum(order(reader(), batch_size=2, seed=1, epoch=2), [])[:20] == sum(first, [])


@settings(max_examples=15, deadline=None)
@given(
    st.integers(4, 30),
    st.sampled_from([(4, 1), (4, 2), (4, 4), (2, 2)]),
    st.integers(0, 9),
    st.data(),
)
def test_processes_share_the_global_batches(n, shape, epoch, data):
    batch_size, processes = shape
    steps = n // batch_size
    start = data.draw(st.integers(0, steps))
    whole = order(reader(n), batch_size=batch_size, seed=5, epoch=epoch)
    assert len(whole) == steps
    parts = [
        order(
            reader(n),
            batch_size=batch_size,
            seed=5,
            epoch=epoch,
            start=start,
            process=p,
            processes=processes,
        )
        for p in range(processes)
    ]
    assert [sum(shares, []) for shares in zip(*parts, strict=True)] == whole[start:]


def test_processes_that_do_not_divide_a_batch():
    with pytest.raises(InputError, match="batch_size: 4 is not a multiple of the 3 processes"):
        train_batches(reader(), batch_size=4, seed=0, epoch=0, processes=3)


def test_starting_at_the_end_gives_nothing():
    assert order(reader(), batch_size=4, seed=0, epoch=0, start=5) == []


def test_eval_gives_every_slice_once_and_marks_padding():
    r = reader(11)
    batches = list(eval_batches(r, batch_size=4))
    assert [b["valid"].tolist() for b in batches] == [[True] * 4, [True] * 4, [True] * 3 + [False]]
    assert np.concatenate([b["index"][b["valid"]] for b in batches]).tolist() == list(range(11))
    assert batches[-1]["image"].shape == (4, 10, 14)
    assert not batches[-1]["image"][3].any() and not batches[-1]["mask"][3].any()
    assert list(eval_batches(reader(4), batch_size=4))[0]["valid"].all()
    assert list(eval_batches(reader(indices=np.array([], int)), batch_size=4)) == []
    assert len(list(eval_batches(reader(3), batch_size=8))) == 1


def test_padding():
    padded = pad_batch({"a": np.ones((2, 3)), "b": np.ones(2)}, 5)
    assert padded["a"].sum() == 6 and padded["b"].tolist() == [1, 1, 0, 0, 0]
    assert padded["valid"].tolist() == [True, True, False, False, False]


def test_cache_decodes_once_and_changes_nothing():
    r = reader(cache=True)
    plain = reader()
    for _ in range(2):
        for a, b in zip(
            eval_batches(r, batch_size=5), eval_batches(plain, batch_size=5), strict=True
        ):
            for key in a:
                np.testing.assert_array_equal(a[key], b[key])
    assert sorted(r.data.decoded) == list(range(23)) and len(plain.data.decoded) == 46


def test_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(loader, "CACHE_BYTES", 5 * (10 * 14 + 6 * 8) + 1)
    r = reader(cache=True)
    for _ in range(2):
        assert sum(batch["valid"].sum() for batch in eval_batches(r, batch_size=5)) == 23
    assert len(r.data.decoded) == 23 + 18


@settings(max_examples=30, deadline=None)
@given(*[st.integers(1, 40)] * 4, st.integers(0, 99))
def test_masks_keep_their_values(h, w, new_h, new_w, seed):
    mask = np.random.default_rng(seed).choice([0, 1, 255], (h, w)).astype(np.uint8)
    resized = resize(mask, (new_h, new_w), Image.Resampling.NEAREST)
    assert (
        resized.shape == (new_h, new_w)
        and resized.dtype == np.uint8
        and set(np.unique(resized)) <= {0, 1, 255}
    )
    np.testing.assert_array_equal(
        resize(mask, (2 * h, 3 * w), Image.Resampling.NEAREST), mask.repeat(2, 0).repeat(3, 1)
    )


def test_bilinear_averages_when_it_reduces():
    stripes = np.tile(np.array([0, 200], np.uint8), (32, 16))
    reduced = resize(stripes, (16, 8), Image.Resampling.BILINEAR)
    assert np.abs(reduced.astype(int) - 100).max() < 25  # without antialiasing: 0 or 200


def test_a_batch_larger_than_the_data():
    assert steps_per_epoch(9, 4) == 2
    with pytest.raises(InputError, match="batch_size: 24 is more than the 23 training slices"):
        train_batches(reader(), batch_size=24, seed=0, epoch=0)


def test_reading_ahead_is_bounded_in_slices():
    """Not in batches, of which 64 can be gigabytes."""
    r = reader(600)
    batches = train_batches(r, batch_size=100, seed=0, epoch=0)
    next(batches)
    assert len(r.data.decoded) <= 100 + 64 + 8
