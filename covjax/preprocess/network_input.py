"""From a stored slice to a network's input, on the device: the same in training and in use."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from covjax.preprocess.enhance import enhance
from covjax.preprocess.settings import InputSettings


class Normalization(NamedTuple):
    """Mean and standard deviation per channel [C] of values 0..255.

    Measured on the training split after enhancement; with `pretrained`, those of the published
    weights.
    """

    mean: np.ndarray
    std: np.ndarray


def pretrained_normalization(
    mean: Sequence[float], std: Sequence[float], channels: int
) -> Normalization:
    """Returns the normalisation that published weights expect, given per colour for values 0..1.

    A single channel gets the means over the colours: `network_input` adds a constant, by which the
    kernels make up for what each colour's differ from them (`covjax.pretrained`).
    """
    both = 255 * np.array([mean, std], np.float64)
    if channels == 1:
        both = both.mean(1, keepdims=True)
    return Normalization(*both.astype(np.float32))


def has_constant(config: InputSettings) -> bool:
    """Whether the network sees a constant 1 next to one grey channel: see `network_input`."""
    return config.normalize == "pretrained" and config.channels == 1


def network_channels(config: InputSettings) -> int:
    """Returns how many channels `network_input` has; normalize must not be "auto" any more."""
    return config.channels + has_constant(config)


def slice_size(config: InputSettings) -> tuple[int, int]:
    """Returns the size of slices before enhancement; without it, the network's own."""
    return tuple(getattr(config, size_field(config)))


def size_field(config: InputSettings) -> str:
    """Returns the name of the field that says what `slice_size` does."""
    return "size" if config.enhance == "none" else "slice_size"


def enhanced(images: jax.Array, config: InputSettings, aligned: bool = False) -> jax.Array:
    """Enhances slices [N, H, W], float or uint8 in 0..255, as `config` says.

    Returns float32 [N, *config.size, config.channels] in 0..255. `aligned` lays the result over the
    slice and its mask (see `enhance`), as needed to label pixels.
    """
    x = jnp.asarray(images, jnp.float32)[..., None]
    x = enhance(x, preset=config.enhance, gain=config.gain, size=config.size, aligned=aligned)
    return jnp.repeat(x, config.channels, axis=-1)


def network_input(
    images: jax.Array, config: InputSettings, normalization: Normalization, aligned: bool = False
) -> jax.Array:
    """Turns slices [N, H, W] in 0..255 into the network's input.

    Returns float32 [N, *config.size, network_channels(config)]. With one channel and
    normalize="pretrained" a constant 1 follows it. Kernels of three colours, each normalised by its
    own mean and deviation, cannot be those of one grey channel alone: at the border, where the
    normalised slice is padded with zeros, less of what the means add is seen than inside. The
    constant is padded likewise. Of `aligned` see `enhanced`.
    """
    x = enhanced(images, config, aligned) - jnp.asarray(normalization.mean, jnp.float32)
    if config.normalize in ("standardize", "pretrained"):
        x = x / jnp.maximum(jnp.asarray(normalization.std, jnp.float32), 1e-6)
    if has_constant(config):
        x = jnp.concatenate([x, jnp.ones_like(x)], -1)
    return x
