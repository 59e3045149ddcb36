"""Test-time augmentation: probabilities averaged over mirror images and sizes of a slice."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from covjax.errors import InputError
from covjax.preprocess.enhance import enhance
from covjax.settings import RunSettings
from covjax.stages.stage import Stage, make_model

SCALES = (0.75, 1.0, 1.25)
FLIPS = ((False, False), (True, False), (False, True), (True, True))  # along height, along width


def averaged_outputs(
    stage: Stage, variables: Any, images: jax.Array, tta: tuple[str, ...]
) -> dict[str, jax.Array]:
    """Runs the network on every view of slices [N, H, W] in 0..255 that `tta` names.

    Views are those of `options.TTA`. A slice is mirrored before enhancement, as in training; its
    size is changed where the enhancement leaves it. What comes out is mirrored back exactly and,
    for masks, brought back to the network's size bilinearly.

    Returns:
      "logits" [N, K] or [N, h, w, K]: logarithms of the class probabilities averaged over the views
      in float32, so that their softmax is that average; each view's are calibrated before,
      softmax(logits / temperature of `stage`); and "features" [N, D], averaged, if the network
      exposes them.
    """
    scales = SCALES if "scales" in tta else (1.0,)
    flips = jnp.array(FLIPS if "flips" in tta else FLIPS[:1])

    def add_views(total, flip):
        views = [
            _mirrored(_at_scale(stage, variables, _flip(images, flip), scale), flip)
            for scale in scales
        ]
        return jax.tree.map(lambda t, *v: t + sum(v), total, *views), None

    # A scan, because compiling the network once per mirror image would take four times as long.
    shapes = jax.eval_shape(lambda: _at_scale(stage, variables, images, 1.0))
    total, _ = lax.scan(
        add_views, jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.float32), shapes), flips
    )
    mean = jax.tree.map(lambda t: t / (len(scales) * len(flips)), total)
    probability = jnp.maximum(mean.pop("probability"), jnp.finfo(jnp.float32).tiny)
    return {"logits": jnp.log(probability), **mean}


def check_tta(config: RunSettings, tta: tuple[str, ...]) -> None:
    """Raises InputError if a view is smaller than a network of a run takes."""
    for name, stage in config.stages.items() if "scales" in tta else ():
        least = getattr(make_model(name, stage, data=config.data), "smallest", 1)
        size = _scaled(stage.input.size, min(SCALES))
        if min(size) < least:
            raise InputError(
                f"--tta: scales shows the {name} its input at {min(SCALES)} times its size, "
                f"{size[0]}x{size[1]} pixels, but {stage.model.name} takes {least} or more; use "
                "--tta=flips or leave the flag out"
            )


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    height, width = size
    return round(height * scale), round(width * scale)


def _at_scale(
    stage: Stage, variables: Any, images: jax.Array, scale: float
) -> dict[str, jax.Array]:
    """Returns probability and features of one view, masks at the network's usual size."""
    size = stage.config.input.size
    outputs = stage.outputs(variables, images, _scaled(size, scale))
    probability = jax.nn.softmax(
        outputs.pop("logits").astype(jnp.float32) / stage.calibration.temperature
    )
    if probability.ndim == 4:
        # resizes with the same bits in any batch
        probability = enhance(probability, preset="none", size=size)
    return {"probability": probability, **outputs}


def _mirrored(outputs: dict[str, jax.Array], flip: jax.Array) -> dict[str, jax.Array]:
    probability = outputs["probability"]
    return outputs | ({"probability": _flip(probability, flip)} if probability.ndim == 4 else {})


def _flip(x: jax.Array, flip: jax.Array) -> jax.Array:
    """Mirrors [N, H, W, ...] along height and width where `flip` bool [2] is true."""
    x = jnp.where(flip[0], x[:, ::-1], x)
    return jnp.where(flip[1], x[:, :, ::-1], x)
