"""Finding volumes in files and folders, NIfTI and DICOM alike."""

from collections.abc import Callable, Sequence
from pathlib import Path

from covjax.data import dicom, nifti
from covjax.data.index import bare_name
from covjax.data.series import open_series, read_series
from covjax.data.volumes import Volume
from covjax.errors import InputError

Opener = Callable[[], Volume]


def is_nifti(path: Path) -> bool:
    """Tells NIfTI files by their suffix."""
    return path.name.lower().endswith(nifti.SUFFIXES)


def _stop(error: InputError) -> None:
    raise error


def find_scans(
    path: Path, told: str = "auto", *, skip: Callable[[InputError], None] = _stop, files: Sequence[Path] | None = None
) -> dict[str, Opener]:
    """Returns {name: what opens the volume} of a file, or of every NIfTI file and DICOM series below a folder, sorted.

    Names are paths without suffix below `path`, of a series that of its folder; a number is added where several series
    share one. Hidden files, links out of the folder and files of other kinds are left out; with `files`, all but those.
    `told` says what the values are (volumes.INTENSITIES). Openers raise InputError for what cannot be read. So does
    this function for a DICOM file that cannot be used, unless `skip` takes the error and returns; when there is
    nothing, not even what was skipped; or when two scans have one name.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder, check the path")
    if files is None:
        files = [path] if path.is_file() else list_files(path)
    root = path.parent if path.is_file() else path
    found: dict[str, Opener] = {}
    skipped = []

    def passed_over(error: InputError) -> None:
        skip(error)
        skipped.append(error)

    def add(name: str, opener: Opener, of: Path) -> None:
        if name in found:
            raise InputError(f"{of}: another scan has the same name without its suffix, rename one of them")
        found[name] = opener

    for file in filter(is_nifti, files):
        name = (file.relative_to(root).parent / bare_name(file.name)).as_posix()
        add(name, lambda file=file: nifti.open_nifti(file, told), file)
    rest = [file for file in files if not is_nifti(file) and (dicom.is_dicom(file) or file == path)]
    for name, place, (tags, frames) in _named(read_series(rest, passed_over), root):
        add(name, lambda p=place, t=tags, f=frames: open_series(p, t, f, told), place)
    if not found and not skipped:
        raise InputError(f"{path}: holds no CT volume (.nii, .nii.gz or DICOM), point to scans")
    return dict(sorted(found.items()))


def list_files(folder: Path, skip: Callable[[InputError], None] = _stop) -> list[Path]:
    """Returns the files below a folder, sorted, without hidden ones and links that lead out of it.

    Raises InputError for a link to nothing, unless `skip` takes the error and returns.
    """
    home, found = folder.resolve(), []
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.is_symlink() and not path.exists():
            skip(InputError(f"{path}: a link to nothing, restore what it points to or remove it"))
        elif path.is_file() and path.resolve().is_relative_to(home):
            found.append(path)
    return found


Series = tuple[dicom.Tags, list[dicom.Frame]]


def _named(found: dict[str, Series], root: Path) -> list[tuple[str, Path, Series]]:
    """Returns (name, file or folder, frames) of each series."""
    series = list(found.values())
    places = [frames[0].path if len({f.path for f in frames}) == 1 else _folder(frames) for _, frames in series]
    named = []
    for number, (place, one) in enumerate(zip(places, series, strict=True)):
        name = (place.parent / bare_name(place.name)) if place.is_file() else place
        name = name.relative_to(root).as_posix() if name != root else root.resolve().name
        if places.count(place) > 1:
            name += f"_{places[:number].count(place) + 1}"
        named.append((name, place, one))
    return named


def _folder(frames: list[dicom.Frame]) -> Path:
    """Returns the deepest folder that holds all frames of a series."""
    parents = [frame.path.parent for frame in frames]
    shared = parents[0]
    while not all(parent.is_relative_to(shared) for parent in parents):
        shared = shared.parent
    return shared
