"""Augmentation on the device, under the jit of the training step: image and mask move together.

Every sample has its own random key, by its place in the global batch, so that an augmentation does
not depend on how devices share that batch. Parts that are off cost nothing. In this order: flips,
one warp (affine and elastic), contrast and brightness, gamma, blur, noise, cutout; then mixup.
"""

import math
import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy.special import betaincinv

from covjax.data.label_map import IGNORE
from covjax.errors import InputError
from covjax.ops.grids import add_up
from covjax.preprocess.settings import Augmentation
from covjax.preprocess.warp import draw_warp, places, read_from, read_linear, read_nearest

CLASSES = 2  # healthy, infected: those that mixup mixes
WARP_FIELDS = ("rotation", "scale", "translation", "shear", "elastic")
QUANTILES = 1024  # of the Beta distribution that mixup draws from


def augment_batch(
    key: jax.Array, positions: jax.Array, batch: dict[str, jax.Array], how: Augmentation
) -> dict:
    """Returns a training batch with image and mask augmented, and labels mixed if asked.

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
    """Augments images uint8 [N, H, W] and masks uint8 [N, h, w], or None; `keys` are [N].

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
    """Mixes each sample with its neighbour in the batch: 0 with 1, 2 with 3, and so on.

    Batches are shuffled anyway, and so partners lie on one device however many share the batch, as
    long as each has an even number of samples.

    Args:
      keys: [N].
      images: float32 [N, H, W].
      labels: int [N].
      valid: bool [N]; padding is mixed into nothing.
      alpha: a sample's own weight is the larger of w and 1 - w, where w is drawn from
        Beta(alpha, alpha).

    Returns:
      Images, and labels float32 [N, 2]: the share of each class.

    Raises:
      InputError: N is odd.

    Source: "mixup: Beyond Empirical Risk Minimization" (2017), arXiv:1710.09412; there one weight
    serves a whole batch.
    """
    if len(images) % 2:
        raise InputError(
            f"augment.mixup: mixes pairs, but a device gets {len(images)} slices, "
            "use an even batch_size"
        )
    # One of so many quantiles, because drawing from a Beta distribution takes a loop that tries
    # until it fits.
    quantiles = betaincinv(
        alpha, alpha, 0.5 + (np.arange(QUANTILES) + 0.5) / (2 * QUANTILES)
    ).astype(np.float32)
    drawn = jax.vmap(lambda key: jax.random.randint(_key_of(key, "mixup"), (), 0, QUANTILES))(keys)
    partner = jnp.arange(len(images)) ^ 1
    own = jnp.where(valid[partner], jnp.asarray(quantiles)[drawn], 1.0)

    def mixed(x: jax.Array) -> jax.Array:
        weight = own.reshape(-1, *[1] * (x.ndim - 1))
        return weight * x + (1 - weight) * x[partner]

    return mixed(images), mixed(jax.nn.one_hot(labels, CLASSES))


def _key_of(key: jax.Array, operation: str) -> jax.Array:
    """Returns a key by the operation's name: a number might be one that `split` counts with."""
    return jax.random.fold_in(key, zlib.crc32(operation.encode()))


def _augment_one(
    key: jax.Array, image: jax.Array, mask: jax.Array | None, how: Augmentation
) -> tuple[jax.Array, jax.Array | None]:
    both = [image] if mask is None else [image, mask]
    if how.flip:
        rows, columns = jax.random.bernoulli(_key_of(key, "flip"), shape=(2,))
        both = [jnp.where(rows, x[::-1], x) for x in both]
        both = [jnp.where(columns, x[:, ::-1], x) for x in both]
    measures = {field: getattr(how, field) for field in WARP_FIELDS}
    if any(measures.values()):
        warp = draw_warp(_key_of(key, "warp"), image.shape, **measures)
        readers = zip((read_linear, read_nearest), both, strict=False)
        both = [read(x, read_from(warp, x.shape)) for read, x in readers]
    both[0] = _change_grey(key, both[0].astype(jnp.float32), how)
    if how.cutout:
        centre = jax.random.uniform(_key_of(key, "cutout"), (2,), minval=-0.5, maxval=0.5)
        fills = zip(both, (both[0].mean(), IGNORE), strict=False)
        both = [jnp.where(_in_window(x.shape, centre, how.cutout), fill, x) for x, fill in fills]
    return both[0], None if mask is None else both[1]


def _change_grey(key: jax.Array, x: jax.Array, how: Augmentation) -> jax.Array:
    contrast, brightness, exponent, noise, blur = jax.random.uniform(
        _key_of(key, "intensity"), (5,), minval=-1.0, maxval=1.0
    )
    if how.intensity:
        x = jnp.clip(x * (1 + how.intensity * contrast) + 255 * how.intensity * brightness, 0, 255)
    if how.gamma:
        x = 255 * (x / 255) ** ((1 + how.gamma) ** exponent)
    if how.blur:
        x = _blurred(x, how.blur * jnp.abs(blur), radius=math.ceil(3 * how.blur))
    if how.noise:
        grain = jax.random.normal(_key_of(key, "noise"), x.shape)
        x = jnp.clip(x + 255 * how.noise * jnp.abs(noise) * grain, 0, 255)
    return x


def _blurred(x: jax.Array, deviation: jax.Array | float, radius: int) -> jax.Array:
    """Gaussian blur as shifted sums along one side, then the other; the border is repeated."""
    weights = jnp.exp(-0.5 * (jnp.arange(-radius, radius + 1) / jnp.maximum(deviation, 1e-3)) ** 2)
    weights = lax.optimization_barrier(weights / weights.sum())
    height, width = x.shape
    padded = jnp.pad(x, ((radius, radius), (0, 0)), "edge")
    x = add_up([weight * padded[k : k + height] for k, weight in enumerate(weights)])
    # Behind a barrier, so that the first sum is not computed once per term of the second.
    padded = jnp.pad(lax.optimization_barrier(x), ((0, 0), (radius, radius)), "edge")
    return add_up([weight * padded[:, k : k + width] for k, weight in enumerate(weights)])


def _in_window(shape: tuple[int, ...], centre: jax.Array, share: float) -> jax.Array:
    rows, columns = (jnp.abs(places(n) - c) < share / 2 for n, c in zip(shape, centre, strict=True))
    return rows[:, None] & columns[None]
