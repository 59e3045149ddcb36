"""Runs read side by side: their names, what tells them apart, and whether they may be compared at
all.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from covjax.errors import InputError
from covjax.report.results import STAGES, Results, read_results, read_table

# Fields of a configuration that may differ between runs of one group: they are repetitions, or
# change no result.
REPEATS = ("seed", "split.fold", "data.cache", "data.prepared_dir")
SEEN = {
    "classifier": "probability",
    "segmenter": "predicted_share",
    "framework": "framework_predicted_share",
}


@dataclass(frozen=True)
class Run:
    """One run of a comparison: `sections` maps its stages to their scores on the part compared."""

    label: str
    results: Results
    sections: Mapping[str, Mapping[str, Any]]
    # its configuration and evaluation options, flat: "classifier.epochs" -> 10
    settings: Mapping[str, Any]
    slices: Mapping[str, frozenset[str]]  # stage -> ids of the slices that it was scored on
    # id -> digest of the mask, "" without one; empty where no mask was scored
    truth: Mapping[str, str]


def read_runs(workdirs: Sequence[Path], part: str) -> list[Run]:
    """Reads the results of runs on one part. Raises InputError naming a run that has none, or was
    named twice.
    """
    if len(workdirs) < 2:
        raise InputError("--compare: name two runs or more")
    found = [path.resolve() for path in workdirs]
    for path in found:
        if found.count(path) > 1:
            raise InputError(f"--compare: {path} is named twice, name each run once")
    runs = [
        _read_run(path, label, part) for path, label in zip(workdirs, _labels(found), strict=True)
    ]
    _check_truth(runs)
    return runs


def _check_truth(runs: Sequence[Run]) -> None:
    """Raises InputError if a slice was scored on other true pixels in one run than in the first
    that has it.
    """
    known: dict[str, tuple[str, str]] = {}
    for run in runs:
        for name, digest in run.truth.items():
            before, first = known.setdefault(name, (digest, run.label)) if digest else ("", "")
            if digest != before:
                raise InputError(
                    f"--compare: {run.label} was scored on other masks than {first} (slice {name}), so their scores "
                    f"cannot be compared; leave one of them out, or evaluate both on the same masks"
                )


def _read_run(workdir: Path, label: str, part: str) -> Run:
    results = read_results(workdir)
    sections = {stage: splits[part] for stage, splits in results.scores.items() if part in splits}
    path = results.file(part, "per_image.csv")
    if not sections or not path.is_file():
        raise InputError(
            f"{workdir}: has no results on the {part} part, run eval.py --workdir {workdir} --split {part} first"
        )
    columns = {stage: SEEN[stage] for stage in STAGES if stage in sections}
    table = read_table(path, ["id", "truth"], columns.values())
    slices = {
        stage: frozenset(
            name
            for name, value in zip(table["id"], table[column], strict=True)
            if np.isfinite(value)
        )
        for stage, column in columns.items()
    }
    settings = _flat(results.config) | _flat(results.options.get(part, {}), "evaluation.")
    truth = (
        dict(zip(table["id"], table["truth"], strict=True))
        if {"segmenter", "framework"} & sections.keys()
        else {}
    )
    return Run(label, results, sections, settings, slices, truth)


def _labels(paths: Sequence[Path]) -> list[str]:
    """Returns the shortest ends of paths that tell them apart."""
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
        )
    return flat


def differing(runs: Sequence[Run], without: Iterable[str] = ()) -> dict[str, list[str]]:
    """Returns the settings that are not the same in all runs: name -> each run's value as text, ''
    for none.
    """
    names = dict.fromkeys(name for run in runs for name in run.settings)
    values = {
        name: [setting_text(run, name) for run in runs] for name in names if name not in without
    }
    return {name: texts for name, texts in values.items() if len(set(texts)) > 1}


def setting_text(run: Run, name: str) -> str:
    value = run.settings.get(name)
    return (
        value
        if isinstance(value, str)
        else ""
        if value is None
        else json.dumps(value, ensure_ascii=False)
    )


@dataclass(frozen=True)
class Group:
    """Runs that share their configuration but for the seed or the fold."""

    label: str
    runs: Sequence[Run]


def groups(runs: Sequence[Run]) -> list[Group]:
    """Returns the groups of runs, in the order of their first ones, named by what tells them
    apart.
    """
    found: dict[str, list[Run]] = {}
    for run in runs:
        key = {name: value for name, value in run.settings.items() if name not in REPEATS}
        found.setdefault(json.dumps(key, sort_keys=True, default=str), []).append(run)
    varied = differing([members[0] for members in found.values()], without=REPEATS)
    return [Group(_group_label(members, varied), members) for members in found.values()]


def _group_label(members: Sequence[Run], varied: Iterable[str]) -> str:
    if len(members) == 1:
        return members[0].label
    settings = ", ".join(
        f"{name.removeprefix('evaluation.')}={setting_text(members[0], name)}" for name in varied
    )  # fmt: skip
    return (
        settings if 0 < len(settings) <= 40 else f"{members[0].label} and {len(members) - 1} more"
    )


def incomparable(runs: Sequence[Run], part: str) -> list[tuple[str, str]]:
    """Returns (what differs, which runs and why it matters) for all that keeps runs from being
    compared.
    """
    first = runs[0]
    found = []
    other_data = [run for run in runs if _data(run) != _data(first)]
    if other_data:
        text = f"{_named(other_data)}: not the data of {first.label}. Scores on different data cannot be compared."
        if any(
            run.settings.get("data.classes") != first.settings.get("data.classes")
            for run in other_data
        ):
            text += " If only data.classes differs and infected means the same, scores of the infected region can."
        found.append(("Other data", text))
    apart: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        other = tuple(
            s
            for s in STAGES
            if s in run.slices and s in first.slices and run.slices[s] != first.slices[s]
        )
        if other and run not in other_data:
            apart.setdefault(other, []).append(run)
    for stages, some in apart.items():
        text = (
            f"{_named(some)}: not the slices of the {part} part that {first.label} was scored on ("
        )
        found.append(
            ("Other slices", f"{text}{', '.join(stages)}). A difference may lie in the slices.")
        )
    for what, values in (
        ("Other definitions of scores", [run.results.definitions.get(part) for run in runs]),
        ("Other evaluation options", [run.results.options.get(part) or {} for run in runs]),
    ):
        other = [run for run, value in zip(runs, values, strict=True) if value != values[0]]
        if other:
            found.append((what, f"{_named(other)}: not those of {first.label}."))
    return found


def _data(run: Run) -> tuple[Any, Any]:
    return run.results.splits.get("source"), run.results.splits.get("fingerprint")


def _named(runs: Sequence[Run]) -> str:
    return ", ".join(run.label for run in runs)
