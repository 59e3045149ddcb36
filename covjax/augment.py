"""Augmentation on the device, under the jit of the training step: image and mask move together.

Every sample has its own random key, so a sample's augmentation does not depend on how devices share the batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates


class Augmentation(NamedTuple):
    """How far augmentation may go; 0 or False switches a part off.

    flip: mirror left-right and top-bottom, each with probability 1/2. rotation: +- degrees. scale: +- share of the
    size (0.1: 0.9 to 1.1). intensity: +- share of contrast, and the same share of 255 as brightness.
    """

    flip: bool = False
    rotation: float = 0.0
    scale: float = 0.0
    intensity: float = 0.0


def augment(
    keys: jax.Array, images: jax.Array, masks: jax.Array | None, how: Augmentation
) -> tuple[jax.Array, jax.Array | None]:
    """Augments images float [N, H, W] in 0..255 and masks int [N, h, w] (or None), one key of `keys` [N] per sample.

    Images are interpolated linearly, masks by nearest neighbour; what comes in from outside is 0 (air, background).
    Image and mask may differ in size: the geometry is that of the unit square.
    """
    if not any(how):
        return images, masks
    axes = (0, 0, None if masks is None else 0)
    return jax.vmap(lambda key, image, mask: _augment_one(key, image, mask, how), axes)(keys, images, masks)


def _augment_one(key, image, mask, how: Augmentation):
    flip_key, warp_key, intensity_key = jax.random.split(key, 3)
    both = (image,) if mask is None else (image, mask)
    if how.flip:
        rows, columns = jax.random.bernoulli(flip_key, shape=(2,))
        both = tuple(jnp.where(rows, x[::-1], x) for x in both)
        both = tuple(jnp.where(columns, x[:, ::-1], x) for x in both)
    if how.rotation or how.scale:
        matrix = _inverse_warp(warp_key, how)
        both = tuple(_warp(x, matrix, order=1 if k == 0 else 0) for k, x in enumerate(both))
    if how.intensity:
        contrast, brightness = jax.random.uniform(intensity_key, (2,), minval=-how.intensity, maxval=how.intensity)
        changed = jnp.clip(both[0] * (1 + contrast) + 255 * brightness, 0, 255)
        both = (changed, *both[1:])
    return both[0], (None if mask is None else both[1])


def _inverse_warp(key, how: Augmentation) -> jax.Array:
    """The 2x2 matrix that takes an output point to the input point it is read from."""
    u = jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
    angle, zoom = u[0] * how.rotation * jnp.pi / 180, 1 + u[1] * how.scale
    return jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]]) / zoom


def _warp(x: jax.Array, matrix: jax.Array, order: int) -> jax.Array:
    centre = (jnp.array(x.shape) - 1) / 2
    grid = jnp.stack(jnp.meshgrid(*[jnp.arange(n) for n in x.shape], indexing="ij"))
    # Offsets are measured in units of each side, so that a rectangle and its square mask turn alike.
    sides = jnp.array(x.shape)[:, None, None]
    offsets = jnp.einsum("ij,jhw->ihw", matrix, (grid - centre[:, None, None]) / sides) * sides
    return map_coordinates(x, offsets + centre[:, None, None], order=order, mode="constant", cval=0)
