"""The source `folder`: pictures that a user laid out, with masks and an index next to them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covjax.data.contents import contents, digests, origin, prepared_dir
from covjax.data.formats.images import is_turned, list_images, read_picture
from covjax.data.formats.picture_masks import MaskFiles
from covjax.data.intensity import eight_bit, parse_window
from covjax.data.label_map import IGNORE, parse_classes, stamp
from covjax.data.listing import LeftOut
from covjax.data.settings import DataSettings
from covjax.data.sources.index import label_of, read_index, read_patients
from covjax.data.sources.patients import LOOKS_ALIKE, Pseudonyms, look_alike, match
from covjax.data.sources.scans import ENDINGS, is_mask
from covjax.data.sources.source import Slice, Source, fingerprint
from covjax.data.sources.spec import SourceSpec
from covjax.data.sources.unread import unused
from covjax.errors import InputError

TURNED_APART = (
    "of picture and mask one is stored turned and says so: both are read upright, check that they "
    "fit"
)


class _Pictures:
    """Pictures of a folder, their masks, and the names by which slices and patients are shown."""

    def __init__(self, root: Path, config: DataSettings):
        self.config = config
        self.images, self.masks = _listed(root)
        self.rows = read_index(root, self.images)
        self.stems = tuple(self.rows or self.images)
        self.window = parse_window(config.window)
        self.classes = parse_classes(config.classes)
        self.marked = MaskFiles(list(self.masks.values()), config.mask_threshold, self.classes)
        self.patients = self._patients(root)
        index = [root / "index.csv"] if self.rows else []
        self.used = [*self.images.values(), *self.masks.values(), *index]
        self.digest = digests(root, self.used, prepared_dir(config))
        self.contents = contents(root, self.digest)
        self.pseudonyms = Pseudonyms(self.contents)
        self.known = set(self.patients) - {""}
        self.hidden = bool(self.known) and not config.show_patients
        self.doubtful = look_alike(self.known)
        self.ids = tuple(map(self.hide, range(len(self.stems)), self.stems))
        _check_distinct(self.stems, self.ids)

    def _patients(self, root: Path) -> list[str]:
        if pattern := self.config.patient_pattern:
            return [match(pattern, stem) for stem in self.stems]
        listed = read_patients(root, self.rows, self.config.patient_column)
        return [listed.get(stem, "") for stem in self.stems]

    def hide(self, i: int, text: str) -> str:
        """Returns a text on slice i without names of patients, where these are to be hidden."""
        if not self.hidden:
            return text
        return self.pseudonyms.hide(text, self.patients[i], self.config.patient_pattern, self.known)

    def hide_left_out(self, left_out: tuple[LeftOut, ...]) -> tuple[LeftOut, ...]:
        """Returns what is not read, without names of patients where these are hidden."""
        if not self.hidden:
            return left_out
        pattern = self.config.patient_pattern
        hide = self.pseudonyms.hide
        return tuple(
            LeftOut(*(hide(text, "", pattern, self.known) for text in one)) for one in left_out
        )

    def load(self, i: int) -> Slice:
        """Reads slice i. Raises InputError naming a file that cannot be used."""
        path = self.images[self.stems[i]]
        marked = self.masks.get(self.stems[i])
        row = self.rows.get(self.stems[i], {})
        picture = read_picture(path, self.config.intensity, self.config.bits)
        image = eight_bit(picture.values, self.window if picture.intensity == "hu" else None)
        mask = None if marked is None else self.marked.read(marked)
        label = label_of(row, mask, path)
        if mask is None and label == 0:
            mask = np.zeros_like(image)
        if mask is not None and mask.shape != image.shape:
            raise InputError(
                f"{path}: image {image.shape} and mask {mask.shape} differ in size, export them "
                "alike"
            )
        patient = self.patients[i]
        notes = picture.notes + (LOOKS_ALIKE,) * (patient in self.doubtful)
        if marked is not None and picture.turned != is_turned(marked):
            notes += (TURNED_APART,)
        return Slice(
            id=self.ids[i],
            image=image,
            mask=mask,
            label=label,
            patient=self.pseudonyms.of(patient) if self.hidden else patient,
            split=row.get("split", ""),
            values=picture.intensity,
            notes=notes,
        )

    @property
    def settings(self) -> list[Any]:
        """Returns what of the configuration decides what is read."""
        c = self.config
        values = [c.intensity, self.window, c.bits, c.mask_threshold, stamp(c.classes)]
        column = c.patient_column.strip().lower()
        ignored = IGNORE in self.classes.values()
        return [*values, ignored, c.patient_pattern, column, self.hidden]


def open_folder(root: Path, config: DataSettings) -> Source:
    """Opens a folder of pictures: images/ (or the folder itself), masks/, index.csv.

    Masks lie in masks/ (NAME, NAME_mask, NAME_seg, .. of ENDINGS) or next to their images (with
    such an ending). A healthy slice needs no mask file: nothing in it is infected. The patient of a
    slice stands in the column `config.patient_column`, or in its name by `config.patient_pattern`.
    """
    found = _Pictures(root, config)
    return Source(
        "folder",
        found.ids,
        found.load,
        fingerprint(["folder", found.settings, found.contents]),
        tuple(origin(found.digest[found.images[stem]]) for stem in found.stems),
        {found.pseudonyms.of(name): name for name in found.known} if found.hidden else {},
        found.hide_left_out(unused(root, found.used, "folder")),
        found.hide,
    )


def _check_distinct(stems: Sequence[str], ids: Sequence[str]) -> None:
    """Raises InputError if two pictures have one id once names of patients are replaced."""
    first: dict[str, str] = {}
    for stem, slice_id in zip(stems, ids, strict=True):
        if first.setdefault(slice_id, stem) != stem:
            raise InputError(
                f"{stem}: has the name of {first[slice_id]} where names of patients are replaced, "
                "rename one of them or set data.show_patients=True"
            )


def _listed(root: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Returns images and the mask of each that has one, by the image's stem.

    Raises InputError for a mask without its image, and for a second mask.
    """
    apart = (root / "images").is_dir()
    listed = list_images(root / "images") if apart else list_images(root, but="masks")
    masks = list_images(root / "masks") if (root / "masks").is_dir() else {}
    neighbours = {stem: path for stem, path in listed.items() if is_mask(stem, listed)}
    images = {stem: path for stem, path in listed.items() if stem not in neighbours}
    found: dict[str, Path] = {}
    for stem in images:
        mine = [masks[stem + ending] for ending in ENDINGS if stem + ending in masks]
        mine += [neighbours[stem + ending] for ending in ENDINGS[1:] if stem + ending in neighbours]
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


FOLDER = SourceSpec(
    "folder",
    "your own pictures",
    open_folder,
    "patients, labels and splits as index.csv says, infection as masks mark it",
    "images/ (or pictures), masks/ of the same names, index.csv (id or file, label, patient, "
    "split)",
    declares_patients=True,
    has_spacing=False,
    split="column split of index.csv",
)
