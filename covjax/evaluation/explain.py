"""What in a slice speaks for infection, as the classifier sees it: Grad-CAM heat maps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from covjax.errors import InputError
from covjax.preprocess.enhance import places_of
from covjax.preprocess.placement import read_at, resized_places
from covjax.preprocess.settings import InputSettings
from covjax.stages.stage import Stage

OUTCOMES = ("tp", "fp", "fn", "tn")


def grad_cam(stage: Stage, variables: Any, images: jax.Array, cls: int = 1) -> jax.Array:
    """Returns heat maps of the class with logit `cls`, float32 [N, H, W] in 0..1.

    They are as large as the slices. The maps of the last convolutional layer are weighted by the
    mean gradient of the logit over each map, summed, cut at 0, laid bilinearly over the slice where
    the network saw it, which with enhancement is where the coefficients of the band lie, and
    divided by their maximum. A slice in which nothing speaks for the class gets 0 everywhere.

    Args:
      stage: a classifier whose network exposes its "feature_map" (see covjax.models).
      variables: its parameters and batch statistics.
      images: slices [N, H, W] in 0..255.

    Raises:
      InputError: the network exposes no feature map.

    Source: "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
    arXiv:1610.02391.
    """
    images = jnp.asarray(images)

    def run(perturbation):
        given = (
            {**variables, "perturbations": {"feature_map": perturbation}}
            if perturbation is not None
            else variables
        )
        logits, kept = stage.logits(given, images, train=False, mutable=["intermediates"])
        # a slice's logit is its own
        return logits[:, cls].sum(), kept["intermediates"].get("feature_map")

    exposed = jax.eval_shape(lambda: run(None)[1])
    if exposed is None:
        raise InputError(
            f"model {stage.config.model.name}: exposes no feature_map, it cannot be explained"
        )
    gradient, (maps,) = jax.grad(run, has_aux=True)(jnp.zeros(exposed[0].shape, jnp.float32))
    weights = gradient.mean((1, 2), keepdims=True)
    heat = jax.nn.relu((weights * maps.astype(jnp.float32)).sum(-1))
    _, height, width = images.shape
    heat = _over_slices(heat, stage.config.input, (height, width))
    top = heat.max((1, 2), keepdims=True)
    return jnp.where(top > 0, heat / jnp.where(top > 0, top, 1), 0)


def _over_slices(heat: jax.Array, config: InputSettings, shape: tuple[int, int]) -> jax.Array:
    """Reads maps [N, h, w], which span a network's input, at the pixels of slices of `shape`."""
    x = heat[..., None]
    for k, of_input in enumerate(places_of(config.enhance, shape, config.size)):
        cells = of_input.of(resized_places(config.size[k], heat.shape[k + 1]))
        x = read_at(x, k + 1, shape[k], cells.inverse())
    return x[..., 0]


def most_confident(
    label: np.ndarray, log_odds: np.ndarray, called: np.ndarray, each: int = 4
) -> np.ndarray:
    """Returns positions of up to `each` most confident calls of tp, fp, fn and tn, in this order.

    Args:
      label: [N] of 0 and 1.
      log_odds: [N] of infection.
      called: bool [N], which slices were called infected.
    """
    called = np.asarray(called, bool)
    label = np.asarray(label)
    chosen = []
    for outcome in OUTCOMES:
        positive = outcome[1] == "p"
        right = label == (called if outcome[0] == "t" else ~called)
        positions = np.flatnonzero(right & (called == positive))
        confidence = log_odds[positions] * (1 if positive else -1)
        chosen.append(positions[np.argsort(-confidence, kind="stable")][:each])
    return np.concatenate(chosen)
