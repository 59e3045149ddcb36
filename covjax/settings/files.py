"""config.json, by which a workdir belongs to one configuration."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from covjax.errors import InputError
from covjax.fields import changeable, flat_fields
from covjax.files import read_json, write_json
from covjax.plugins import check_plugins, record_plugins
from covjax.settings.read import read_settings, settings_dict
from covjax.settings.sections import RunSettings

FORMAT = 2  # of config.json, to be raised when its fields change, or what checkpoints hold
DAMAGED = "restore it or use another --workdir"


def claim_workdir(workdir: Path, settings: RunSettings, free: str = "") -> None:
    """Makes `workdir` this run's: writes config.json if `check_workdir` has nothing against it.

    Raises InputError as that does, or for a folder that cannot be written.
    """
    check_workdir(workdir, settings, free)
    if not (workdir / "config.json").is_file():
        record_plugins(workdir)
    write_settings(workdir / "config.json", settings)


def check_workdir(workdir: Path, settings: RunSettings, free: str = "") -> None:
    """Raises InputError if `workdir` is that of a run with another configuration.

    Fields that may change when a run goes on are left out, and those whose name begins with `free`.
    The error names the first other field that differs.
    """
    path = workdir / "config.json"
    if not path.is_file():
        return
    check_plugins(workdir)
    ours = flat_fields(json.loads(json.dumps(settings_dict(settings))))
    theirs = flat_fields(_read(path))
    _check_epochs(path, settings, theirs)
    may_change = fields_that_may_change(settings)
    _check_same(path, *(_bound(fields, may_change, free) for fields in (ours, theirs)))


def fields_that_may_change(settings: RunSettings) -> dict[str, str]:
    """Returns `changeable` of a run and its stages."""
    found = changeable(settings)
    for name, stage in settings.stages.items():
        found |= changeable(stage, f"{name}.")
    return found


def write_settings(path: Path, settings: RunSettings) -> None:
    """Writes what `load_settings` reads. Raises InputError if it cannot be written."""
    write_json(path, {"format": FORMAT, **settings_dict(settings)})


def _check_epochs(path: Path, settings: RunSettings, theirs: Mapping[str, Any]) -> None:
    """Refuses fewer epochs, and more of them where those before depend on how many there are."""
    for name, stage in settings.stages.items():
        field = f"{name}.epochs"
        before = theirs.get(field, stage.epochs)
        if stage.epochs > before and stage.optimizer.schedule != "constant":
            raise InputError(
                f"{path}: the run's {stage.optimizer.schedule} schedule ends with its epochs "
                f"({field}: {before} there, {stage.epochs} now), go on in another --workdir with "
                f"--config.{name}.init.run={path.parent}"
            )
        if stage.epochs < before:
            _check_same(path, {field: stage.epochs}, {field: before})


def _check_same(path: Path, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
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


def _bound(fields: Mapping[str, Any], may_change: Mapping[str, str], free: str) -> dict[str, Any]:
    return {
        name: value
        for name, value in fields.items()
        if name not in may_change and not (free and name.startswith(free))
    }


def load_settings(workdir: Path) -> RunSettings:
    """Returns the settings of the run in `workdir`.

    Raises InputError if there is none, it is damaged or of another version of covjax, or a plug-in
    of the run is not loaded or has changed.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise InputError(f"{workdir}: no config.json, this is not the workdir of a run")
    values = _read(path)
    check_plugins(workdir)
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
