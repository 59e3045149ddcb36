"""The grid of a study: which variants, seeds and folds, and the configuration and folder of every
run.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from covjax.errors import InputError, unknown
from covjax.settings.config import check_config, settled

STAGE = "segmenter"


@dataclass(frozen=True)
class Run:
    """One run of a study, an ordinary run in its workdir."""

    variant: str
    seed: int
    fold: int
    config: Any
    workdir: Path

    def __str__(self) -> str:
        fold = f", fold {self.fold}" if self.config.split.folds else ""
        return f"{self.variant}, seed {self.seed}{fold}"


def variant_names(config: Any) -> list[str]:
    """Returns the variants that `study.only` names, or all. Raises InputError for an unknown
    one.
    """
    names = list(config.study.variants)
    only = [name.strip() for name in config.study.only.split(",") if name.strip()]
    for name in only:
        if name not in names:
            raise unknown("study.only", name, names)
    return [name for name in names if name in only] if only else names


def planned_runs(config: Any, workdir: Path) -> list[Run]:
    """Returns the runs of a study, in the order they are made: all variants of a fold before the
    next fold.

    Raises InputError naming what is wrong with the grid, or with the configuration of a variant.
    """
    _check_grid(config)
    variants = {name: variant_config(config, name) for name in variant_names(config)}
    for name, of_variant in variants.items():
        try:
            check_config(of_variant)
        except InputError as error:
            raise InputError(f"study.variants.{name}: {error}") from error
        variants[name] = settled(of_variant)  # as the run records it
    runs = []
    for seed in config.study.seeds:
        for fold in _folds(config):
            for name, of_variant in variants.items():
                ours = of_variant.copy_and_resolve_references()
                with ours.unlocked():
                    ours.seed = seed
                    ours.split.fold = fold
                folder = f"seed{seed}_fold{fold}" if config.split.folds else f"seed{seed}"
                runs.append(Run(name, seed, fold, ours, workdir / "runs" / name / folder))
    return runs


def variant_config(config: Any, name: str) -> Any:
    """Returns the configuration of one variant: that of the study with the variant's fields in
    place of its own.

    A model of another name takes nothing over from the study's: its options are those that the
    variant gives.
    """
    ours = config.copy_and_resolve_references()
    with ours.unlocked():
        fields = ours.study.variants[name].to_dict()
        del ours.study
        model = fields.get(STAGE, {}).get("model", {})
        if model.get("name", ours[STAGE].model.name) != ours[STAGE].model.name:
            ours[STAGE].model = ConfigDict(fields[STAGE].pop("model"))
    _set(ours, fields, f"study.variants.{name}")
    return ours


def _set(section: Any, fields: Mapping[str, Any], where: str) -> None:
    for name, value in fields.items():
        if not isinstance(section, ConfigDict) or name not in section:
            raise unknown(where, name, section.keys() if isinstance(section, ConfigDict) else ())
        if isinstance(value, Mapping):
            _set(section[name], value, f"{where}.{name}")
            continue
        try:
            section[name] = value
        except TypeError as error:
            raise InputError(
                f"{where}.{name}: {value} does not fit ({' '.join(str(error).split())})"
            ) from error


def _folds(config: Any) -> tuple[int, ...]:
    if not config.split.folds:
        return (0,)
    return tuple(config.study.folds) or tuple(range(config.split.folds))


def _check_grid(config: Any) -> None:
    study = config.study
    if STAGE not in config or "classifier" in config:
        raise InputError(
            "study: compares segmenters, give a configuration with a segmenter and no classifier"
        )
    if config.seed or config.split.fold:
        raise InputError(
            "seed, split.fold: a study has several of them, set study.seeds and study.folds"
        )
    for field, values in (("seeds", study.seeds), ("folds", study.folds)):
        if len(set(values)) != len(values) or not all(
            isinstance(value, int) and value >= 0 for value in values
        ):
            raise InputError(
                f"study.{field}: {values} must be different whole numbers, 0 or more, e.g. (0,1)"
            )
    if not study.seeds:
        raise InputError("study.seeds: empty, give at least one, e.g. (0,)")
    if study.folds and max(study.folds) >= config.split.folds:
        raise InputError(
            f"study.folds: {max(study.folds)} is not one of the folds 0 to split.folds - 1, split.folds is "
            f"{config.split.folds}"
        )
    for name in study.variants:
        if not re.fullmatch(r"\w[\w+-]*", name):
            raise InputError(
                f"study.variants: '{name}' cannot be the name of a folder, use letters, digits, _ + -"
            )
    names = variant_names(config)
    if study.reference not in study.variants:
        raise unknown("study.reference", study.reference, study.variants)
    if study.reference not in names:
        raise InputError(
            f"study.only: lacks the reference '{study.reference}', add it or set study.reference"
        )
