"""A new pooling operator, the median of a window, tried in CoV-RASeg without touching the package.

python examples/new_pooling.py [WORKDIR]
"""

import sys
from pathlib import Path

import jax.numpy as jnp
import train_from_python

from covjax import pooling
from covjax.framework import train_run
from covjax.ops import pool
from covjax.settings import read_settings


def median(x, window, stride, parameters=None, keys=None):
    """Pools windows side by side to their median; x [N, H, W, C], nothing kept for unpooling."""
    n, height, width, channels = x.shape
    rows, columns = height // window, width // window
    tiles = x[:, : rows * window, : columns * window]
    tiles = tiles.reshape(n, rows, window, columns, window, channels)
    return jnp.median(tiles, axis=(2, 4)), None


pool.KINDS["median"] = pool.Kind(median, "the median of the window")
pooling.FITS["nearest"] += ("median",)


def main(workdir: Path) -> None:
    config = train_from_python.small_config()
    config.segmenter.model.update(encoder_pooling="median", decoder_unpooling="nearest")
    config.segmenter.epochs = 2
    train_run(read_settings(config), workdir)
    print(f"{workdir / 'results' / 'test' / 'summary.json'}: scores with the median")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/median"))
