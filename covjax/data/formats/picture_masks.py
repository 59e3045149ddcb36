"""Masks in picture files: what their values mean, by one file if plain, else by all of the set."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from covjax.data.formats.images import DEEP, as_grey, decoded
from covjax.data.formats.label_volumes import NEARLY
from covjax.data.label_map import map_classes
from covjax.errors import InputError

PLAIN = ({0, 1}, {0, 255}, {0, 65535})  # what a mask of infected or not holds
FEW = 8  # values other than 0 that may be named one by one in data.classes; more are grey levels
# a mask whose highest value is a quarter of the highest of all holds more than noise around nothing
STRONG = 4


class MaskFiles:
    """The masks of a set: read one by one; all are looked at where one alone is not plain."""

    def __init__(
        self,
        paths: list[Path],
        threshold: int = 0,
        classes: Mapping[int, int] = MappingProxyType({}),
        flags: str = "--config.data.",
    ):
        """Takes files, `data.mask_threshold` and `data.classes` as {value in files: in masks}.

        `flags` is what stands before the names of both in the flags that errors name.
        """
        self.flags = flags
        self.paths = paths
        self.threshold = threshold
        self.classes = classes

    def read(self, path: Path) -> np.ndarray:
        """Reads a mask as uint8 [H, W] of 0 and 1 (infected), or of what `classes` makes of it.

        A file holds 0 and 1, or 0 and the highest value of its type, or 0 and one other value that
        is the same in all files of the set. With a threshold above 0 any grey counts, and values
        above it are infected (for masks saved as JPEG; 16-bit greys are scaled to 0..255). Raises
        InputError naming the file, the values that do not fit and what to set.
        """
        values = mask_values(path)
        if self.classes:
            return map_classes(values, self.classes, path)
        if self.threshold > 0:
            marked = _grey(values) > self.threshold
            if not marked.any() and values.any():
                self._check_threshold()
            return marked.astype(np.uint8)
        found = set(np.unique(values).tolist())
        if not any(found <= plain for plain in PLAIN) and (
            len(found - {0}) > 1 or self._values != found | {0}
        ):
            raise InputError(f"{path}: mask values {_listed(found)}; {self._advice}")
        return (values != 0).astype(np.uint8)

    def _check_threshold(self) -> None:
        if not self._exceeded:
            highest = max(self._tops)
            raise InputError(
                f"data.mask_threshold: {self.threshold}, but no mask of {len(self.paths)} holds "
                f"more than {highest:g}, so all would be empty; use {self._threshold_remedy}"
            )

    @cached_property
    def _exceeded(self) -> bool:
        return any(bool((_grey(mask_values(path)) > self.threshold).any()) for path in self.paths)

    @cached_property
    def _values(self) -> set[int]:
        """All values of all masks."""
        found: set[int] = {0}
        for path in self.paths:
            found |= set(np.unique(mask_values(path)).tolist())
        return found

    @cached_property
    def _tops(self) -> list[float]:
        """The highest value of each mask that has any, 16-bit greys scaled to 0..255."""
        tops = [float(_grey(mask_values(path)).max()) for path in self.paths]
        return [top for top in tops if top > 0]

    @property
    def _threshold_remedy(self) -> str:
        strong = [top for top in self._tops if top >= max(self._tops) / STRONG]
        return f"{self.flags}mask_threshold={max(1, int(min(strong) // 2))}"

    @property
    def _advice(self) -> str:
        plain = (
            "a mask holds 0 and 1, 0 and 255, or 0 and one other value, the same in all masks of "
            "the set; "
        )
        marked = sorted(self._values - {0})
        if len(marked) <= FEW and min(marked) > 0:
            named = ",".join(f"{value}:infected" for value in marked)
            return f"{plain}name those that it holds, e.g. {self.flags}classes={named}"
        return f"{plain}say from which grey on it is infected, e.g. {self._threshold_remedy}"


def mask_values(path: Path) -> np.ndarray:
    """Returns the numbers of a mask, int [H, W], upright; transparent pixels are 0.

    Colours become luminance, but a palette's are no values: its indices are. Raises InputError
    naming a file that cannot be read, holds fractions, or marks by its transparency alone.
    """
    image = decoded(path)
    if image.mode in DEEP:
        return _whole(np.asarray(image), path)
    clear = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    alpha = np.asarray(image.convert("RGBA").getchannel("A")) if clear else None
    if image.mode in ("P", "PA"):
        indices = np.asarray(image.getchannel("P") if image.mode == "PA" else image)
        return indices if alpha is None else np.where(alpha == 0, 0, indices)
    grey = as_grey(image, path)
    if alpha is not None and not grey.any() and alpha.min() < alpha.max():
        raise InputError(
            f"{path}: black wherever it is not transparent, so it marks nothing; save the mask as "
            "grey"
        )
    return grey


def _whole(values: np.ndarray, path: Path) -> np.ndarray:
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    nearest = np.rint(values)
    if not np.isfinite(values).all() or np.abs(values - nearest).max() > NEARLY:
        raise InputError(
            f"{path}: holds fractions (up to {values.max():g}), a mask holds whole numbers, 0 and 1"
        )
    return nearest.astype(np.int64)


def _grey(values: np.ndarray) -> np.ndarray:
    """Returns values as 0..255: those of 16 bits scaled."""
    return values / 257 if values.max() > 255 else values


def _listed(values: set[int]) -> str:
    first = sorted(values)[:6]
    return ", ".join(map(str, first)) + (", .." if len(values) > 6 else "")
