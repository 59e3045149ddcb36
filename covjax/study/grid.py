"""The grid of a study: its variants, seeds and folds, and each run's settings and folder."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from covjax.errors import InputError, unknown
from covjax.settings import RunSettings, StudySettings, read_settings, settings_dict
from covjax.study.vary import varied

STAGE = "segmenter"


@dataclass(frozen=True)
class Run:
    """One run of a study, an ordinary run in its workdir."""

    variant: str
    seed: int
    fold: int
    config: RunSettings
    workdir: Path

    def __str__(self) -> str:
        fold = f", fold {self.fold}" if self.config.split.folds else ""
        return f"{self.variant}, seed {self.seed}{fold}"


def variant_names(study: StudySettings) -> list[str]:
    """Returns the variants that `study.only` names, or all. Raises InputError."""
    names = list(study.variants)
    only = [name.strip() for name in study.only.split(",") if name.strip()]
    for name in only:
        if name not in names:
            raise unknown("study.only", name, names)
    return [name for name in names if name in only] if only else names


def planned_runs(config: RunSettings, workdir: Path) -> list[Run]:
    """Returns the runs of a study in their order: all variants of a fold before the next fold.

    Raises InputError naming what is wrong with the grid, or with the configuration of a variant.
    """
    study = study_of(config)
    _check_grid(config, study)
    variants = {name: variant_settings(config, name) for name in variant_names(study)}
    runs: list[Run] = []
    for seed in study.seeds:
        for fold in _folds(config, study):
            folder = f"seed{seed}_fold{fold}" if config.split.folds else f"seed{seed}"
            for name, variant in variants.items():
                ours = replace(variant, seed=seed, split=replace(variant.split, fold=fold))
                runs.append(Run(name, seed, fold, ours, workdir / "runs" / name / folder))
    return runs


def study_of(config: RunSettings) -> StudySettings:
    """Returns the section `study` with its variants, those that `study.vary` makes if it is set.

    Of these the first is the reference unless `study.reference` names one. Raises InputError if
    there is no such section.
    """
    if config.study is None:
        raise InputError("study: missing, use a configuration as study:pooling")
    study = config.study
    if not study.vary:
        return study
    variants = varied(study.vary)
    reference = study.reference if study.reference in variants else next(iter(variants))
    return replace(study, name=study.vary, reference=reference, variants=variants)


def variant_settings(config: RunSettings, name: str) -> RunSettings:
    """Returns the settings of a variant: those of the study with its own fields in their place.

    A model of another name takes nothing over from the study's: its options are those that the
    variant gives. Raises InputError if they cannot be used.
    """
    where = f"study.variants.{name}"
    ours = settings_dict(replace(config, study=None))
    fields = study_of(config).variants[name]
    model = fields.get(STAGE, {}).get("model", {})
    before = ours[STAGE]["model"]["name"]
    if model.get("name", before) != before:
        ours[STAGE]["model"] = {"name": before}
    try:
        return read_settings(_merged(ours, fields))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for name, change in changes.items():
        before = merged.get(name)
        if isinstance(before, Mapping) and isinstance(change, Mapping):
            change = _merged(before, change)
        merged[name] = change
    return merged


def _folds(config: RunSettings, study: StudySettings) -> tuple[int, ...]:
    if not config.split.folds:
        return (0,)
    return study.folds or tuple(range(config.split.folds))


def _check_grid(config: RunSettings, study: StudySettings) -> None:
    if STAGE not in config.stages or "classifier" in config.stages:
        raise InputError(
            "study: compares segmenters, give a configuration with a segmenter and no classifier"
        )
    if config.seed or config.split.fold:
        raise InputError(
            "seed, split.fold: a study has several of them, set study.seeds and study.folds"
        )
    if not study.seeds:
        raise InputError("study.seeds: empty, give at least one, e.g. (0,)")
    if study.folds and max(study.folds) >= config.split.folds:
        raise InputError(
            f"study.folds: {max(study.folds)} is not one of the folds 0 to split.folds - 1, "
            f"split.folds is {config.split.folds}"
        )
    for name in study.variants:
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise InputError(
                f"study.variants: '{name}' cannot be the name of a folder, use letters, digits, _ "
                ". + -"
            )
    names = variant_names(study)
    if study.reference not in study.variants:
        raise unknown("study.reference", study.reference, study.variants)
    if study.reference not in names:
        raise InputError(
            f"study.only: lacks the reference '{study.reference}', add it or set study.reference"
        )
