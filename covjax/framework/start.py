"""What the training of a stage starts from: published weights where asked, known before a run writes anything."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from covjax.errors import InputError
from covjax.pretrained import PACKAGE, load_pretrained
from covjax.stages import init_variables, make_model

LISTED = 8  # names in one line


class Start(NamedTuple):
    """Variables with published weights in them, and what was done, for init_STAGE.json."""

    variables: Any
    record: dict[str, Any]


def init_path(name: str, workdir: Path) -> Path:
    """Where a run keeps what its stage was initialised with."""
    return workdir / f"init_{name}.json"


def find_start(name: str, config: Any, workdir: Path) -> Start | None:
    """Returns what a stage starts from, or None for fresh variables and where a checkpoint to go on from exists.

    Raises InputError for a weight file that cannot be used or is not the one that this run began with.
    """
    settings = config[name].init
    if settings.weights == "none" or _begun(name, workdir):
        return None
    source = PACKAGE if settings.weights == PACKAGE else Path(settings.weights).expanduser()
    skip = [pattern for pattern in map(str.strip, settings.skip.split(",")) if pattern]
    model = make_model(name, config[name], data=config.data)
    variables = init_variables(model, config[name], config.seed)
    variables, record = load_pretrained(model, variables, source, skip=skip, first=settings.first)
    _check_same(init_path(name, workdir), record, settings.weights)
    return Start(variables, record)


def told(name: str, record: dict[str, Any], normalize: str) -> str:
    """Says in one line what a stage starts from, and if its input is not what the weights expect."""
    kept = [*record["fresh"], *record["skipped"], *record["replaced"]]
    listed = ", ".join(ascii(entry)[1:-1] for entry in kept[:LISTED]) or "nothing"
    more = f" and {len(kept) - LISTED} more (see {init_path(name, Path()).name})" if len(kept) > LISTED else ""
    unlike = "" if normalize == "pretrained" else f"; input.normalize is {normalize}, these weights expect pretrained"
    arrays = f"{record['loaded']} arrays of {record['network']} from {record['file']}"
    return f"{name}: {arrays}; anew: {listed}{more}{unlike}"


def _begun(name: str, workdir: Path) -> bool:
    return any(step.name.isdigit() for step in (workdir / "checkpoints" / name / "latest").glob("*"))


def _check_same(path: Path, record: dict[str, Any], weights: str) -> None:
    """A run that was stopped before its first checkpoint starts again, and must do so from the same weights."""
    if not path.is_file():
        return
    try:
        began_with = json.loads(path.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error}), use another --workdir") from None
    if began_with != record["sha256"]:
        raise InputError(f"init.weights: {weights} changed since this run began, restore it or use another --workdir")
