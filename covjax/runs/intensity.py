"""What the values of a run's slices were before they became 0..255, recorded beside it and asked in
use.
"""

import json
from pathlib import Path
from typing import Any

from covjax.data.intensity import parse_window
from covjax.data.prepared.dataset import Prepared
from covjax.errors import InputError
from covjax.settings.config import write_json


def record_intensity(config: Any, data: Prepared, workdir: Path) -> None:
    """Writes intensity.json: what the slices held (8bit, hu or both), and the centre and width of
    the window for HU.
    """
    window = list(parse_window(config.data.window)) if "hu" in data.values else None
    write_json(workdir / "intensity.json", {"values": sorted(data.values), "window": window})


def read_intensity(workdir: Path) -> frozenset[str]:
    """Returns what a run's slices held; runs of earlier versions, which record nothing, saw 8-bit
    pictures.

    Raises InputError when the record is damaged.
    """
    path = workdir / "intensity.json"
    try:
        return frozenset(json.loads(path.read_text(encoding="utf-8"))["values"])
    except FileNotFoundError:
        return frozenset({"8bit"})
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error}), run train.py again to restore it") from None
