"""What fields of different sections must agree in: the network, its task, weights and slices."""

import numpy as np
from flax import linen as nn

from covjax.data.settings import DataSettings
from covjax.data.sources.registry import SOURCES, check_spacing
from covjax.errors import InputError, unknown
from covjax.models import published
from covjax.optim.losses import class_weights
from covjax.optim.settings import PER_PIXEL, LossSettings
from covjax.stages import task_of
from covjax.stages.settings import StageSettings
from covjax.stages.stage import check_fine_tuning, make_model
from covjax.stages.task import Task


def check_data(data: DataSettings) -> None:
    """Raises InputError if there is no such source, or its slices have no physical scale."""
    if data.source not in SOURCES:
        raise unknown("data.source", data.source, SOURCES)
    check_spacing(data.spacing, data.source)


def check_stage(name: str, stage: StageSettings, data: DataSettings) -> None:
    """Raises InputError naming the first field of a stage that does not go with the others."""
    task = task_of(name, data)
    model = make_model(name, stage, data=data)
    _check_start(name, stage, model)
    check_fine_tuning(name, stage)
    _check_loss(f"{name}.loss", stage.loss, task)
    if task.needs_masks and stage.augment.mixup:
        raise InputError(
            f"{name}.augment.mixup: {stage.augment.mixup:g} mixes labels of slices, set 0 for masks"
        )
    smallest = getattr(model, "smallest", 1)
    if min(stage.input.size) < smallest:
        raise InputError(
            f"{name}.input.size: {stage.input.size}, but {stage.model.name} takes {smallest} "
            "pixels or more"
        )


def _check_loss(where: str, loss: LossSettings, task: Task) -> None:
    """Raises InputError for a loss of regions where there are none, or weights of other classes."""
    if loss.name not in PER_PIXEL and not task.predicts_masks:
        raise InputError(
            f"{where}.name: '{loss.name}' compares regions, use {' or '.join(PER_PIXEL)}"
        )
    if "," in loss.class_weights:
        class_weights(loss.class_weights, np.ones(len(task.classes)))


def _check_start(name: str, stage: StageSettings, model: nn.Module) -> None:
    """Raises InputError if what a stage starts from cannot be used, or its normalisation."""
    init = stage.init
    reference = published(model)
    if not init.weights:
        raise InputError(
            f"{name}.init.weights: empty, name the file that holds the weights of "
            f"{reference and reference.name} (--config.{name}.init.weights=PATH)"
        )
    if init.weights == "none":
        if init.skip or init.first != "sum":
            raise InputError(f"{name}.init: skip and first are for weights, set init.weights too")
    elif reference is None:
        raise InputError(
            f"{name}.init.weights: {stage.model.name} has no published weights, set none or use "
            "another model"
        )
    elif init.run:
        raise InputError(f"{name}.init: weights and run are both set, set one of them")
    if stage.input.normalize == "pretrained":
        _check_pretrained_input(name, stage, reference)


def _check_pretrained_input(name: str, stage: StageSettings, reference: nn.Module | None) -> None:
    if reference is None:
        raise InputError(
            f"{name}.input.normalize: {stage.model.name} has no published weights, use zero_center"
        )
    if stage.input.channels not in (1, 3):
        raise InputError(
            f"{name}.input.channels: {stage.input.channels}, published weights take 3 (or 1)"
        )
