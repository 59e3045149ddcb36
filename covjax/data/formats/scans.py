"""Finding volumes in files and folders, NIfTI and DICOM alike."""

from collections.abc import Callable, Sequence
from pathlib import Path

from covjax.data.formats import dicom, nifti
from covjax.data.formats.dicom_kinds import is_dicom
from covjax.data.formats.endings import bare_name
from covjax.data.formats.other_scans import OTHER_SCANS, other_kind
from covjax.data.formats.series import Series, open_series, read_series
from covjax.data.formats.volumes import Volume
from covjax.data.listing import Leave, LeftOuts, Skip, list_files, stop, unsaid
from covjax.errors import InputError

Opener = Callable[[], Volume]


def is_nifti(path: Path) -> bool:
    """Recognises NIfTI files by their suffix."""
    return path.name.lower().endswith(nifti.SUFFIXES)


def find_scans(
    path: Path,
    declared: str = "auto",
    *,
    skip: Skip = stop,
    leave: Leave = unsaid,
    files: Sequence[Path] | None = None,
) -> dict[str, Opener]:
    """Returns {name: opener} of a file, or of every NIfTI file and DICOM series below a folder.

    Names are paths without suffix below `path`, of a series that of its folder; a number is added
    where several series share one. Everything else goes to `leave` with the reason: hidden files,
    links out of the folder, files of other kinds, DICOM objects that are certainly no axial CT,
    copies of slices. With `files`, only these are looked at. `declared` says what the values are
    (hounsfield.INTENSITIES). Openers raise InputError for what cannot be read. So does this
    function for a DICOM file that cannot be used, unless `skip` takes the error and returns; when
    there is nothing, not even what was skipped; or when two scans have one name.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder, check the path")
    left_out = LeftOuts(path.parent if path.is_file() else path)
    skipped = []

    def passed_over(error: InputError) -> None:
        skip(error)
        skipped.append(error)

    def left(file: Path, reason: str) -> None:
        left_out(file, reason)
        leave(file, reason)

    if files is None:
        files = [path] if path.is_file() else list_files(path, passed_over, left)
    root = path.parent if path.is_file() else path
    volumes = []
    for file in files:
        # A file that was named is read as DICOM whatever it looks like, unless it is known to be
        # something else.
        if (
            is_nifti(file)
            or is_dicom(file)
            or (file == path and not file.name.lower().endswith(tuple(OTHER_SCANS)))
        ):
            volumes.append(file)
        else:
            left(file, other_kind(file))
    found = open_scans(volumes, root, declared, passed_over, left)
    if not found and not skipped:
        raise nothing_found(str(path), "CT volume (.nii, .nii.gz or DICOM)", left_out)
    return found


def nothing_found(where: str, what: str, left_out: LeftOuts) -> InputError:
    """Returns the error for a place that holds nothing to read: it names what it holds instead."""
    listed = left_out.listed()
    if not listed:
        return InputError(f"{where}: holds no {what}, point to scans")
    first = listed[0]
    more = f", and {len(listed) - 1} more" if len(listed) > 1 else ""
    return InputError(
        f"{where}: holds no {what} but {first.file} ({first.reason}){more}; point to scans"
    )


def open_scans(
    files: Sequence[Path], root: Path, declared: str, skip: Skip, leave: Leave
) -> dict[str, Opener]:
    """Returns {name below `root`: opener} of NIfTI and DICOM files, as `find_scans`."""
    found: dict[str, Opener] = {}

    def add(name: str, opener: Opener, of: Path) -> None:
        if name in found:
            raise InputError(
                f"{of}: another scan has the same name without its suffix, rename one of them"
            )
        found[name] = opener

    for file in filter(is_nifti, files):
        name = (file.relative_to(root).parent / bare_name(file.name)).as_posix()
        add(name, lambda file=file: nifti.open_nifti(file, declared), file)
    rest = [file for file in files if not is_nifti(file)]
    for name, place, (tags, frames) in _named(read_series(rest, skip, leave), root):
        add(name, lambda p=place, t=tags, f=frames: open_series(p, t, f, declared), place)
    return dict(sorted(found.items()))


def _named(series: list[Series], root: Path) -> list[tuple[str, Path, Series]]:
    """Returns (name, file or folder, frames) of each series."""
    places = [
        frames[0].path if len({f.path for f in frames}) == 1 else _folder(frames)
        for _, frames in series
    ]
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
