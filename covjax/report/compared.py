"""Runs read side by side: their names, what tells them apart, and whether they are comparable."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from covjax.errors import InputError
from covjax.fields import flat_fields
from covjax.report.reading import read_table
from covjax.report.results import Results, read_results
from covjax.report.scores import STAGES
from covjax.scores import SCORED_COLUMN

# Fields of a configuration that may differ between runs of one group: they are repetitions, or
# change no result.
STORED = ("data.cache", "data.prepared_dir")
REPEATS = ("seed", "split.fold", *STORED)
# The column of per_image.csv that is filled where a stage was scored; of others their loss.


@dataclass(frozen=True)
class Run:
    """One run of a comparison: `sections` maps its stages to their scores on the split compared."""

    label: str
    results: Results
    sections: Mapping[str, Mapping[str, Any]]
    # its configuration and evaluation options, flat: "classifier.epochs" -> 10
    settings: Mapping[str, Any]
    slices: Mapping[str, frozenset[str]]  # stage -> ids of the slices that it was scored on
    # id -> digest of the mask, "" without one; empty where no mask was scored
    truth: Mapping[str, str]

    def score(self, stage: str, name: str) -> Mapping[str, Any]:
        """Returns a score, {} where the run has none of that name."""
        return self.sections.get(stage, {}).get("scores", {}).get(name) or {}

    def setting(self, name: str) -> str:
        """Returns a setting as text, '' for none."""
        value = self.settings.get(name)
        if value is None:
            return ""
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    @property
    def data(self) -> tuple[Any, Any]:
        """What tells its data from those of other runs."""
        return self.results.splits.get("source"), self.results.splits.get("fingerprint")


def read_runs(workdirs: Sequence[Path], split: str) -> list[Run]:
    """Returns the results of runs on one split.

    Raises InputError naming a run that has none, was named twice, or was scored on other masks.
    """
    if len(workdirs) < 2:
        raise InputError("--compare: name two runs or more")
    found = [path.resolve() for path in workdirs]
    for path in found:
        if found.count(path) > 1:
            raise InputError(f"--compare: {path} is named twice, name each run once")
    labels = _labels(found)
    runs = [_read_run(path, label, split) for path, label in zip(workdirs, labels, strict=True)]
    _check_truth(runs)
    return runs


def stages_of(runs: Sequence[Run]) -> list[str]:
    """Returns the stages that any of the runs was scored in, in the order of pages."""
    found = dict.fromkeys([*STAGES, *(stage for run in runs for stage in run.sections)])
    return [stage for stage in found if any(stage in run.sections for run in runs)]


def scores_of(runs: Sequence[Run], stage: str, names: Iterable[str]) -> list[Mapping[str, Any]]:
    """Returns the named scores of runs."""
    return [run.score(stage, name) for run in runs for name in names]


def _check_truth(runs: Sequence[Run]) -> None:
    """Raises InputError if a slice has other true pixels in one run than in the first with it."""
    known: dict[str, tuple[str, str]] = {}
    for run in runs:
        for name, digest in run.truth.items():
            if not digest:
                continue
            before, first = known.setdefault(name, (digest, run.label))
            if digest != before:
                raise InputError(
                    f"--compare: {run.label} was scored on other masks than {first} (slice "
                    f"{name}), so their scores cannot be compared; leave one of them out, or "
                    "evaluate both on the same masks"
                )


def _read_run(workdir: Path, label: str, split: str) -> Run:
    results = read_results(workdir)
    sections = {stage: splits[split] for stage, splits in results.scores.items() if split in splits}
    columns = {stage: SCORED_COLUMN.get(stage, f"{stage}_loss") for stage in sections}
    table = read_table(results.file(split, "per_image.csv"), ["id", "truth"], columns.values())
    if not sections or table is None:
        raise InputError(
            f"{workdir}: has no results on the {split} split, "
            f"run eval.py --workdir {workdir} --split {split} first"
        )
    slices = {
        stage: frozenset(table["id"][np.isfinite(table[column])])
        for stage, column in columns.items()
    }
    settings = flat_fields(results.config)
    settings |= flat_fields(results.options.get(split, {}), "evaluation.")
    masks = any(stage != "classifier" for stage in sections)
    truth = dict(zip(table["id"], table["truth"], strict=True)) if masks else {}
    return Run(label, results, sections, settings, slices, truth)


def _labels(paths: Sequence[Path]) -> list[str]:
    """Returns the shortest ends of paths that tell them apart."""
    length = 0
    names = [""]
    while len(set(names)) < len(paths):
        length += 1
        names = ["/".join(path.parts[-length:]) for path in paths]
    return names


def differing(runs: Sequence[Run], without: Iterable[str]) -> dict[str, list[str]]:
    """Returns the settings that are not the same in all runs: name -> each run's value as text."""
    names = dict.fromkeys(name for run in runs for name in run.settings if name not in without)
    values = {name: [run.setting(name) for run in runs] for name in names}
    return {name: texts for name, texts in values.items() if len(set(texts)) > 1}


@dataclass(frozen=True)
class Group:
    """Runs that share their configuration but for the seed or the fold."""

    label: str
    runs: Sequence[Run]


def groups(runs: Sequence[Run]) -> list[Group]:
    """Returns the groups of runs, in the order of their first ones, named by what differs."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        key = {name: value for name, value in run.settings.items() if name not in REPEATS}
        found.setdefault(json.dumps(key, sort_keys=True, default=str), []).append(run)
    varied = differing([members[0] for members in found.values()], without=REPEATS)
    return [Group(_group_label(members, varied), members) for members in found.values()]


def _group_label(members: Sequence[Run], varied: Iterable[str]) -> str:
    first = members[0]
    if len(members) == 1:
        return first.label
    settings = ", ".join(
        f"{name.removeprefix('evaluation.')}={first.setting(name)}" for name in varied
    )
    return settings if 0 < len(settings) <= 40 else f"{first.label} and {len(members) - 1} more"


def incomparable(runs: Sequence[Run], split: str) -> list[tuple[str, str]]:
    """Returns what keeps runs from being compared: what differs, and of which runs."""
    first = runs[0]
    found = []
    other_data = [run for run in runs if run.data != first.data]
    if other_data:
        text = (
            f"{_named(other_data)}: not the data of {first.label}. Scores on different data cannot "
            "be compared."
        )
        classes = first.settings.get("data.classes")
        if any(run.settings.get("data.classes") != classes for run in other_data):
            text += (
                " If only data.classes differs and infected means the same, scores of the infected "
                "region can."
            )
        found.append(("Other data", text))
    for stages, some in _other_slices([run for run in runs if run not in other_data]).items():
        text = (
            f"{_named(some)}: not the slices of the {split} split that {first.label} was scored on "
            f"({stages}). A difference may lie in the slices."
        )
        found.append(("Other slices", text))
    definitions = [run.results.definitions.get(split) for run in runs]
    options = [run.results.options.get(split) for run in runs]
    for what, values in (
        ("Other definitions of scores", definitions),
        ("Other evaluation options", options),
    ):
        other = [run for run, value in zip(runs, values, strict=True) if value != values[0]]
        if other:
            found.append((what, f"{_named(other)}: not those of {first.label}."))
    return found


def _other_slices(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Returns the runs with other slices than the first, by the stages where they differ."""
    first = runs[0].slices
    found: dict[str, list[Run]] = {}
    for run in runs:
        stages = [s for s, ids in run.slices.items() if ids != first.get(s, ids)]
        if stages:
            found.setdefault(", ".join(stages), []).append(run)
    return found


def _named(runs: Sequence[Run]) -> str:
    return ", ".join(run.label for run in runs)
