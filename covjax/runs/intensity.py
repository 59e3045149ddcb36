"""What the values of a run's slices were before they became 0..255: intensity.json."""

from pathlib import Path

from covjax.data.intensity import parse_window
from covjax.data.prepared.dataset import Prepared
from covjax.files import damage_named, read_json, write_json
from covjax.settings import RunSettings


def record_intensity(config: RunSettings, data: Prepared, workdir: Path) -> None:
    """Writes what the slices held (8bit, hu or both) and the window for HU, centre and width."""
    window = list(parse_window(config.data.window)) if "hu" in data.values else None
    write_json(workdir / "intensity.json", {"values": sorted(data.values), "window": window})


def read_intensity(workdir: Path) -> frozenset[str]:
    """Returns what a run's slices held. Raises InputError when the record cannot be read."""
    path = workdir / "intensity.json"
    remedy = "run train.py again to restore it"
    found = read_json(path, remedy)
    with damage_named(path, remedy):
        values = frozenset(found["values"])
        if not values or values - {"8bit", "hu"}:
            raise ValueError(f"values is {found['values']!r}")
        return values
