"""Predicted masks as files, one per slice, written as they are computed."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from covjax.colours import COLOURS, rgb
from covjax.errors import InputError
from covjax.stages.task import Rows

# What each format holds, and the rows it needs.
FORMATS = {"png": ("predicted",), "npz": ("predicted", "pixel_probability")}
Save = Callable[[Sequence[str], Rows], None]


@contextmanager
def saved_predictions(
    folder: Path, form: str | None, several: bool = False
) -> Iterator[Save | None]:
    """Yields save(ids, rows), which writes a file per slice; in the end `folder` holds these only.

    "png" is the mask, see `mask_picture`; "npz" holds it as "mask" uint8 [H, W] of 0 and 1 (or
    more, with `several` classes), and "probability" of infection, of any class, float32 [H, W]
    before any post-processing. Both have the size of the slice. If anything fails, `folder` stays
    as it was. Without a `form` nothing is written, and what an earlier evaluation left is removed.

    Raises InputError for an id that cannot name a file inside the folder.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield (lambda ids, rows: _write(partial, ids, rows, form, several)) if form else None
        shutil.rmtree(folder, ignore_errors=True)
        if partial.exists():
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(folder: Path, ids: Sequence[str], rows: Rows, form: str, several: bool) -> None:
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
