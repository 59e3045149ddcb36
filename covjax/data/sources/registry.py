"""Where slices come from. A source lists its slices cheaply and decodes one at a time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covjax.data.contents import contents, digests, origin, prepared_dir
from covjax.data.formats.images import is_turned, list_images, read_image, read_picture
from covjax.data.formats.picture_masks import MaskFiles
from covjax.data.intensity import eight_bit, parse_window
from covjax.data.label_map import IGNORE, class_names, parse_classes, stamp
from covjax.data.listing import LeftOut
from covjax.data.resizing import check_spacing
from covjax.data.sources import phantom
from covjax.data.sources.index import PATIENT, label_of, read_index, read_patients
from covjax.data.sources.patients import LOOKS_ALIKE, Pseudonyms, look_alike, match
from covjax.data.sources.public import OPENERS, PUBLIC
from covjax.data.sources.scans import ENDINGS, is_mask, open_dicom_folder, open_nifti_folder
from covjax.data.sources.source import Slice, Source, fingerprint
from covjax.data.sources.unread import unused
from covjax.errors import InputError, unknown

TURNED_APART = "of picture and mask one is stored turned and says so: both are read upright, check that they fit"


def open_source(config: Any) -> Source:
    """Opens the source that `config` (the `data` section of a run) names.

    Raises InputError for an unknown source, a path that is not a folder, or a folder that is not of
    the source's form.
    """
    if config.source not in SOURCES:
        raise unknown("data.source", config.source, SOURCES)
    if config.source in INFECTED_ONLY and len(class_names(config.classes)) > 2:
        raise InputError(
            f"data.classes: the masks of {config.source} know infected or not only, leave it empty"
        )
    check_spacing(config.spacing, config.source)
    _check_patient_fields(config)
    if config.source == "phantom":
        return open_phantom(config)
    if not config.path:
        where = f" (get them from {PUBLIC[config.source].where})" if config.source in PUBLIC else ""
        raise InputError(
            f"data.path: empty, name the folder that holds the {config.source} slices{where}"
        )
    root = Path(config.path).expanduser()
    if not root.is_dir():
        raise InputError(f"data.path: {root} is not a folder, check the path")
    return SOURCES[config.source](root, config)


def _check_patient_fields(config: Any) -> None:
    """Raises InputError for fields on patients that the source would not heed."""
    column = config.patient_column
    pattern = config.patient_pattern
    named = column.strip().lower() != PATIENT
    if config.source not in OWN and (named or pattern):
        field, value = ("patient_column", column) if named else ("patient_pattern", pattern)
        raise InputError(
            f"data.{field}: '{value}', but data.source={config.source} says itself which patient a slice is of, leave "
            "the field out"
        )
    if named and pattern:
        raise InputError(
            f"data.patient_column: '{column}', but data.patient_pattern finds patients in names, leave one of them out"
        )


def open_phantom(config: Any) -> Source:
    """Synthetic chest CT, generated as it is read."""
    p = config.phantom
    if p.patients < 1 or p.slices_per_patient < 1 or p.size < 32:
        raise InputError(
            "data.phantom: patients and slices_per_patient must be at least 1 and size at least 32"
        )

    def load(i: int) -> Slice:
        patient, index = divmod(i, p.slices_per_patient)
        image, mask, label = phantom.phantom_slice(
            patient, index, slices_per_patient=p.slices_per_patient, size=p.size, seed=p.seed
        )
        return Slice(ids[i], image, mask, label, f"phantom{patient:04d}", "")

    count = p.patients * p.slices_per_patient
    ids = tuple(
        f"phantom{i // p.slices_per_patient:04d}_{i % p.slices_per_patient:03d}"
        for i in range(count)
    )
    made = ["phantom", phantom.PHANTOM_VERSION, p.slices_per_patient, p.size, p.seed]
    origins = tuple(origin(*made, i) for i in range(count))
    return Source("phantom", ids, load, fingerprint([*made, p.patients]), origins)


def open_folder(root: Path, config: Any) -> Source:
    """Any folder of pictures: images/ (or the folder itself), masks of the same stems, index.csv
    (id or file, ..).

    Masks lie in masks/ (NAME, NAME_mask, NAME_seg, .. of ENDINGS) or beside their images (with such
    an ending). A healthy slice needs no mask file: nothing in it is infected. Whose slice it is
    stands in the column `config.patient_column`, or in its name by `config.patient_pattern`.
    """
    images = (
        list_images(root / "images")
        if (root / "images").is_dir()
        else list_images(root, but="masks")
    )
    masks = list_images(root / "masks") if (root / "masks").is_dir() else {}
    images, masks = _matched(images, masks)
    rows = read_index(root, images)
    stems = tuple(rows or images)
    window = parse_window(config.window)
    classes = parse_classes(config.classes)
    marked = MaskFiles(list(masks.values()), config.mask_threshold, classes)
    pattern = config.patient_pattern
    show = config.show_patients
    listed = {} if pattern else read_patients(root, rows, config.patient_column)
    patients = [match(pattern, stem) if pattern else listed.get(stem, "") for stem in stems]
    used = [*images.values(), *masks.values(), *([root / "index.csv"] if rows else [])]
    digest = digests(root, used, prepared_dir(config))
    known_by = Pseudonyms(contents(root, digest))
    known = set(patients) - {""}
    hidden = bool(known) and not show
    doubtful = look_alike(known)
    ids = stems
    if hidden:
        pairs = zip(stems, patients, strict=True)
        ids = tuple(known_by.hide(stem, patient, pattern, known) for stem, patient in pairs)
        check_distinct(stems, ids)

    def load(i: int) -> Slice:
        stem = stems[i]
        row = rows.get(stem, {})
        picture = read_picture(images[stem], config.intensity, config.bits)
        image = eight_bit(picture.values, window if picture.intensity == "hu" else None)
        mask = marked.read(masks[stem]) if stem in masks else None
        label = label_of(row, mask, images[stem])
        if mask is None and label == 0:
            mask = np.zeros_like(image)
        if mask is not None and mask.shape != image.shape:
            raise InputError(
                f"{images[stem]}: image {image.shape} and mask {mask.shape} differ in size, export them alike"
            )
        patient = known_by.of(patients[i]) if hidden else patients[i]
        split = row.get("split", "")
        values = picture.intensity
        notes = picture.notes + (LOOKS_ALIKE,) * (patients[i] in doubtful)
        if stem in masks and picture.turned != is_turned(masks[stem]):
            notes += (TURNED_APART,)
        return Slice(ids[i], image, mask, label, patient, split, values, notes=notes)

    def hide(i: int, text: str) -> str:
        return known_by.hide(text, patients[i], pattern, known)

    left_out = unused(root, used, "folder")
    if hidden:
        left_out = tuple(
            LeftOut(*(known_by.hide(text, "", pattern, known) for text in one)) for one in left_out
        )
    settings = [config.intensity, window, config.bits, config.mask_threshold, stamp(config.classes)]
    settings += [IGNORE in classes.values(), pattern, config.patient_column.strip().lower(), hidden]
    return Source(
        "folder",
        ids,
        load,
        fingerprint(["folder", settings, contents(root, digest)]),
        tuple(origin(digest[images[stem]]) for stem in stems),
        {known_by.of(patient): patient for patient in known} if hidden else {},
        left_out,
        hide if hidden else Source.hide,
    )


def check_distinct(stems: Sequence[str], ids: Sequence[str]) -> None:
    """Raises InputError if two pictures have one id."""
    first: dict[str, str] = {}
    for stem, slice_id in zip(stems, ids, strict=True):
        if first.setdefault(slice_id, stem) != stem:
            raise InputError(
                f"{stem}: has the name of {first[slice_id]} where names of patients are replaced, rename one of them "
                "or set data.show_patients=True"
            )


def _matched(
    images: dict[str, Path], masks: dict[str, Path]
) -> tuple[dict[str, Path], dict[str, Path]]:
    """Returns images and the mask of each that has one, by the image's stem: NAME, NAME_mask .. in
    masks/ or beside it.

    Raises InputError for a mask without its image, and for a second mask.
    """
    beside = {stem: path for stem, path in images.items() if is_mask(stem, images)}
    images = {stem: path for stem, path in images.items() if stem not in beside}
    found = {}
    for stem in images:
        mine = [masks[stem + ending] for ending in ENDINGS if stem + ending in masks]
        mine += [beside[stem + ending] for ending in ENDINGS[1:] if stem + ending in beside]
        if len(mine) > 1:
            raise InputError(f"{mine[1]}: {stem} has another mask, {mine[0]}, remove one of them")
        if mine:
            found[stem] = mine[0]
    used = set(found.values())
    for stem, path in masks.items():
        if path not in used:
            raise InputError(
                f"{path}: a mask without its image, add images/{stem} or remove the mask"
            )
    return images, found


# The paper's released pictures are screenshots of figures; this is where the CT lies in them (rows,
# columns).
PRLAB21_CT = (slice(16, 264), slice(40, 263))
PRLAB21_FRAMES = {
    "ct": "the CT, cut out of the figure",
    "full": "the whole figure, its margin labelled infected, as released and as the paper scores it",
    "ignore_margin": "the whole figure, its margin labelled 255, which no loss and no score counts",
}


def open_prlab21(root: Path, config: Any) -> Source:
    """The paper's own 829 slices, 304x304 screenshots: brought to `data.frame`, the JPEG masks
    thresholded.
    """
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
        image = read_image(images[ids[i]])
        margin = _margin(images[ids[i]], image)
        label = label_of(rows[ids[i]], None, images[ids[i]])
        mask = np.zeros_like(image)
        if label == 1:
            if ids[i] not in masks:
                raise InputError(
                    f"{images[ids[i]]}: infected, but masks/ holds no {ids[i]}, restore the mask"
                )
            mask = read_image(masks[ids[i]])
            _margin(masks[ids[i]], mask)
            mask = (mask > 127).astype(np.uint8)
        if config.frame == "ignore_margin":
            mask[margin] = IGNORE
        if config.frame == "ct":
            image = image[PRLAB21_CT]
            mask = mask[PRLAB21_CT]
        return Slice(ids[i], image, mask, label, patients[ids[i]], "")

    used = [*images.values(), *masks.values(), root / "index.csv"]
    digest = digests(root, used, prepared_dir(config))
    return Source(
        "prlab21",
        ids,
        load,
        fingerprint(["prlab21", config.frame, contents(root, digest)]),
        tuple(origin(digest[images[name]]) for name in ids),
        left_out=unused(root, used, "prlab21"),
    )


def _margin(path: Path, picture: np.ndarray) -> np.ndarray:
    """Returns where a 304x304 figure is margin, bool [304, 304]; that it is white there is what
    tells such a figure.
    """
    margin = np.ones(picture.shape, bool)
    margin[PRLAB21_CT] = False
    if picture.shape != (304, 304) or (picture[margin] > 200).mean() < 0.8:
        raise InputError(
            f"{path}: not a 304x304 figure with a white margin, use data.source=folder for plain slices"
        )
    return margin


INFECTED_ONLY = ("phantom", "prlab21")  # sources whose masks are made, not read by data.classes
OWN = ("folder", "nifti", "dicom")  # sources that users lay out, and say of whose slices are whose
SOURCES = {
    "folder": open_folder,
    "phantom": open_phantom,
    "prlab21": open_prlab21,
    "nifti": open_nifti_folder,
    "dicom": open_dicom_folder,
    **OPENERS,
}
