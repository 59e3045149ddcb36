"""Predicted masks as files, one per slice, written as they are computed."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from covjax.colours import COLOURS, rgb
from covjax.errors import InputError
from covjax.stages.task import Rows

# What each format holds, and the rows it needs.
FORMATS = {"png": ("predicted",), "npz": ("predicted", "pixel_probability")}
Save = Callable[[Sequence[str], Rows], None]


def prediction_writer(folder: Path, form: str | None, several: bool = False) -> Save | None:
    """Returns save(ids, rows), which writes a file per slice into `folder`; None without a `form`.

    "png" is the mask, see `mask_picture`; "npz" holds it as "mask" uint8 [H, W] of 0 and 1 (or
    more, with `several` classes), and "probability" of infection, of any class, float32 [H, W]
    before any post-processing. Both have the size of the slice. `save` raises InputError for an id
    that cannot name a file inside the folder.
    """
    if form is None:
        return None
    return partial(_write, folder, form, several)


def _write(folder: Path, form: str, several: bool, ids: Sequence[str], rows: Rows) -> None:
    for k, slice_id in enumerate(ids):
        path = file_of(folder, slice_id, f".{form}")
        path.parent.mkdir(parents=True, exist_ok=True)
        mask = rows["predicted"][k].astype(np.uint8)
        if form == "png":
            mask_picture(mask, several).save(path)
        else:
            np.savez_compressed(path, mask=mask, probability=rows["pixel_probability"][k])


def mask_picture(mask: np.ndarray, several: bool) -> Image.Image:
    """Returns a mask uint8 [H, W] as a picture: 0 and 255, or the numbers of classes in colours."""
    if not several:
        return Image.fromarray(mask * 255)
    picture = Image.fromarray(mask)
    picture.putpalette([0, 0, 0] + [value for colour in COLOURS for value in rgb(colour)])
    return picture


def file_of(folder: Path, slice_id: str, suffix: str) -> Path:
    """Returns the file of a slice: its id, in which "/" separates folders.

    Raises InputError if it leads out of the folder.
    """
    parts = slice_id.split("/")
    if (
        "\0" in slice_id
        or PurePosixPath(slice_id).is_absolute()
        or not {"", ".", ".."}.isdisjoint(parts)
    ):
        raise InputError(f"{slice_id!r}: this id cannot name a file, rename the slice")
    return folder / (slice_id + suffix)
