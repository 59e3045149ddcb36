"""What the result files that pages show must hold, see `covjax.records`.

Fields that a page shows as they are, whatever they are, are left out.
"""

from typing import Any, Literal, NotRequired, Required, TypedDict

from covjax.records import Count, Inside


class Score(TypedDict, total=False):
    """A score, as `covjax.metrics.score` makes it, or a difference."""

    value: Required[float | None]
    n: Count
    reason: str | None
    interval: tuple[float, float] | None
    interval_method: str | None
    no_interval: str | None
    unit: str | None
    by_chance: float | None
    by_chance_high: float | None
    p_value: float | None
    p_holm: float | None
    trainings: Count
    by_seed: list[float | None]


class Lesions(TypedDict):
    """What is lost at the network's size."""

    network_size: list[int]
    n: Count
    vanished: Count
    slices: Count
    slices_vanished: Count
    pixels_outside_view: NotRequired[Count]


class Surface(TypedDict):
    """How outlines are measured."""

    unit: str
    nsd_tolerance: float


class Section(TypedDict, total=False):
    """A stage's section of summary.json."""

    scores: Required[dict[str, Score]]
    model: str
    classes: list[str]
    n: Count
    n_patients: Count | None
    notes: list[str]
    slices: str
    threshold: float | None
    threshold_log_odds: float | Literal["inf"] | None
    threshold_rule: str
    calibration: str
    temperature: float | None
    confusion: list[list[Count]] | None
    thresholds: list[dict[str, float | str | None]]
    curves: dict[str, dict[str, list[float | None]]]
    lesions: Lesions
    surface: Surface


class Summary(TypedDict, total=False):
    """summary.json of a split; each stage's section stands beside these."""

    definitions: int
    options: dict[str, Any]


class Source(TypedDict, total=False):
    """The section data of a configuration."""

    source: str


class Split(TypedDict, total=False):
    """The section split of a configuration."""

    by: str


class Model(TypedDict, total=False):
    """The section model of a stage's configuration."""

    name: str


class Input(TypedDict, total=False):
    """The section input of a stage's configuration."""

    size: list[int]


class StageConfig(TypedDict, total=False):
    """A stage's section of config.json."""

    model: Model
    input: Input


class Config(TypedDict, total=False):
    """config.json; each stage's section stands beside these."""

    data: Source
    split: Split


class Environment(TypedDict, total=False):
    """environment.json."""

    changes: list[str]


class Start(TypedDict):
    """init_STAGE.json."""

    network: str
    file: str
    sha256: NotRequired[str]  # of the file of published weights
    digest: NotRequired[str]  # of the arrays of a run


class Plugin(TypedDict):
    """A plug-in of a run."""

    name: str
    sha256: str


class Plugins(TypedDict, total=False):
    """plugins.json."""

    plugins: list[Plugin]


class ExternalFile(TypedDict):
    """external.json: another set, and the training's."""

    run: str
    set: dict[str, Any]
    training: NotRequired[dict[str, Any]]
    grey_distance: NotRequired[float | None]


class Labels(TypedDict):
    """How many slices of a split there are."""

    healthy: Count
    infected: Count


class Splits(TypedDict, total=False):
    """splits.json."""

    source: str
    by: str
    patients: dict[str, list[str]]
    slices: dict[str, Labels]
    notes: dict[str, dict[str, Count]]
    origins: dict[str, list[str]]


class Epoch(TypedDict):
    """A line of metrics.jsonl; its losses and scores stand beside these."""

    stage: str
    epoch: Count


class StudyScores(TypedDict):
    """The scores of a study, `covjax.scores.STUDY`."""

    dice_infected_per_image: Score
    dice_infected: Score


class StudyRun(TypedDict):
    """A run of a study."""

    workdir: Inside
    seed: int
    fold: int
    dice_infected_per_image: float | None
    dice_infected: float | None
    parameters: Count
    best_epoch: Count
    train_seconds: float


class StudyVariant(TypedDict):
    """A variant of a study."""

    name: str
    fields: dict[str, Any]
    planned: Count
    runs: list[StudyRun]
    scores: StudyScores
    differences: NotRequired[dict[str, Score]]
    ms_per_slice: NotRequired[float | None]


StudySettings = TypedDict(
    "StudySettings",
    {
        "split.by": str,
        "split.folds": Count,
        "folds": list[int],
        "seeds": list[int],
        "segmenter.input.size": list[int],
    },
    total=False,
)


class StudyFile(TypedDict):
    """study.json."""

    study: str
    reference: str
    settings: StudySettings
    failed: dict[str, str]
    variants: list[StudyVariant]


class ProtocolScores(TypedDict):
    """The scores of `covjax.scores.PROTOCOLS`."""

    iou_infected: Score
    iou_background: Score
    dice_infected: Score
    dice_infected_per_image: Score


class Protocol(TypedDict):
    """What a protocol came to."""

    name: str
    run: str | None
    frame: str
    split: str
    unseen: bool
    slices: Count
    patients: Count
    scores: ProtocolScores


class ProtocolSettings(TypedDict, total=False):
    """What all protocols share."""

    size: list[int]


class ProtocolsFile(TypedDict):
    """protocols.json."""

    settings: ProtocolSettings
    rows: list[Protocol]


class Reason(TypedDict):
    """A file that was left out."""

    file: str
    reason: str


class ScreeningFile(TypedDict, total=False):
    """screening.json."""

    classes: dict[str, str]
    options: dict[str, Any]
    left_out: list[Reason]
    skipped: list[str]
    notes: dict[str, list[str]]
