"""A stage's section of a configuration: its network, input, start and training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from covjax.fields import (
    BITS_CHANGE,
    MAY_CHANGE,
    NOT_NEGATIVE,
    POSITIVE,
    Rule,
    expand_home,
    free,
    section,
    setting,
)
from covjax.metrics.thresholds import RULES as THRESHOLD_RULES
from covjax.metrics.thresholds import check_rule
from covjax.models import model_options
from covjax.nn.layers import BATCH_NORMS
from covjax.optim.settings import LossSettings, OptimizerSettings
from covjax.preprocess.settings import Augmentation, InputSettings
from covjax.pretrained.convert import FIRST

CALIBRATIONS = {
    "none": "as the network says",
    "temperature": "log-odds divided by a number fitted on the val split",
}
SELECTIONS = {"infected": "the slices with infection, as the paper trains", "all": "every slice"}


@dataclass(frozen=True)
class ModelSettings:
    """The network; its options are fields of the section, next to its name."""

    name: str = setting("", "of the network, see `covjax.models.list_models`")
    options: Mapping[str, Any] = free("the options of that network", spread=True)


def _model(name: str, **changes: Any) -> ModelSettings:
    return ModelSettings(name, model_options(name) | changes)


@dataclass(frozen=True)
class InitSettings:
    """What the parameters start from, else from random numbers."""

    weights: str = setting(
        "none",
        "published weights: a file (.safetensors, .pth, .h5), or package, what a pip extra "
        "installs",
        path=True,
    )
    run: str = setting(
        "",
        "instead: workdir of an earlier run of the same network, whose best checkpoint is used",
        path=True,
    )
    skip: str = setting(
        "", "names in the file to leave as initialised: patterns separated by commas"
    )
    first: str = setting(
        "sum",
        "first convolution for one channel: colours summed; fresh: as initialised",
        choices=FIRST,
    )

    def __post_init__(self) -> None:
        expand_home(self)


@dataclass(frozen=True)
class StageSettings:
    """What every stage has."""

    model: ModelSettings = section(ModelSettings)
    input: InputSettings = section(InputSettings)
    init: InitSettings = section(InitSettings)
    augment: Augmentation = section(Augmentation, flip=True)
    loss: LossSettings = section(LossSettings)
    optimizer: OptimizerSettings = section(OptimizerSettings)
    batch_norm: str = setting(
        "training_set",
        "statistics for use: over the training split, as released; or running",
        choices=BATCH_NORMS,
    )
    batch_size: int = setting(8, "slices of a step, over all devices", rule=POSITIVE)
    epochs: int = setting(
        30,
        "passes over the training split",
        rule=POSITIVE,
        on_resuming="may grow where optimizer.schedule is constant",
    )
    dtype: str = setting("float32", "what the network computes in", choices=("float32", "bfloat16"))
    remat: bool = setting(
        False,
        "train with half the activation memory, a quarter slower (on a CPU: from jax 0.12)",
        on_resuming=BITS_CHANGE,
    )
    checkpoint_every: int = setting(
        200,
        "steps, besides every end of an epoch; 0: only there",
        rule=NOT_NEGATIVE,
        on_resuming=MAY_CHANGE,
    )


def _is_probability(value: float) -> bool:
    return 0 < value < 1


@dataclass(frozen=True)
class ClassifierSettings(StageSettings):
    """CoV-CTNet on enhanced slices, trained as in the paper but for the rate: its 1e-3 diverges."""

    model: ModelSettings = section(_model, name="cov_ctnet")
    input: InputSettings = section(InputSettings, size=(82, 82), enhance="paper_text")
    optimizer: OptimizerSettings = section(OptimizerSettings, learning_rate=1e-4)
    threshold: float = setting(
        0.5,
        "slices with this probability of infection or more are called infected",
        rule=Rule("between 0 and 1", _is_probability),
    )
    threshold_rule: str = setting(
        "fixed",
        "fixed: threshold; else chosen on the validation split",
        check=check_rule,
        allowed=f"{', '.join(THRESHOLD_RULES)}; the levels as sensitivity:0.95",
    )
    calibration: str = setting(
        "none",
        "temperature: fitted on the validation split, probabilities as often right as they say",
        choices=CALIBRATIONS,
    )


@dataclass(frozen=True)
class SegmenterSettings(StageSettings):
    """CoV-RASeg on plain slices, with a linear head, because the released one collapses."""

    model: ModelSettings = section(_model, name="cov_raseg", final="linear")
    input: InputSettings = section(InputSettings, channels=3)
    slices: str = setting(
        "infected", "train and score on the infected slices, or on all", choices=SELECTIONS
    )
