"""How scans become a source of slices, whatever their format."""

from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from covjax.data.contents import contents, digests, origin, prepared_dir
from covjax.data.formats.label_volumes import label_notes, read_labels
from covjax.data.formats.scans import Opener
from covjax.data.formats.volumes import Volume
from covjax.data.intensity import eight_bit, parse_window
from covjax.data.label_map import infected, map_classes, parse_classes, stamp
from covjax.data.listing import LeftOut, LeftOuts
from covjax.data.resizing import scaled_shape
from covjax.data.settings import DataSettings
from covjax.data.sources.patients import LOOKS_ALIKE, Pseudonyms, look_alike
from covjax.data.sources.source import Slice, Source, fingerprint
from covjax.data.sources.unread import unused

# of a mask's name after its scan's
ENDINGS = ("", "_mask", "_seg", "_label", "-mask", "-seg", "-label", "_infection")


class Scan(NamedTuple):
    """A scan and what is known of it before a voxel is read."""

    name: str
    open: Opener
    patient: str  # "" when unknown
    mask: Path | None  # None: healthy throughout
    lungs: Path | None = None
    split: str = ""
    label: int | None = None  # 0: said to be healthy, which a mask may contradict

    @property
    def masks(self) -> list[Path]:
        return [path for path in (self.mask, self.lungs) if path]


def is_mask(name: str, names: Collection[str]) -> bool:
    """Returns whether a name is that of another one's mask, by its ending."""
    return any(
        name.endswith(ending) and name.removesuffix(ending) in names for ending in ENDINGS[1:]
    )


class _Slices:
    """The slices of scans, in order, and the names by which slices and patients are shown."""

    def __init__(
        self,
        root: Path,
        scans: Sequence[Scan],
        config: DataSettings,
        show: bool,
        index: Path | None,
    ):
        self.root = root
        self.scans = scans
        self.config = config
        self.show = show
        self.window = parse_window(config.window)
        self.classes = parse_classes(config.classes)
        self.opened = lru_cache(maxsize=4)(self._open)
        self.files: list[list[Path]] = []
        self.places: list[tuple[int, int]] = []  # of each slice: its scan, and its number in it
        for j in range(len(scans)):
            self.files.append(self.opened(j).files)
            self.places += [(j, k) for k in range(len(self.opened(j)))]
        self.used = [path for files in self.files for path in files]
        self.used += [path for scan in scans for path in scan.masks]
        self.used += [index] if index else []
        self.digest = digests(root, self.used, prepared_dir(config))
        self.contents = contents(root, self.digest)
        self.pseudonyms = Pseudonyms(self.contents)
        self.doubtful = look_alike(scan.patient for scan in scans)
        names = [scan.name for scan in scans] if show else self._pseudonyms()
        self.ids = tuple(f"{names[j]}_{k:04d}" for j, k in self.places)

    def _open(self, j: int) -> Volume:
        return self.scans[j].open()

    def _pseudonyms(self) -> list[str]:
        """Returns for each scan its patient's pseudonym and which of the patient's scans it is."""
        seen: Counter[str] = Counter()
        names = []
        for scan in self.scans:
            seen[scan.patient] += 1
            names.append(f"{self.pseudonyms.of(scan.patient)}_{seen[scan.patient]}")
        return names

    @property
    def origins(self) -> tuple[str, ...]:
        whole = [origin([self.digest[path] for path in paths]) for paths in self.files]
        return tuple(origin(whole[j], k) for j, k in self.places)

    @property
    def settings(self) -> list[Any]:
        """Returns what of the configuration decides what is read."""
        c = self.config
        values = [c.intensity, self.window, stamp(c.classes), c.patient_pattern]
        return [*values, c.patient_column.strip().lower(), self.show, c.mask_geometry]

    def hide(self, i: int, text: str) -> str:
        """Returns a text on slice i without names of patients, unless these are shown."""
        if self.show:
            return text
        j, _ = self.places[i]
        scan = self.scans[j]
        paths = {self.opened(j).path, *self.files[j], *scan.masks}
        hidden = self.pseudonyms.hide_paths(text, paths, self.root)
        return self.pseudonyms.hide(hidden, scan.patient)

    def load(self, i: int) -> Slice:
        """Reads slice i. Raises InputError naming a file that cannot be used."""
        j, k = self.places[i]
        scan = self.scans[j]
        volume = self.opened(j)
        if self.config.spacing:  # here, where errors can name the file
            scaled_shape(volume.path, volume.shape[1:], volume.spacing, self.config.spacing)
        image = eight_bit(volume.read(k), self.window if volume.intensity == "hu" else None)
        mask = np.zeros_like(image)
        lungs = None
        notes = volume.all_notes + (LOOKS_ALIKE,) * (scan.patient in self.doubtful)
        by = self.config.mask_geometry
        if scan.mask is not None:
            mask = map_classes(read_labels(scan.mask, volume, k, by), self.classes, scan.mask)
            notes += label_notes(scan.mask, volume, by)
        if scan.lungs is not None:
            lungs = read_labels(scan.lungs, volume, k, by) > 0
            notes += label_notes(scan.lungs, volume, by, "lung mask")
        return Slice(
            id=self.ids[i],
            image=image,
            mask=mask,
            label=0 if scan.label == 0 else int(infected(mask).any()),
            patient=scan.patient if self.show else self.pseudonyms.of(scan.patient),
            split=scan.split,
            values=volume.intensity,
            lungs=lungs,
            spacing=volume.spacing and volume.spacing[1:],
            notes=notes,
        )

    def left_out(self, unread: tuple[LeftOut, ...]) -> tuple[dict[str, str], tuple[LeftOut, ...]]:
        """Returns the key to pseudonyms of patients and files, and what may be shown of files."""
        if self.show:
            return {}, unread
        of = self.pseudonyms.of
        shown = self.pseudonyms.hide_left_out(unread)
        known = {of(scan.patient): scan.patient for scan in self.scans}
        return known | {of(file): file for file in shown.values()}, tuple(shown)


def scan_source(
    name: str,
    root: Path,
    scans: Sequence[Scan],
    config: DataSettings,
    *,
    show: bool = True,
    index: Path | None = None,
    left_out: LeftOuts | None = None,
) -> Source:
    """Makes the slices of scans a source, in order; ids are SCAN_0000.

    A pseudonym stands for SCAN unless `show`. `index` is the table that was read, `left_out` what
    of
    the folder is known to be no scan. Raises InputError when the settings of `config` cannot be
    used.
    """
    found = _Slices(root, scans, config, show, index)
    key, unread = found.left_out(unused(root, found.used, name, left_out))
    stamped = fingerprint([name, found.settings, found.contents])
    return Source(name, found.ids, found.load, stamped, found.origins, key, unread, found.hide)
