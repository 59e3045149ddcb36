"""Wavelet transforms on the device, with gradients: a slice denoised by a threshold.

python examples/wavelets_alone.py [OUT.png]
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from covjax.data.phantom.picture import phantom_slice
from covjax.wavelets import Bands, dwt2, idwt2


@jax.jit
def denoise(image: jax.Array, threshold: jax.Array) -> jax.Array:
    """Shrinks the high bands of a db4 transform; image [N, H, W, C]."""
    bands = dwt2(image, "db4")
    high = [jnp.sign(b) * jnp.maximum(jnp.abs(b) - threshold, 0) for b in bands[1:]]
    height, width = image.shape[1:3]
    return idwt2(Bands(bands.ll, *high), "db4")[:, :height, :width]


def main(picture: str) -> None:
    clean = phantom_slice(0, 6, slices_per_patient=12, size=128)[0].astype(np.float32)
    noise = 12 * np.random.default_rng(0).normal(size=clean.shape)
    noisy = (clean + noise)[None, ..., None].astype(np.float32)
    clean = clean[None, ..., None]

    def error(threshold: jax.Array) -> jax.Array:
        return jnp.mean((denoise(noisy, threshold) - clean) ** 2)

    threshold = jnp.float32(1)
    for _ in range(50):  # the threshold is learned by the gradient through both transforms
        threshold -= 0.5 * jax.grad(error)(threshold)
    print(
        f"threshold {threshold:.1f}, mean squared error {error(0.0):.0f} -> {error(threshold):.0f}"
    )
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    shown = {"slice": clean, "with noise": noisy, "denoised": denoise(noisy, threshold)}
    for axes, (title, image) in zip(figure.subplots(1, 3), shown.items(), strict=True):
        axes.imshow(np.asarray(image)[0, ..., 0], cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    figure.savefig(picture, dpi=100)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "denoised.png")
