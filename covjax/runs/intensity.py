"""What the values of a run's slices were before they became 0..255: intensity.json."""

from pathlib import Path
from typing import Annotated, Literal, TypedDict

from covjax.data.intensity import parse_window
from covjax.data.prepared.dataset import Prepared
from covjax.fields import Rule
from covjax.files import write_json
from covjax.records import read_record
from covjax.settings import RunSettings


class IntensityFile(TypedDict):
    """intensity.json."""

    values: Annotated[list[Literal["8bit", "hu"]], Rule("not empty", bool)]


def record_intensity(config: RunSettings, data: Prepared, workdir: Path) -> None:
    """Writes what the slices held (8bit, hu or both) and the window for HU, centre and width."""
    window = list(parse_window(config.data.window)) if "hu" in data.values else None
    write_json(workdir / "intensity.json", {"values": sorted(data.values), "window": window})


def read_intensity(workdir: Path) -> frozenset[str]:
    """Returns what a run's slices held. Raises InputError when the record cannot be read."""
    path = workdir / "intensity.json"
    return frozenset(read_record(path, IntensityFile, "run train.py again to restore it")["values"])
