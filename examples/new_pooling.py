"""A new pooling operator, the median of a window, tried in CoV-RASeg without touching the package.

python examples/new_pooling.py [WORKDIR]

The commands take the same file: `covjax operators --check=median --plugin=examples/new_pooling.py`.
"""

import sys
from pathlib import Path

import jax.numpy as jnp

from covjax.framework import train_run
from covjax.pooling import register_pooling, views
from covjax.settings import read_settings


def median(x, grid, parameters, keys):
    """Pools the windows of `grid` to their median; x [N, H, W, C], nothing kept for unpooling."""
    return jnp.median(jnp.stack(views(x, grid)), axis=0), None


register_pooling("median", median, text="the median of the window")


def main(workdir: Path) -> None:
    from train_from_python import small_config  # of this folder, which commands do not search

    config = small_config()
    config.segmenter.model.update(encoder_pooling="median", decoder_unpooling="nearest")
    config.segmenter.epochs = 2
    train_run(read_settings(config), workdir)
    print(f"{workdir / 'results' / 'test' / 'summary.json'}: scores with the median")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/median"))
