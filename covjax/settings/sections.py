"""The whole of a run's configuration. Its sections stand in the packages that use them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from covjax.data.settings import DataSettings, SplitSettings
from covjax.fields import BITS_CHANGE, Rule, free, section, setting
from covjax.runtime import XLA_FLAGS
from covjax.stages.settings import StageSettings


def _is_seed(value: int) -> bool:
    return 0 <= value < 2**32


def _differ(numbers: object) -> bool:
    if not isinstance(numbers, tuple):
        return False
    values = cast(tuple[object, ...], numbers)
    whole = all(type(value) is int and value >= 0 for value in values)
    return whole and len(set(values)) == len(values)


DIFFERENT = Rule("different whole numbers, 0 or more, as (0, 1)", _differ)


@dataclass(frozen=True)
class StudySettings:
    """A grid of runs: variants of one configuration, over seeds and folds."""

    name: str = setting("", "of the study")
    reference: str = setting("", "the variant from which differences are reported")
    seeds: tuple[int, ...] = setting((0, 1), "of the trainings of each variant", rule=DIFFERENT)
    folds: tuple[int, ...] = setting(
        (), "some of the split.folds folds; empty: all", rule=DIFFERENT
    )
    only: str = setting("", "some of the variants, as a,b; empty: all")
    vary: str = setting(
        "",
        "in place of the variants: a field and its values, FIELD:VALUE,VALUE; of several, parted "
        "by a semicolon, all combinations",
    )
    variants: Mapping[str, Any] = free("by their names, the fields in which they differ")


@dataclass(frozen=True)
class RunSettings:
    """A run: where the slices come from, how they are split, and what is trained on them."""

    seed: int = setting(
        0,
        "of the split, the first parameters, and the order and augmentation of slices",
        rule=Rule("0 or more and below 2**32", _is_seed),
    )
    xla_flags: str = setting(
        "none",
        "on NVIDIA GPUs: nvidia_fast, or nvidia_deterministic for bit-identical resumption",
        choices=XLA_FLAGS,
        on_resuming=BITS_CHANGE,
    )
    data: DataSettings = section(DataSettings)
    split: SplitSettings = section(SplitSettings)
    # Sections by the names of their stages, in the order in which a run trains them.
    stages: Mapping[str, StageSettings] = field(default_factory=dict[str, StageSettings])
    study: StudySettings | None = None
