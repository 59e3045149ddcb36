"""Slices in any form as uint8 [H, W]: arrays, pictures, files, checked and named by number."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from covjax.data.formats.hounsfield import Reading
from covjax.data.formats.images import (
    DEEP,
    MAX_PIXELS,
    MIN_SIDE,
    SUFFIXES,
    as_grey,
    decoded,
    is_deep,
    read_image,
)
from covjax.data.intensity import eight_bit, parse_window
from covjax.errors import InputError

Window = str | tuple[float, float] | None  # a name, "centre,width", or the two numbers in HU
PADDING = -1100  # HU: below air; what is lower marks pixels that were not measured
NEEDS_WINDOW = (
    "only uint8 is taken as it is; say which HU become 0..255, e.g. window='lung', or convert "
    "0..255 yourself with .astype(np.uint8)"
)


def window_of(window: Window) -> tuple[float, float] | None:
    """Returns centre and width in HU. Raises InputError for what names no window."""
    if window is None or isinstance(window, str):
        return None if window is None else parse_window(window, "window")
    try:
        centre, width = window
        return parse_window(f"{float(centre)},{float(width)}", "window")
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"window: {window!r} is no window, give a name or (centre, width) in HU"
        ) from None


def slices_of(given: Any, name: object, window: Window, bits: int) -> Iterator[np.ndarray]:
    """Yields slices uint8 [H, W] of one slice or an iterable of them, see `as_slice`.

    Raises InputError for neither.
    """
    limits = window_of(window)
    for k, one in enumerate(_listed(given, name)):
        yield as_slice(one, f"{name}[{k}]", limits, bits)


def _listed(given: Any, name: object) -> Iterable[Any]:
    """Returns the slices one by one: a file, a picture, [H, W] and [H, W, 1] are one."""
    if isinstance(given, (str, os.PathLike, Image.Image)):
        return [given]
    shape = getattr(given, "shape", None)
    if shape is not None:
        if len(shape) == 2 or (len(shape) == 3 and shape[-1] == 1):
            return [given]
        if len(shape) == 3 and shape[-1] in (2, 3, 4):
            raise InputError(f"{name}: {_axes(shape)}")
        if len(shape) < 2:
            raise InputError(
                f"{name}: shape {tuple(shape)}, give slices [H, W], as a list or a stack [N, H, W]"
            )
    if not isinstance(given, Iterable):
        raise InputError(
            f"{name}: {type(given).__name__}, give slices [H, W], as a list or a stack [N, H, W]"
        )
    return given


def as_slice(
    given: Any, where: str, window: tuple[float, float] | None, bits: int = 16
) -> np.ndarray:
    """Returns one slice as uint8 [H, W].

    Args:
      given: uint8 [H, W] or [H, W, 1], taken as it is; HU of any other integer or floating-point
        type, which go through `window`; a Pillow image; or the path of a picture.
      where: what errors call it.
      window: centre and width in HU.
      bits: that a 16-bit picture file uses.

    Raises:
      InputError: anything else: colour or channels, values that are no number, that are not HU, or
        that no window was given for.
    """
    if isinstance(given, (str, os.PathLike)):
        return _read(Path(given), where, window, bits)
    if isinstance(given, Image.Image):
        image = ImageOps.exif_transpose(given)
        given = np.asarray(image) if image.mode in DEEP else as_grey(image, where)
    return _scaled(_plane(given, where), where, window)


def _read(path: Path, where: str, window: tuple[float, float] | None, bits: int) -> np.ndarray:
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{where}: {path} is no picture ({', '.join(SUFFIXES)}); a scan or a folder is "
            "screened by covjax.framework.screen(workdir, path, output) or eval.py --input"
        )
    if is_deep(path) and (window is not None or not bits):
        return _scaled(_plane(np.asarray(decoded(path)), where), where, window)
    return _scaled(read_image(path, bits), where, window)


def _plane(given: Any, where: str) -> np.ndarray:
    """Returns [H, W] of numbers."""
    try:
        values = np.asarray(given)
    # ragged lists, tensors on another device
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{where}: {type(given).__name__} is no array ({reason[:120]}), give [H, W]"
        ) from None
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 2:
        raise InputError(
            f"{where}: {_axes(values.shape) if values.ndim == 3 else _shape(values.shape)}"
        )
    if min(values.shape) < MIN_SIDE or values.size > MAX_PIXELS:
        raise InputError(
            f"{where}: {values.shape[0]}x{values.shape[1]} pixels [H, W], a slice has "
            f"{MIN_SIDE}x{MIN_SIDE} to {MAX_PIXELS:,}"
        )
    if not (np.issubdtype(values.dtype, np.integer) or np.issubdtype(values.dtype, np.floating)):
        raise InputError(
            f"{where}: {values.dtype} values are no grey levels, give uint8 0..255, or HU with "
            "window="
        )
    return values


def _shape(shape: tuple[int, ...]) -> str:
    return f"shape {tuple(shape)}, a slice is [H, W] or [H, W, 1]"


def _axes(shape: tuple[int, ...]) -> str:
    """Says which axes three are, as far as their lengths tell."""
    if shape[-1] in (2, 3, 4):
        return (
            f"shape {tuple(shape)} is [H, W, C], colour or channels last; a slice is [H, W], e.g. "
            "image[..., 0]"
        )
    if shape[0] in (1, 2, 3, 4):
        return (
            f"shape {tuple(shape)} is [C, H, W], channels first; a slice is [H, W], e.g. image[0]"
        )
    return (
        f"shape {tuple(shape)} has three axes, a slice is [H, W]; give a stack [N, H, W] as the "
        "images themselves"
    )


def _scaled(values: np.ndarray, where: str, window: tuple[float, float] | None) -> np.ndarray:
    """Returns uint8 as it is and HU through a window."""
    if values.dtype == np.uint8:
        if window is not None:
            raise InputError(
                f"{where}: uint8 is taken as it is, leave out window= (or, if these are HU, give "
                "int16)"
            )
        return values
    undefined = np.count_nonzero(~np.isfinite(values))
    if undefined:
        raise InputError(
            f"{where}: {undefined} of {values.size} pixels are NaN or infinite, repair the slice"
        )
    low = float(values.min())
    high = float(values.max())
    found = f"{values.dtype} values {low:g}..{high:g}"
    if low < high and max(abs(low), abs(high)) <= 1:
        raise InputError(
            f"{where}: {found} are neither HU nor 0..255; if 0..1 are black and white, give "
            "(255 * image).round().astype(np.uint8)"
        )
    if window is None:
        raise InputError(f"{where}: {found}, {NEEDS_WINDOW}")
    measured = values[values >= PADDING]
    if low < high and (not measured.size or measured.min() >= 0):
        raise InputError(
            f"{where}: {found} are no HU, which are below 0 in fat and air; subtract what was "
            "added to them, often 1024 or 32768 (0..255 are taken as uint8)"
        )
    # what was not measured is air, as in scans
    return eight_bit(Reading("hu").convert(values), window)
