"""The slices of the paper: 829 screenshots of figures, in whose white margin the CT lies."""

from pathlib import Path

import numpy as np

from covjax.data.formats.images import list_images, read_image
from covjax.data.label_map import IGNORE
from covjax.data.settings import DataSettings
from covjax.data.sources.files import source_of_files
from covjax.data.sources.index import PATIENT, label_of, read_index, read_patients
from covjax.data.sources.source import Slice, Source
from covjax.data.sources.spec import SourceSpec
from covjax.errors import InputError

PRLAB21_CT = (slice(16, 264), slice(40, 263))  # rows and columns of the CT in a figure


def open_prlab21(root: Path, config: DataSettings) -> Source:
    """Opens the figures, brought to `config.frame`, their JPEG masks thresholded."""
    images = list_images(root / "images")
    masks = list_images(root / "masks")
    rows = read_index(root, images)
    patients = read_patients(root, rows, PATIENT)
    if not patients:
        raise InputError(
            f"{root / 'index.csv'}: prlab21 needs it with the columns id, label and patient"
        )
    ids = tuple(rows)

    def load(i: int) -> Slice:
        name = ids[i]
        image = _figure(images[name])
        label = label_of(rows[name], None, images[name])
        mask = _mask(masks.get(name), name, images[name]) if label else np.zeros_like(image)
        if config.frame == "ignore_margin":
            mask[_margin(mask.shape)] = IGNORE
        if config.frame == "ct":
            image = image[PRLAB21_CT]
            mask = mask[PRLAB21_CT]
        return Slice(name, image, mask, label, patients[name])

    # Pictures that index.csv does not list are refused, so these are all.
    figures = {name: images[name] for name in ids}
    others = [*masks.values(), root / "index.csv"]
    return source_of_files(
        "prlab21", root, config, figures, load, others=others, settings=[config.frame]
    )


def _mask(path: Path | None, name: str, image: Path) -> np.ndarray:
    if path is None:
        raise InputError(f"{image}: infected, but masks/ holds no {name}, restore the mask")
    return (_figure(path) > 127).astype(np.uint8)


def _figure(path: Path) -> np.ndarray:
    """Reads a 304x304 figure with a white margin. Raises InputError for any other picture."""
    picture = read_image(path)
    if picture.shape != (304, 304) or (picture[_margin(picture.shape)] > 200).mean() < 0.8:
        raise InputError(
            f"{path}: not a 304x304 figure with a white margin, use data.source=folder for plain "
            "slices"
        )
    return picture


def _margin(shape: tuple[int, ...]) -> np.ndarray:
    margin = np.ones(shape, bool)
    margin[PRLAB21_CT] = False
    return margin


PRLAB21 = SourceSpec(
    "prlab21",
    "the paper's slices, screenshots of figures",
    open_prlab21,
    "829 slices of 8 patients with masks of infection; see data.frame",
    "images/, masks/, index.csv (columns id, label, patient)",
    has_spacing=False,
    has_classes=False,
)
