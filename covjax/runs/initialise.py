"""What the training of a stage starts from, if asked: published weights or an earlier run.

It is read before the run writes anything.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict

from covjax.data.splits.splits import SPLITS, read_splits
from covjax.errors import InputError
from covjax.fields import to_dict
from covjax.files import damage_named, read_json
from covjax.preprocess.network_input import has_constant
from covjax.pretrained import PACKAGE, load_pretrained
from covjax.runs.trained import load_trained
from covjax.settings import RunSettings, load_settings
from covjax.stages.settings import StageSettings
from covjax.stages.stage import init_variables, make_model, variable_shapes
from covjax.training.checkpoint import digest

LISTED = 8  # names in one line
# by which a record tells its weights: of a file, of a checkpoint's arrays
IDENTITY = ("sha256", "digest")
# of input: what must be as in the run that a stage is initialised from
SAME_INPUT = ("enhance", "gain", "channels", "normalize")


class Start(NamedTuple):
    """Variables with what was learned before in them, and what was done, for init_STAGE.json."""

    variables: Any
    record: dict[str, Any]


def init_path(name: str, workdir: Path) -> Path:
    """Where a run keeps what its stage was initialised with."""
    return workdir / f"init_{name}.json"


def find_start(name: str, config: RunSettings, workdir: Path) -> Start | None:
    """Returns what a stage starts from; None for fresh variables, and where it has a checkpoint.

    Raises InputError for weights that cannot be used or are not those that this run began with.
    """
    settings = config.stages[name].init
    if (settings.weights == "none" and not settings.run) or _begun(name, workdir):
        return None
    folder = Path(settings.run)
    start = _of_run(name, config, folder) if settings.run else _of_weights(name, config)
    _check_same(init_path(name, workdir), start.record, settings.run or settings.weights)
    return start


def start_text(name: str, record: dict[str, Any], normalize: str) -> str:
    """Says in one line what a stage starts from, and whether its input is what weights expect."""
    kept = [*record["fresh"], *record["skipped"], *record["replaced"]]
    listed = ", ".join(ascii(entry)[1:-1] for entry in kept[:LISTED]) or "nothing"
    more = (
        f" and {len(kept) - LISTED} more (see {init_path(name, Path()).name})"
        if len(kept) > LISTED
        else ""
    )
    unlike = ""
    if record["input"] is not None and normalize != "pretrained":
        unlike = f"; input.normalize is {normalize}, these weights expect pretrained"
    arrays = f"{record['loaded']} arrays of {record['network']} from {record['file']}"
    return f"{name}: {arrays}; anew: {listed}{more}{unlike}"


def _of_weights(name: str, config: RunSettings) -> Start:
    """Takes published weights."""
    settings = config.stages[name].init
    source = PACKAGE if settings.weights == PACKAGE else Path(settings.weights)
    skip = [pattern for pattern in map(str.strip, settings.skip.split(",")) if pattern]
    model = make_model(name, config.stages[name], data=config.data)
    variables = init_variables(model, config.stages[name], config.seed)
    constant = has_constant(config.stages[name].input)
    return Start(
        *load_pretrained(
            model, variables, source, skip=skip, first=settings.first, constant=constant
        )
    )


def _recognised_by(stage: StageSettings) -> dict[str, Any]:
    return to_dict(stage.model) | {field: getattr(stage.input, field) for field in SAME_INPUT}


def _of_run(name: str, config: RunSettings, folder: Path) -> Start:
    """Takes the best checkpoint of an earlier run; only layers of other classes start anew.

    Raises InputError for a run of another network, or that saw its slices in another way.
    """
    earlier = load_settings(folder)
    if name not in earlier.stages:
        raise InputError(f"{name}.init.run: {folder} trained no {name}, name a run that did")
    ours = _recognised_by(config.stages[name])
    theirs = _recognised_by(earlier.stages[name])
    for field in [*theirs, *ours]:
        if ours.get(field) != theirs.get(field):
            section = "input" if field in SAME_INPUT else "model"
            raise InputError(
                f"{name}.{section}.{field}: {ours.get(field)}, but {folder} was trained with "
                f"{theirs.get(field)}, set it to that or name another init.run"
            )
    _, learned = load_trained(name, earlier, folder, calibrated=False)
    learned: dict[tuple[str, ...], Any] = flatten_dict(jax.device_get(learned))
    model = make_model(name, config.stages[name], data=config.data)
    shapes: dict[tuple[str, ...], Any] = flatten_dict(variable_shapes(model, config.stages[name]))
    anew = {path[1] for path, leaf in shapes.items() if learned[path].shape != leaf.shape}
    fresh = flatten_dict(init_variables(model, config.stages[name], config.seed)) if anew else {}
    variables = {
        path: fresh[path] if path[1] in anew else np.asarray(learned[path]) for path in shapes
    }
    record = {
        "file": str(folder),
        "digest": digest(learned, {}),
        "network": config.stages[name].model.name,
        "loaded": sum(path[1] not in anew for path in shapes),
        "fresh": [],
        "skipped": [],
        "replaced": sorted(anew),
        "input": None,
    }
    return Start({"batch_stats": {}} | unflatten_dict(variables), record)


def check_unseen(name: str, splits: dict[str, Any], folder: Path) -> None:
    """Refuses an earlier run that learned from this one's val or test slices; warns if it may have.

    Slices are known by what their files hold, wherever these lie, whatever they are called and
    however they are read.
    """
    earlier = read_splits(folder / "splits.json")
    if "origins" not in earlier:
        raise InputError(
            f"{name}.init.run: {folder} does not say what it learned from, train it again or name "
            "another"
        )
    learned = _learned(
        *({split: set(one["origins"][split]) for split in SPLITS} for one in (earlier, splits))
    )
    if learned:
        pairs = [
            pair
            for split in SPLITS[1:]
            for pair in zip(splits[split], splits["origins"][split], strict=True)
        ]
        named = sorted(slice_id for slice_id, origin in pairs if origin in learned)
        raise InputError(
            f"{name}.init.run: {folder} learned from {len(named)} slices of this run's val and "
            f"test splits, first {named[0]}; split as it did (split.by=file, "
            f"split.path={folder / 'splits.json'}) or name another run"
        )
    alike = _learned(*({split: set(one[split]) for split in SPLITS} for one in (earlier, splits)))
    if alike and earlier["source"] == splits["source"]:
        logging.warning(
            "%s.init.run: %d slices of the val and test splits have names that %s learned from; if "
            "they are the same "
            "slices, scores will be optimistic", name, len(alike), folder,
        )  # fmt: skip


def _learned(before: dict[str, set[str]], now: dict[str, set[str]]) -> set[str]:
    """Returns what of val and test the earlier run learned from; its val chose the checkpoint.

    A slice that it had in the same split too has a copy there, which no other split can mend.
    """
    val = now["val"] & before["train"] - before["val"]
    return val | now["test"] & (before["train"] | before["val"]) - before["test"]


def _begun(name: str, workdir: Path) -> bool:
    return any(
        step.name.isdigit() for step in (workdir / "checkpoints" / name / "latest").glob("*")
    )


def _check_same(path: Path, record: dict[str, Any], weights: str) -> None:
    """Refuses other weights than those that a run began with, before its first checkpoint."""
    if not path.is_file():
        return
    remedy = "use another --workdir"
    before = read_json(path, remedy)
    with damage_named(path, remedy):
        began_with = {kind: before[kind] for kind in IDENTITY if kind in record}
    if began_with != {kind: record[kind] for kind in began_with}:
        raise InputError(
            f"init: {weights} changed since this run began, restore it or use another --workdir"
        )
