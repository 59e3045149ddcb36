"""What can be screened: scans and folders of pictures, read one slice at a time."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from covjax.data.formats import images
from covjax.data.formats.dicom import directory_files
from covjax.data.formats.dicom_kinds import is_dicom, is_directory
from covjax.data.formats.endings import bare_name
from covjax.data.formats.hounsfield import OFFSETS
from covjax.data.formats.other_scans import other_kind
from covjax.data.formats.scans import is_nifti, nothing_found, open_scans
from covjax.data.formats.volumes import Volume
from covjax.data.listing import LeftOut, LeftOuts, Skip, list_files
from covjax.data.sources.scans import ENDINGS
from covjax.errors import InputError
from covjax.files import SHORTEN

TRAINING_FOLDERS = ("masks", "lungs")  # folders in which a training set keeps what is no scan
PICTURES = "_pictures"  # added to the name of a folder's pictures where a volume has that name

MAX_NAME = 255 - len(".99of99.nii.gz.partial")  # bytes of a name that a mask is called after


@dataclass(frozen=True)
class Scan:
    """A volume, or the pictures of one folder (`volume` is None)."""

    name: str
    path: Path  # what errors name
    intensity: str  # hu or 8bit
    # of the slices: NAME/0000 from the feet up, or paths of pictures without suffix
    ids: Sequence[str]
    files: Sequence[Path]  # one per picture, or all of the volume
    read: Callable[[int], np.ndarray]  # values [H, W] of a slice; raises InputError
    volume: Volume | None = None
    notes: Sequence[str] = ()  # what is uncertain but usable, shown wherever results are

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        """Millimetres between slices, rows and columns; None where unknown."""
        return self.volume.spacing if self.volume else None


Opener = Callable[[], Scan]


def find_screened(
    path: Path, declared: str, bits: int, skip: Skip
) -> tuple[dict[str, Opener], tuple[LeftOut, ...]]:
    """Returns {name: what opens the scan}, sorted, and what was left out and why.

    Of a file, or of all below a folder. `declared` (hounsfield.INTENSITIES) is for volumes and
    pictures of more than 8 bits, `bits` for those pictures. Openers raise InputError for what
    cannot be read; so does this function when there is nothing or when names clash, while DICOM
    files that cannot be used and links to nothing are handed to `skip`.
    """
    if not path.exists():
        raise InputError(
            f"--input: {path} does not exist, name a scan, a picture or a folder of them"
        )
    root = path.parent if path.is_file() else path
    left_out = LeftOuts(root)
    skipped = []

    def passed_over(error: InputError) -> None:
        skip(error)
        skipped.append(error)

    files = _files(path, passed_over, left_out)
    masks = _masks(files, root)
    pictures = []
    volumes = []
    for file in files:
        if file in masks:
            left_out(
                file, f"by its name a mask of {masks[file]}, no scan; if it is one, name it alone"
            )
            continue
        try:
            if file.suffix.lower() in images.SUFFIXES:
                pictures.append(file)
            elif is_nifti(file) or is_dicom(file):
                volumes.append(file)
            else:
                left_out(file, other_kind(file))
        except InputError as error:
            passed_over(error)
    found: dict[str, Opener] = {}
    for name, opener in open_scans(volumes, root, declared, passed_over, left_out).items():
        found[name] = partial(_volume, name, opener)
    for folder, inside in _by_folder(pictures).items():
        name = _name(folder, root)
        ids = _identified(inside, root)
        while name in found:
            name += PICTURES
            ids = {f"{name}/{file.stem}": file for file in ids.values()}
        found[name] = partial(_pictures, name, folder, ids, declared, bits)
    for name in [name for name in found if _is_long(name)]:
        passed_over(_too_long(root / name))
        del found[name]
    if not found and not skipped:
        raise nothing_found(
            f"--input: {path}", "scan (.nii, .nii.gz, DICOM) and no picture", left_out
        )
    return dict(sorted(found.items())), left_out.listed()


def _files(path: Path, skip: Skip, left_out: LeftOuts) -> list[Path]:
    if not path.is_file():
        return list_files(path, skip, left_out)
    return directory_files(path) if is_directory(path) else [path]


def _is_long(name: str) -> bool:
    return any(len(os.fsencode(part)) > MAX_NAME for part in name.split("/"))


def _too_long(path: Path) -> InputError:
    return InputError(f"{path}: names of files are made of it, {SHORTEN} to {MAX_NAME} bytes")


def _masks(files: Sequence[Path], root: Path) -> dict[Path, str]:
    """Returns the NIfTI files and pictures that are masks by their names, and of what each is.

    They are called NAME_mask, NAME_seg, .. (ENDINGS) next to NAME, or lie in a training set's
    folders (TRAINING_FOLDERS). What they hold would be taken for dark 8-bit slices.
    """
    names = {
        file.relative_to(root).parent / bare_name(file.name)
        for file in files
        if file.is_relative_to(root)
    }
    # of series and of pictures
    names |= {folder for name in names for folder in name.parents if folder != Path()}
    found = {}
    for file in files:
        if not (
            is_nifti(file) or file.suffix.lower() in images.SUFFIXES
        ) or not file.is_relative_to(root):
            continue
        inside = file.relative_to(root).parent / bare_name(file.name)
        stems = [
            inside.name.removesuffix(ending) for ending in ENDINGS if inside.name.endswith(ending)
        ]
        owners = [inside.with_name(stem) for stem in stems[1:] if stem]
        if inside.parts[0] in TRAINING_FOLDERS and len(inside.parts) > 1:
            below = Path(*inside.parts[1:])
            owners += [
                home / below.with_name(stem)
                for home in (Path("images"), Path())
                for stem in stems
                if stem
            ]
        owner = next((owner for owner in owners if owner in names), None)
        if owner is not None:
            found[file] = owner.as_posix()
    return found


def _volume(name: str, opener: Callable[[], Volume]) -> Scan:
    volume = opener()
    ids = [f"{name}/{k:04d}" for k in range(len(volume))]
    return Scan(
        name,
        volume.path,
        volume.intensity,
        ids,
        volume.files,
        volume.read,
        volume,
        volume.all_notes,
    )


def _pictures(name: str, folder: Path, files: dict[str, Path], declared: str, bits: int) -> Scan:
    """Opens the pictures of a folder; all are HU or none, HU only where declared."""
    paths = list(files.values())
    # the others are named where they are read
    first = next((path for path in paths if _opens(path)), paths[0])
    hu = declared in OFFSETS and images.is_deep(first)
    intensity = "hu" if hu else "8bit"
    notes = []

    def read(index: int) -> np.ndarray:
        picture = images.read_picture(paths[index], declared, bits)
        if picture.intensity != intensity:
            kinds = {
                "8bit": "an 8-bit picture",
                "hu": f"a picture of more bits, which --intensity={declared} makes HU",
            }
            raise InputError(
                f"{paths[index]}: {kinds[picture.intensity]}, unlike {first.name} next to it; "
                "screen it apart"
            )
        notes.extend(note for note in picture.notes if note not in notes)
        return picture.values

    return Scan(name, folder, intensity, list(files), paths, read, notes=notes)


def _opens(picture: Path) -> bool:
    try:
        images.is_deep(picture)
    except InputError:
        return False
    return True


def _by_folder(pictures: Sequence[Path]) -> dict[Path, list[Path]]:
    found: dict[Path, list[Path]] = {}
    for picture in pictures:
        found.setdefault(picture.parent, []).append(picture)
    return found


def _name(folder: Path, root: Path) -> str:
    return (
        folder.relative_to(root).as_posix() if folder != root else root.resolve().name or "pictures"
    )


def _identified(pictures: Sequence[Path], root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for picture in pictures:
        name = (picture.relative_to(root).parent / bare_name(picture.name)).as_posix()
        if name in found:
            raise InputError(
                f"{picture}: {found[name].name} has the same name without its suffix, rename one "
                "of them"
            )
        found[name] = picture
    return found
