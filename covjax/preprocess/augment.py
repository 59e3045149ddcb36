"""Augmentation on the device, under the jit of the training step: image and mask move together.

Every sample has its own random key, by its place in the global batch, so that an augmentation does
not depend on how devices share that batch. Parts that are off cost nothing. In this order: flips,
one warp (affine and elastic), contrast and brightness, gamma, blur, noise, cutout; then mixup.
"""

import math
import zlib
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy.special import betaincinv

from covjax.data.label_map import IGNORE
from covjax.errors import InputError, unknown

CLASSES = 2  # healthy, infected: those that mixup mixes
PIECES = 4  # of the cubic B-spline along each side, by which an elastic deformation bends a slice
# with a key each, and "mixup" with another
OPERATIONS = ("flip", "warp", "intensity", "noise", "cutout")
QUANTILES = 1024  # of the Beta distribution that mixup draws from
# bits of a pixel's fraction in the coordinates of a warp; sides of 4096 need 12 more of 31
FRACTION = 12


class Augmentation(NamedTuple):
    """How far augmentation may go, each sample uniformly up to there; 0 or False switches a part
    off.

    flip: mirror left-right and top-bottom, each with probability 1/2. rotation, shear: +- degrees
    in the picture, whatever its sides. scale: +- share of the size (0.1: 0.9 to 1.1). translation:
    +- share of the side. elastic: +- share of the side by which the 7x7 nodes of a cubic B-spline
    move; up to 0.12 it folds nowhere. intensity: +- share of contrast, and the same share of 255 as
    brightness. gamma: an exponent of 1 / (1 + gamma) to 1 + gamma, evenly on a logarithmic scale,
    of values as shares of 255. noise: standard deviation of Gaussian noise, as a share of 255.
    blur: that of a Gaussian blur, in pixels. cutout: a window of this share of the height and of
    the width, about a point anywhere in the slice: there the image becomes its own mean and the
    mask 255, which counts nowhere. Source: "Improved Regularization of Convolutional Neural
    Networks with Cutout" (2017), arXiv:1708.04552, which is about classification. mixup: of a
    classifier, see `mix_pairs`.
    """

    flip: bool = False
    rotation: float = 0.0
    scale: float = 0.0
    translation: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    intensity: float = 0.0
    gamma: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    cutout: float = 0.0
    mixup: float = 0.0


# Up to which value, or below which, a part makes sense.
LIMITS = {
    "flip": 1, "rotation": 180, "scale": 0.9, "translation": 0.5, "shear": 60, "elastic": 0.12, "intensity": 0.9,
    "gamma": 4, "noise": 0.5, "blur": 8, "cutout": 0.9, "mixup": 10,
}  # fmt: skip


def check_augmentation(where: str, config: Any) -> None:
    """Raises InputError naming the field of `config`, the `augment` section called `where`, that
    cannot be used.
    """
    for field, value in config.items():
        if field not in LIMITS:
            raise unknown(where, field, LIMITS)
        if not (math.isfinite(value) and 0 <= value <= LIMITS[field]):
            raise InputError(f"{where}.{field}: {value} must be 0 (off) to {LIMITS[field]:g}")


def augment_batch(
    key: jax.Array, positions: jax.Array, batch: dict[str, jax.Array], how: Augmentation
) -> dict:
    """Returns a training batch with its image, and mask if it has one, augmented, and its label
    mixed if asked.

    Image uint8 [N, H, W] becomes float32; with mixup, label int [N] becomes float32 [N, 2].
    `positions` int [N] are the samples' places in the global batch: the key of a sample is folded
    from `key` and its place.
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, positions)
    images, masks = augment(keys, batch["image"], batch.get("mask"), how)
    batch = batch | {"image": images} | ({} if masks is None else {"mask": masks})
    if how.mixup:
        images, labels = mix_pairs(keys, images, batch["label"], batch["valid"], how.mixup)
        batch = batch | {"image": images, "label": labels}
    return batch


def augment(
    keys: jax.Array, images: jax.Array, masks: jax.Array | None, how: Augmentation
) -> tuple[jax.Array, jax.Array | None]:
    """Augments images uint8 [N, H, W] and masks uint8 [N, h, w] (or None), one key of `keys` [N]
    per sample.

    Returns images float32 in 0..255 and masks uint8. Images are interpolated linearly, masks by
    nearest neighbour. What comes in from outside is black, as what surrounds a slice that keeps its
    scale is, and 255 in the mask, which counts nowhere: nothing is to be learned there. Image and
    mask may differ in size: the mask moves with its image.
    """
    axes = (0, 0, None if masks is None else 0)
    return jax.vmap(partial(_augment_one, how=how), axes)(keys, images, masks)


def mix_pairs(
    keys: jax.Array, images: jax.Array, labels: jax.Array, valid: jax.Array, alpha: float
) -> tuple[jax.Array, jax.Array]:
    """Mixes each sample with its neighbour in the batch: 0 with 1, 2 with 3, and so on; batches are
    shuffled anyway.

    So partners lie on one device however many share the batch, as long as each has an even number
    of samples.

    Args:
      keys: [N]. images: float32 [N, H, W]. labels: int [N]. valid: bool [N]; padding is mixed into nothing.
      alpha: a sample's own weight is the larger of w and 1 - w, where w is drawn from Beta(alpha, alpha).

    Returns:
      Images, and labels float32 [N, 2]: the share of each class. Raises InputError if N is odd.

    Source: "mixup: Beyond Empirical Risk Minimization" (2017), arXiv:1710.09412; there one weight
    serves a whole batch.
    """
    if len(images) % 2:
        raise InputError(
            f"augment.mixup: mixes pairs, but a device gets {len(images)} slices, use an even batch_size"
        )
    # One of so many quantiles, because drawing from a Beta distribution takes a loop that tries
    # until it fits.
    quantiles = betaincinv(
        alpha, alpha, 0.5 + (np.arange(QUANTILES) + 0.5) / (2 * QUANTILES)
    ).astype(np.float32)
    drawn = jax.vmap(lambda key: jax.random.randint(_key_of(key, "mixup"), (), 0, QUANTILES))(keys)
    partner = jnp.arange(len(images)) ^ 1
    own = jnp.where(valid[partner], jnp.asarray(quantiles)[drawn], 1.0)
    shares = jax.nn.one_hot(labels, CLASSES)
    return tuple(
        (weight := own.reshape(-1, *[1] * (x.ndim - 1))) * x + (1 - weight) * x[partner]
        for x in (images, shares)
    )


def _key_of(key: jax.Array, operation: str) -> jax.Array:
    """Returns the key of an operation on a sample, by its name: a number might be one that `split`
    counts with.
    """
    return jax.random.fold_in(key, zlib.crc32(operation.encode()))


def _augment_one(key, image, mask, how: Augmentation):
    flip_key, warp_key, intensity_key, noise_key, cutout_key = (
        _key_of(key, name) for name in OPERATIONS
    )
    both = [image] if mask is None else [image, mask]
    if how.flip:
        rows, columns = jax.random.bernoulli(flip_key, shape=(2,))
        both = [jnp.where(rows, x[::-1], x) for x in both]
        both = [jnp.where(columns, x[:, ::-1], x) for x in both]
    if how.rotation or how.scale or how.translation or how.shear or how.elastic:
        source = _draw_warp(warp_key, how, image.shape)
        both = [
            read(x, _fixed_point(source, x.shape))
            for read, x in zip((_linear, _nearest), both, strict=False)
        ]
    image = both[0].astype(jnp.float32)
    mask = None if mask is None else both[1]
    image = _change_grey(intensity_key, noise_key, image, how)
    if how.cutout:
        centre = jax.random.uniform(cutout_key, (2,), minval=-0.5, maxval=0.5)
        image = jnp.where(_in_window(image.shape, centre, how.cutout), image.mean(), image)
        mask = (
            None
            if mask is None
            else jnp.where(_in_window(mask.shape, centre, how.cutout), IGNORE, mask)
        )
    return image, mask


def _change_grey(key, noise_key, x, how: Augmentation):
    contrast, brightness, exponent, noise, blur = jax.random.uniform(
        key, (5,), minval=-1.0, maxval=1.0
    )
    if how.intensity:
        x = jnp.clip(x * (1 + how.intensity * contrast) + 255 * how.intensity * brightness, 0, 255)
    if how.gamma:
        x = 255 * (x / 255) ** ((1 + how.gamma) ** exponent)
    if how.blur:
        x = _blurred(x, how.blur * jnp.abs(blur), radius=math.ceil(3 * how.blur))
    if how.noise:
        x = jnp.clip(
            x + 255 * how.noise * jnp.abs(noise) * jax.random.normal(noise_key, x.shape), 0, 255
        )
    return x


def _blurred(x, deviation, radius: int):
    """Gaussian blur as shifted sums along one side after the other; pixels at the border are
    repeated beyond it.
    """
    weights = jnp.exp(-0.5 * (jnp.arange(-radius, radius + 1) / jnp.maximum(deviation, 1e-3)) ** 2)
    weights = lax.optimization_barrier(weights / weights.sum())
    height, width = x.shape
    padded = jnp.pad(x, ((radius, radius), (0, 0)), "edge")
    x = sum(weight * padded[k : k + height] for k, weight in enumerate(weights))
    # Behind a barrier, lest the first sum is computed once per term of the second.
    padded = jnp.pad(lax.optimization_barrier(x), ((0, 0), (radius, radius)), "edge")
    return sum(weight * padded[:, k : k + width] for k, weight in enumerate(weights))


def _in_window(shape, centre, share: float):
    rows, columns = (
        jnp.abs(_places(n) - c) < share / 2 for n, c in zip(shape, centre, strict=True)
    )
    return rows[:, None] & columns[None]


def _places(side: int) -> np.ndarray:
    """Where the pixels of a side lie, as shares of it, from the middle."""
    return ((np.arange(side) - (side - 1) / 2) / side).astype(np.float32)


def _draw_warp(key, how: Augmentation, shape):
    """Draws (matrix [2, 2], shift [2], nodes [2, 7, 7]): point p is read from matrix p + shift +
    what the nodes say.

    Points are shares of the sides from the middle. Angles are those of pictures of `shape` (rows,
    columns).
    """
    affine_key, elastic_key = jax.random.split(key)
    angle, zoom, lean, *shift = jax.random.uniform(affine_key, (5,), minval=-1.0, maxval=1.0)
    angle = jnp.deg2rad(how.rotation * angle)
    lean = jnp.deg2rad(how.shear * lean)
    turn = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
    lean = jnp.array([[1.0, 0.0], [jnp.tan(lean), 1.0]])
    matrix = jnp.matmul(turn, lean, precision="highest") / (1 + how.scale * zoom)
    # from pixels to shares of the sides
    matrix *= np.float32([[1, shape[1] / shape[0]], [shape[0] / shape[1], 1]])
    nodes = jax.random.uniform(
        elastic_key, (2, PIECES + 3, PIECES + 3), minval=-how.elastic, maxval=how.elastic
    )
    # Behind a barrier, lest sines are computed for every pixel.
    return lax.optimization_barrier(
        (matrix, how.translation * jnp.stack(shift), nodes if how.elastic else None)
    )


def _fixed_point(source, shape):
    """The pixel [H, W] that each pixel is read from: row and column, int32 in units of 2^-FRACTION.

    One pixel further than the slice, where its frame lies, is far enough. Integers, because
    programs that round a float to a pixel here and take its fraction there may contradict each
    other by a pixel.
    """
    matrix, shift, nodes = source
    down = _places(shape[0])[:, None]
    right = _places(shape[1])[None]
    found = []
    for k, side in enumerate(shape):
        place = matrix[k, 0] * down + matrix[k, 1] * right + shift[k]
        if nodes is not None:
            rows, columns = map(_spline, shape)
            place += sum(
                rows[:, j, None] * (nodes[k, j] * columns).sum(-1) for j in range(PIECES + 3)
            )
        pixel = jnp.clip(place * side + (side - 1) / 2, -1, side) + 1
        found.append(jnp.round(pixel * 2**FRACTION).astype(jnp.int32))
    return lax.optimization_barrier(tuple(found))


def _spline(side: int) -> np.ndarray:
    """The weights [side, 7] of the nodes of a uniform cubic B-spline at every pixel of a side."""
    u = (np.arange(side) + 0.5) / side * PIECES
    distance = np.abs(u[:, None] + 1 - np.arange(PIECES + 3))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.maximum(2 - distance, 0) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def _linear(x, place):
    """Reads uint8 [H, W] at places within its frame of zeros, linearly, as float32.

    A pixel and its three neighbours are packed into one word, so that one gather reads them all.
    """
    framed = jnp.pad(x, ((1, 2), (1, 2))).astype(jnp.uint32)
    words = framed[:-1, :-1] | framed[:-1, 1:] << 8 | framed[1:, :-1] << 16 | framed[1:, 1:] << 24
    read = lax.optimization_barrier(_gather(words, *(p >> FRACTION for p in place)))
    corners = [(read >> shift & 255).astype(jnp.float32) for shift in (0, 8, 16, 24)]
    down, right = ((p & (2**FRACTION - 1)).astype(jnp.float32) / 2**FRACTION for p in place)
    above = corners[0] + (corners[1] - corners[0]) * right
    below = corners[2] + (corners[3] - corners[2]) * right
    return above + (below - above) * down


def _nearest(x, place):
    return _gather(
        jnp.pad(x, 1, constant_values=IGNORE), *(p + 2 ** (FRACTION - 1) >> FRACTION for p in place)
    )


def _gather(x, rows, columns):
    return x.reshape(-1).at[rows * x.shape[1] + columns].get(mode="promise_in_bounds")
