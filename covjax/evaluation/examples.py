"""Slices that a report shows: the best, median and worst by Dice."""

from collections.abc import Iterable

import numpy as np

from covjax.data.loader import SliceReader


def example_arrays(
    reader: SliceReader, predicted: Iterable[np.ndarray], dice: np.ndarray, rank: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the arrays of examples.npz: slices with their true and predicted masks.

    Slices may differ in size: pictures are filled up at the bottom and on the right; "shape" [n, 2]
    says how large each is.
    """
    images, masks = zip(*(reader.data.decode(i) for i in reader.indices), strict=True)
    return {
        "id": np.array([reader.data.ids[i] for i in reader.indices]),
        "shape": np.array([image.shape for image in images]),
        "image": filled_up(images),
        "truth": filled_up(masks),
        "predicted": filled_up(predicted),
        "dice": dice,
        "rank": rank,
    }


def filled_up(pictures: Iterable[np.ndarray]) -> np.ndarray:
    """Stacks pictures uint8 [H, W], zeros at the bottom and right: [n, largest H, largest W]."""
    pictures = list(pictures)
    sides = np.max([picture.shape for picture in pictures], 0)
    out = np.zeros((len(pictures), *sides), np.uint8)
    for k, picture in enumerate(pictures):
        out[k, : picture.shape[0], : picture.shape[1]] = picture
    return out


def rank_examples(dice: np.ndarray, each: int = 4) -> dict[str, np.ndarray]:
    """Returns positions of the best, median and worst slices by Dice, none twice.

    They are `each` of a kind, or fewer when there are few slices.
    """
    order = np.flatnonzero(np.isfinite(dice))
    order = order[np.argsort(-dice[order], kind="stable")]
    each = min(each, len(order) // 3) if len(order) >= 3 else 0
    middle = (len(order) - each) // 2
    worst = order[len(order) - each :]
    return {"best": order[:each], "median": order[middle : middle + each], "worst": worst}
