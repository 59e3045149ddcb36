"""config.json, by which a workdir belongs to one configuration."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from covjax.errors import InputError
from covjax.fields import flat_fields
from covjax.files import read_json, write_json
from covjax.settings.read import read_settings, settings_dict
from covjax.settings.sections import RunSettings

FORMAT = 1  # of config.json, to be raised when its fields change
DAMAGED = "restore it or use another --workdir"


def claim_workdir(workdir: Path, settings: RunSettings, free: str = "") -> None:
    """Makes `workdir` this run's: writes config.json, or checks that the one there is the same.

    Fields whose name begins with `free` may differ; those of `settings` are then written. Raises
    InputError naming the first other field that differs, or why the folder cannot be written.
    """
    path = workdir / "config.json"
    ours = json.loads(json.dumps(settings_dict(settings)))
    if path.is_file():
        theirs = _read(path)
        _check_same(path, _bound(ours, free), _bound(theirs, free))
        if ours == theirs:
            return
    write_settings(path, settings)


def write_settings(path: Path, settings: RunSettings) -> None:
    """Writes what `load_settings` reads. Raises InputError if it cannot be written."""
    write_json(path, {"format": FORMAT, **settings_dict(settings)})


def _check_same(path: Path, mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    another = f"{path}: this workdir belongs to a run"
    for key, value in mine.items():
        if key not in theirs or theirs[key] != value:
            there = json.dumps(theirs[key]) if key in theirs else "nothing"
            raise InputError(
                f"{another} with another configuration "
                f"({key}: {there} there, {json.dumps(value)} now), use another --workdir"
            )
    extra = theirs.keys() - mine.keys()
    if extra:
        raise InputError(f"{another} that also sets {min(extra)}, use another --workdir")


def _bound(values: Mapping[str, Any], free: str) -> dict[str, Any]:
    fields = flat_fields(values)
    if not free:
        return fields
    return {name: value for name, value in fields.items() if not name.startswith(free)}


def load_settings(workdir: Path) -> RunSettings:
    """Returns the settings of the run in `workdir`.

    Raises InputError if there is none, or it is damaged or of another version of covjax.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise InputError(f"{workdir}: no config.json, this is not the workdir of a run")
    values = _read(path)
    try:
        return read_settings(values)
    except InputError as error:
        raise InputError(f"{path}: damaged ({error}), {DAMAGED}") from error


def _read(path: Path) -> dict[str, Any]:
    """Returns what config.json holds besides its format."""
    values = read_json(path, DAMAGED)
    written = values.pop("format", None)
    if written != FORMAT:
        raise InputError(
            f"{path}: damaged or of another version of covjax (format {written}, this one reads "
            f"{FORMAT}), use another --workdir"
        )
    return values
