"""A run's configuration: checked before anything is written, kept in the workdir, never silently
changed.
"""

import copy
import json
import math
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from covjax.data.formats.alignment import GEOMETRIES
from covjax.data.formats.deep_pictures import BITS
from covjax.data.formats.hounsfield import INTENSITIES
from covjax.data.intensity import parse_window
from covjax.data.label_map import class_names
from covjax.data.sources.patients import check_pattern
from covjax.data.sources.prlab21 import PRLAB21_FRAMES
from covjax.data.sources.registry import SOURCES, check_spacing
from covjax.data.splits.splits import RULES, check_folds, split_shares
from covjax.errors import InputError, unknown
from covjax.files import read_json, write_json
from covjax.metrics.thresholds import check_rule
from covjax.models import published
from covjax.nn.layers import BATCH_NORMS
from covjax.optim.losses import check_loss
from covjax.optim.optimizer import OPTIMIZERS, SCHEDULES
from covjax.preprocess.augment import check_augmentation
from covjax.preprocess.enhance import PRESETS
from covjax.preprocess.network_input import NORMALIZATIONS
from covjax.pretrained.convert import FIRST
from covjax.runtime import XLA_FLAGS
from covjax.stages import TASKS, task_of
from covjax.stages.stage import check_fine_tuning, make_model, settled_stage

CALIBRATIONS = {
    "none": "as the network says",
    "temperature": "log-odds divided by a number fitted on the val part",
}
# Fields that runs of earlier versions lack, with the value by which they were made.
ADDED = {
    "xla_flags": "none",
    "data.frame": "ct",
    "split.folds": 0,
    "split.fold": 0,
    "split.path": "",
    "data.patient_column": "patient",
    "data.patient_pattern": "",
    "data.show_patients": True,
    "data.classes": "",
    "data.mask_geometry": "file",
    "data.intensity": "auto",
    "data.window": "lung",
    "data.lung_crop": False,
    "data.spacing": 0.0,
    "classifier.threshold_rule": "fixed",
    "classifier.calibration": "none",
    **{f"{stage}.loss.name": "cross_entropy" for stage in TASKS},
    **{f"{stage}.loss.focal_gamma": 2.0 for stage in TASKS},
    **{f"{stage}.optimizer.name": "sgd" for stage in TASKS},
    **{f"{stage}.optimizer.{field}": "" for stage in TASKS for field in ("freeze", "rates")},
    **{
        f"{stage}.augment.{field}": 0.0
        for stage in TASKS
        for field in ("translation", "shear", "elastic", "gamma", "noise", "blur", "cutout")
    },
    "classifier.augment.mixup": 0.0,
    "segmenter.loss.tversky_alpha": 0.3,
    "segmenter.loss.tversky_beta": 0.7,
    "segmenter.loss.smooth": 1.0,
    **{f"{stage}.init": {"weights": "none", "skip": "", "first": "sum"} for stage in TASKS},
    **{f"{stage}.init.run": "" for stage in TASKS},
}
# What the field `pooling`, which CoV-RASeg had before its four fields, stood for: encoder_pooling,
# decoder_unpooling.
SUPERSEDED_POOLING = {
    "max": ("max", "indices"),
    "haar": ("haar", "haar"),
    "haar_bands": ("haar_bands", "haar"),
}
DAMAGED = "restore it or use another --workdir"
SELECTIONS = {"infected": "the slices with infection, as the paper trains", "all": "every slice"}


def check_config(config: ConfigDict) -> None:
    """Raises InputError naming the first field whose value cannot be used, or that is missing."""
    try:
        _check_run(config)
    # How a configuration file of the user's own shows that a field is not there or not of the kind
    # it must be.
    except (AttributeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"config: a field is missing or of the wrong type ({reason}), compare with configs/common.py"
        ) from error


def _check_run(config: ConfigDict) -> None:
    if not stage_names(config):
        raise InputError(f"config: has no stage, add one of {', '.join(TASKS)}")
    _positive("seed", config.seed, zero=True)
    if config.seed >= 2**32:
        raise InputError(f"seed: {config.seed} must be below 2**32")
    _among("xla_flags", config.xla_flags, XLA_FLAGS)
    _among("data.source", config.data.source, SOURCES)
    _among("data.frame", config.data.frame, PRLAB21_FRAMES)
    _among("data.bits", config.data.bits, BITS)
    if not 0 <= config.data.mask_threshold < 255:
        raise InputError(
            f"data.mask_threshold: {config.data.mask_threshold} must be at least 0 and below 255"
        )
    for field in ("path", "patient_column", "prepared_dir", "cache", "show_patients", "lung_crop"):
        _get(config.data, field)
    check_pattern(config.data.patient_pattern)
    class_names(config.data.classes)
    _among("data.mask_geometry", config.data.mask_geometry, GEOMETRIES)
    _among("data.intensity", config.data.intensity, INTENSITIES)
    parse_window(config.data.window)
    check_spacing(config.data.spacing, config.data.source)
    for field in ("patients", "slices_per_patient", "size"):
        _positive(f"data.phantom.{field}", config.data.phantom[field])
    _positive("data.phantom.seed", config.data.phantom.seed, zero=True)
    _among("split.by", config.split.by, RULES)
    split_shares(config.split.shares)
    check_folds(config.split.folds, config.split.fold)
    if (config.split.by == "file") != bool(config.split.path):
        raise InputError("split.path: goes with split.by=file, set both or neither")
    for name in stage_names(config):
        _check_stage(name, config[name], config.data)


def _check_stage(name: str, config: ConfigDict, data: ConfigDict) -> None:
    model = make_model(name, config, data=data)
    task = task_of(name, data)
    _check_start(name, config, model)
    _among(f"{name}.input.enhance", config.input.enhance, PRESETS)
    _among(f"{name}.input.gain", config.input.gain, ("orthonormal", "unit"))
    _among(f"{name}.input.normalize", config.input.normalize, NORMALIZATIONS)
    _among(f"{name}.optimizer.name", config.optimizer.name, OPTIMIZERS)
    _among(f"{name}.optimizer.schedule", config.optimizer.schedule, SCHEDULES)
    _among(f"{name}.batch_norm", config.batch_norm, BATCH_NORMS)
    check_fine_tuning(name, config)
    check_loss(f"{name}.loss", config.loss, regions=task.predicts_masks, classes=len(task.classes))
    for field in ("size", "slice_size"):
        sides = config.input[field]
        if len(sides) != 2 or not all(isinstance(s, int) and 16 <= s <= 4096 for s in sides):
            raise InputError(
                f"{name}.input.{field}: {sides} must be height and width, 16 to 4096 pixels"
            )
    if min(config.input.size) < getattr(model, "smallest", 1):
        raise InputError(
            f"{name}.input.size: {config.input.size}, but {config.model.name} takes {model.smallest} pixels or more"
        )
    for field in ("batch_size", "epochs", "input.channels", "optimizer.learning_rate"):
        _positive(f"{name}.{field}", _get(config, field))
    for field in (
        "checkpoint_every",
        "optimizer.clip_norm",
        "optimizer.weight_decay",
        "optimizer.warmup_epochs",
    ):
        _positive(f"{name}.{field}", _get(config, field), zero=True)
    for field in ("optimizer.momentum", "optimizer.ema"):
        if not 0 <= _get(config, field) < 1:
            raise InputError(
                f"{name}.{field}: {_get(config, field)} must be at least 0 and below 1"
            )
    check_augmentation(f"{name}.augment", config.augment)
    if name == "classifier":
        if not 0 < config.threshold < 1:
            raise InputError(f"classifier.threshold: {config.threshold} must be between 0 and 1")
        check_rule("classifier.threshold_rule", config.threshold_rule)
        _among("classifier.calibration", config.calibration, CALIBRATIONS)
    if name == "segmenter":
        _among("segmenter.slices", config.slices, SELECTIONS)


def _check_start(name: str, config: ConfigDict, model: Any) -> None:
    """Raises InputError if what a stage starts from, or the normalisation that goes with it, cannot
    be used.
    """
    settings = config.init
    network = config.model.name
    reference = published(model)
    if not settings.weights:
        raise InputError(
            f"{name}.init.weights: empty, name the file that holds the weights of {reference and reference.name} "
            f"(--config.{name}.init.weights=PATH)"
        )
    _among(f"{name}.init.first", settings.first, FIRST)
    if settings.weights != "none" and reference is None:
        raise InputError(
            f"{name}.init.weights: {network} has no published weights, set none or use another model"
        )
    if settings.weights == "none" and (settings.skip or settings.first != "sum"):
        raise InputError(f"{name}.init: skip and first are for weights, set init.weights too")
    if settings.weights != "none" and settings.run:
        raise InputError(f"{name}.init: weights and run are both set, set one of them")
    if settled_stage(config).input.normalize == "pretrained":
        if reference is None:
            raise InputError(
                f"{name}.input.normalize: {network} has no published weights, use zero_center"
            )
        if config.input.channels not in (1, 3):
            raise InputError(
                f"{name}.input.channels: {config.input.channels}, published weights take 3 (or 1)"
            )


def settled(config: ConfigDict) -> ConfigDict:
    """Returns a copy of a run's configuration in which nothing is left open: what the run
    records.
    """
    config = config.copy_and_resolve_references()
    for name in stage_names(config):
        config[name] = settled_stage(config[name])
    return config


def stage_names(config: Any) -> list[str]:
    """Returns the stages a run has, in the order they run."""
    return [name for name in TASKS if name in config]


def claim_workdir(workdir: Path, config: ConfigDict, free: str = "") -> None:
    """Makes `workdir` this run's: writes config.json, or checks that the one there is the same.

    Fields whose name begins with `free` may differ; those of `config` are then written. Raises
    InputError naming the first other field that differs, or why the folder cannot be written.
    """
    ours = json.loads(config.to_json_best_effort())
    path = workdir / "config.json"
    if path.is_file():
        before = _with_added(read_json(path, DAMAGED))
        mine, theirs = (_bound(flat_fields(values), free) for values in (ours, before))
        for key, value in mine.items():
            if key not in theirs or theirs[key] != value:
                there = json.dumps(theirs[key]) if key in theirs else "nothing"
                raise InputError(
                    f"{path}: this workdir belongs to a run with another configuration "
                    f"({key}: {there} there, {json.dumps(value)} now), use another --workdir"
                )
        extra = theirs.keys() - mine.keys()
        if extra:
            raise InputError(
                f"{path}: this workdir belongs to a run that also sets {min(extra)}, use another --workdir"
            )
        if not free or before == ours:
            return
    write_json(path, ours)


def _bound(fields: dict[str, Any], free: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if not (free and name.startswith(free))}


def read_config(workdir: Path) -> ConfigDict:
    """Returns the configuration of the run in `workdir`. Raises InputError if there is none or it
    is damaged.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise InputError(f"{workdir}: no config.json, this is not the workdir of a run")
    values = _with_added(read_json(path, DAMAGED))
    try:
        config = ConfigDict(values).lock()
        check_config(config)
    except ValueError as error:
        raise InputError(
            f"{path}: damaged ({error}), restore it or use another --workdir"
        ) from error
    return config


def _with_added(values: dict[str, Any]) -> dict[str, Any]:
    """Adds the fields of ADDED that a configuration of an earlier version lacks; translates its
    pooling.
    """
    for field, value in ADDED.items():
        *sections, name = field.split(".")
        within: Any = values
        for section in sections:
            within = within.get(section) if isinstance(within, dict) else None
        if isinstance(within, dict):
            within.setdefault(name, copy.copy(value))
    _translate_pooling(values.get("segmenter"))
    return values


def _translate_pooling(stage: Any) -> None:
    """Gives a CoV-RASeg of an earlier version the four fields that its one field `pooling`, if any,
    stood for.
    """
    model = stage.get("model") if isinstance(stage, dict) else None
    if (
        not isinstance(model, dict)
        or model.get("name") != "cov_raseg"
        or "encoder_pooling" in model
    ):
        return
    if model.get("pooling", "max") in SUPERSEDED_POOLING:
        pooling, unpooling = SUPERSEDED_POOLING[model.pop("pooling", "max")]
        model["encoder_smoothing"] = model["decoder_smoothing"] = "avg"
        model["encoder_pooling"] = pooling
        model["decoder_unpooling"] = unpooling


def flat_fields(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the fields of nested sections by their dotted names."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= (
            flat_fields(value, f"{prefix}{key}.")
            if isinstance(value, dict)
            else {prefix + key: value}
        )
    return flat


def _get(config: ConfigDict, dotted: str) -> Any:
    for part in dotted.split("."):
        config = config[part]
    return config


def _among(field: str, value: object, valid: Any) -> None:
    if value not in valid:
        raise unknown(field, value, map(str, valid))


def _positive(field: str, value: float, zero: bool = False) -> None:
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise InputError(f"{field}: {value} must be {'0 or more' if zero else 'more than 0'}")
