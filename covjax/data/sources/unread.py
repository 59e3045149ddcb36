"""What a source leaves unread of its folder, file by file."""

from collections.abc import Collection
from pathlib import Path

from covjax.data.formats import images, nifti
from covjax.data.formats.dicom_kinds import is_dicom
from covjax.data.formats.other_scans import other_kind
from covjax.data.listing import LeftOut, LeftOuts, list_files
from covjax.errors import InputError


def unused(
    root: Path, used: Collection[Path], source: str, known: LeftOuts | None = None
) -> tuple[LeftOut, ...]:
    """Returns everything below `root` that is not among the files `used`, with the reason, sorted.

    Args:
      root: of the source.
      used: files that it reads.
      source: its name, for reasons.
      known: what was left out before, with better reasons; taken over.

    Raises:
      InputError: a folder cannot be read.
    """
    left_out = known or LeftOuts(root)
    wanted = set(used)

    def broken(error: InputError) -> None:
        if not (link := _link_to_nothing(error)):
            raise error
        left_out(link, "a link to nothing")

    def leave(path: Path, reason: str) -> None:
        if path not in wanted:
            left_out(path, reason)

    for path in list_files(root, broken, leave):
        if path not in wanted:
            leave(path, _reason(path, source))
    return left_out.listed()


def _link_to_nothing(error: InputError) -> Path | None:
    path = Path(str(error).partition(": a link to nothing")[0])
    return path if path.is_symlink() else None


def _reason(path: Path, source: str) -> str:
    name = path.name.lower()
    if name.endswith(images.SUFFIXES):
        return f"a picture, of no use to data.source={source}"
    if name.endswith(nifti.SUFFIXES):
        return f"NIfTI, of no use to data.source={source}"
    try:
        return f"DICOM, of no use to data.source={source}" if is_dicom(path) else other_kind(path)
    except InputError:
        return "cannot be opened"
