"""What a network sees of a slice, and the way back: the same in training, validation, test and use.

A slice is stored whole. A network sees a box of it (the lungs with data.lung_crop, else all of it),
either stretched to the size that it takes or, with data.spacing, at one physical scale in the
centre of black.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from covjax.data.label_map import IGNORE
from covjax.data.lungs.fields import Box, Crop, find_crop
from covjax.data.resizing import Shape, box_at, padded, resize, scaled_shape

Spacing = tuple[float, ...] | None  # mm between rows and columns, and perhaps between slices before


class ViewSettings(NamedTuple):
    """How slices are shown to a network."""

    image: Shape  # rows and columns of the picture that it takes
    mask: Shape  # rows and columns of what it predicts
    spacing: float = 0.0  # mm per pixel at which slices are shown; 0: stretched to `image`
    lung_crop: bool = False


class View(NamedTuple):
    """Which part of a slice a network sees, and where in its picture."""

    stored: Shape  # rows and columns of the slice
    box: Box  # of the slice, what the network sees of it
    shape: Shape  # rows and columns of the box in the network's picture
    size: Shape  # rows and columns of the network's picture

    @property
    def offset(self) -> Shape:
        """Row and column of the network's picture at which the box begins."""
        return _pair([(w - side) // 2 for w, side in zip(self.size, self.shape, strict=True)])

    def picture(self, image: np.ndarray) -> np.ndarray:
        """Returns the network's picture of a slice uint8 [H, W], black where the slice ends."""
        return padded(resize(image[self.box], self.shape, Image.Resampling.BILINEAR), self.size, 0)

    def truth(self, mask: np.ndarray, size: Shape, outside: int = IGNORE) -> np.ndarray:
        """Returns a mask [H, W] as the network is to predict it at `size`, by the nearest pixel."""
        if self.shape == self.size:
            return resize(mask[self.box], size, Image.Resampling.NEAREST)
        scaled = resize(mask[self.box], self.shape, Image.Resampling.NEAREST)
        return resize(padded(scaled, self.size, outside), size, Image.Resampling.NEAREST)

    def back(self, values: np.ndarray) -> np.ndarray:
        """Brings a prediction float32 [h, w] to the slice: float32 [H, W], 0 outside of the box.

        Bilinear between the centres of pixels, antialiased where the slice is smaller than the
        prediction. What the network says of the black around the slice has no influence.
        """
        out = np.zeros(self.stored, np.float32)
        inside = [
            _within(*axis)
            for axis in zip(self.offset, self.shape, self.size, values.shape, strict=True)
        ]
        (rows, top, bottom), (columns, left, right) = inside
        kept = np.pad(np.ascontiguousarray(values[rows, columns], np.float32), 1, "edge")
        sides = [part.stop - part.start for part in self.box]
        box = (left + 1, top + 1, right + 1, bottom + 1)
        if box == (1, 1, kept.shape[1] - 1, kept.shape[0] - 1):  # nothing of the edge is needed
            kept = kept[1:-1, 1:-1]
            box = None
        picture = Image.fromarray(np.ascontiguousarray(kept))
        fitted = picture.resize((sides[1], sides[0]), Image.Resampling.BILINEAR, box)
        out[self.box] = np.asarray(fitted)
        return out


class Native(NamedTuple):
    """A slice in its own size: what a prediction is brought back to and scored on."""

    view: View
    # uint8 [H, W]: 0, 1 or more, 255 ignored; None where it is not known
    truth: np.ndarray | None = None
    spacing: tuple[float, float] | None = None  # mm between rows and columns where known


def seen_crop(image: np.ndarray, lung_crop: bool) -> Crop:
    """Returns what networks see of a slice uint8 [H, W]: lungs, the body and why, or all of it."""
    return find_crop(image) if lung_crop else Crop(whole_box(image.shape), "")


def crop_note(kept: str) -> str:
    """Says that the whole body is shown, and why."""
    return f"lung crop: {kept}, so the whole body is shown"


def make_view(
    name: object, stored: Shape, box: Box, spacing: Spacing, settings: ViewSettings
) -> View:
    """Returns how a network sees the box of a slice [H, W]; `name` is what errors call it.

    Raises InputError where slices are shown at one scale and the spacing of this one is not known
    or makes it none.
    """
    shape = settings.image
    if settings.spacing:
        # whether the slice can be one at that scale
        scaled_shape(name, stored, spacing, settings.spacing)
        shape = box_at(box_shape(box), spacing or (), settings.spacing)
    return View(_pair(stored), box, _pair(shape), _pair(settings.image))


def whole_view(size: Sequence[int]) -> View:
    """Returns the view of a slice that is shown as it is."""
    return View(_pair(size), whole_box(size), _pair(size), _pair(size))


def _pair(sizes: Sequence[int]) -> Shape:
    rows, columns = sizes
    return rows, columns


def whole_box(shape: Sequence[int]) -> Box:
    return slice(0, shape[0]), slice(0, shape[1])


def box_shape(box: Box) -> Shape:
    return box[0].stop - box[0].start, box[1].stop - box[1].start


def _within(offset: int, length: int, whole: int, predicted: int) -> tuple[slice, float, float]:
    """Returns the predicted pixels in the box along one axis, and where it begins and ends.

    Args:
      offset, length, whole: where the box lies in the network's picture, in pixels of it.
      predicted: pixels that the network predicts for the whole picture.
    """
    begin = offset * predicted / whole
    end = (offset + length) * predicted / whole
    first = min(max(math.ceil(begin - 0.5), 0), predicted - 1)
    last = max(min(math.floor(end - 0.5), predicted - 1), first)
    return slice(first, last + 1), begin - first, end - first
