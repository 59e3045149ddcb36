"""What a workdir holds: its result files, read together."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covjax.errors import InputError
from covjax.files import current_folder, folder_names
from covjax.records import Timing, check_record, read_record_lines
from covjax.report.reading import EVALUATE, read_record
from covjax.report.scores import STAGES
from covjax.report.shapes import (
    Config,
    Environment,
    Epoch,
    Section,
    Splits,
    StageConfig,
    Summary,
)

SPLITS = ("test", "val", "train")  # in the order in which a reader wants them
SPLIT_TITLES = {"train": "training", "val": "validation", "test": "test"}
SPLIT_RULES = {
    "patient": "by patient: all slices of a patient are in one split",
    "slice": "by slice: slices of one patient may be in several splits",
    "block": "by block: runs of slices that follow each other by id; a patient may be in two "
    "splits at their borders",
    "external": "none: all slices of a set that the run did not learn from",
    "given": "none: all slices that were given",
    "source": "as given by the data source",
    "file": "as listed in a file",
    "held_out": "test as held out by the data source, slices of test patients left out of train "
    "and val",
}


@dataclass(frozen=True)
class Results:
    """What a workdir holds; a missing file is an empty mapping.

    `history` maps a stage to its metrics.jsonl rows, one per epoch in ascending order. `scores`
    maps a stage to its splits (test first), and a split to the stage's section of
    results/SPLIT/summary.json. `options` maps a split to the evaluation options that were in force,
    `definitions` to the version of what its scores mean.
    """

    workdir: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    splits: Mapping[str, Any]
    timing: Mapping[str, Any]
    history: Mapping[str, Sequence[Mapping[str, Any]]]
    scores: Mapping[str, Mapping[str, Mapping[str, Any]]]
    options: Mapping[str, Mapping[str, Any]]
    definitions: Mapping[str, Any]

    def file(self, split: str, name: str) -> Path:
        """Returns the path of a file of an evaluated split."""
        return current_folder(self.workdir / "results" / split) / name

    @property
    def source(self) -> str:
        """The name of the source of the data."""
        configured = self.config.get("data", {}).get("source")
        return str(self.splits.get("source") or configured or "unknown source")

    @property
    def split_rule(self) -> str:
        """What the data were divided by."""
        configured = self.config.get("split", {}).get("by")
        return str(self.splits.get("by") or configured or "not recorded")

    def models(self) -> list[str]:
        """Returns the stages that were trained or scored, with their models."""
        known = dict.fromkeys([*STAGES, *self.history, *self.scores])
        stages = [stage for stage in known if stage in self.scores or stage in self.history]
        models = [self.config.get(stage, {}).get("model", {}).get("name") for stage in stages]
        return [
            f"{stage} ({model})" if model else stage.replace("_", " ")
            for stage, model in zip(stages, models, strict=True)
        ]

    def shared_patients(self) -> dict[str, list[str]]:
        """Returns {patient: the splits it is in} of those in more than one."""
        where: dict[str, list[str]] = {}
        for split, patients in (self.splits.get("patients") or {}).items():
            for patient in set(patients) - {""}:  # "" is an unknown patient
                where.setdefault(patient, []).append(split)
        return {patient: found for patient, found in sorted(where.items()) if len(found) > 1}

    def shown(self, stage: str) -> tuple[str, Mapping[str, Any]]:
        """Returns the split that a stage is shown on, test if it has it, and its scores there.

        ("", {}) if the stage was never evaluated.
        """
        return next(iter(self.scores.get(stage, {}).items()), ("", {}))


def read_results(workdir: Path) -> Results:
    """Returns all of `workdir` but the per-image tables; raises InputError if there is nothing."""
    workdir = Path(workdir)
    summaries = _read_summaries(workdir / "results")
    scores = {
        stage: {split: summary[stage] for split, summary in summaries.items() if stage in summary}
        for stage in dict.fromkeys([*STAGES, *itertools.chain(*map(_stages, summaries.values()))])
    }
    timing = read_record(workdir / "results" / "timing.json", Timing)
    results = Results(
        workdir=workdir,
        config=_read_config(workdir / "config.json", [*scores, *timing]),
        environment=read_record(workdir / "environment.json", Environment),
        splits=read_record(workdir / "splits.json", Splits),
        timing=timing,
        history=_read_history(workdir / "metrics.jsonl"),
        scores={stage: splits for stage, splits in scores.items() if splits},
        options={split: summary.get("options") or {} for split, summary in summaries.items()},
        definitions={split: summary.get("definitions") for split, summary in summaries.items()},
    )
    if not results.history and not results.scores:
        raise InputError(
            f"{workdir}: holds no results (metrics.jsonl, results/SPLIT/), train or evaluate first"
        )
    return results


def split_title(split: str) -> str:
    """Returns what a split is called in words."""
    return SPLIT_TITLES.get(split, split)


def kept_classes(scored: Mapping[str, Any]) -> list[str]:
    """Returns the classes of infection that masks keep apart and are scored by, [] for none."""
    classes = [str(name) for name in scored.get("classes") or ()]
    return [name for name in classes[1:] if len(classes) > 2 and f"dice_{name}" in scored["scores"]]


def _read_config(path: Path, stages: Iterable[str]) -> Mapping[str, Any]:
    config: Mapping[str, Any] = read_record(path, Config)
    for stage in stages:
        check_record(path, config.get(stage, {}), StageConfig, EVALUATE, stage)
    return config


def _read_history(path: Path) -> dict[str, list[Epoch]]:
    if not path.is_file():
        return {}
    stages: dict[str, dict[int, Epoch]] = {}
    for row in read_record_lines(path, Epoch, "remove the line"):
        # A resumed run repeats the epochs after its checkpoint: the later line counts.
        stages.setdefault(row["stage"], {})[row["epoch"]] = row
    return {stage: [rows[epoch] for epoch in sorted(rows)] for stage, rows in stages.items()}


def _read_summaries(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns the summary of every split evaluated so far, test first."""
    paths = {name: current_folder(folder / name) / "summary.json" for name in folder_names(folder)}
    found = {name: _read_summary(path) for name, path in paths.items() if path.is_file()}
    order = {split: position for position, split in enumerate(SPLITS)}
    return dict(sorted(found.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))


def _read_summary(path: Path) -> dict[str, Any]:
    summary: dict[str, Any] = {**read_record(path, Summary)}
    for stage in _stages(summary):
        check_record(path, summary[stage], Section, EVALUATE, stage)
    return summary


def _stages(summary: Mapping[str, Any]) -> list[str]:
    """Returns the stages that a summary holds scores of, in the order of pages."""
    others = [name for name, one in summary.items() if isinstance(one, dict) and "scores" in one]
    return [stage for stage in dict.fromkeys([*STAGES, *others]) if stage in summary]
