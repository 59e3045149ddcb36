"""The door to covjax/configs/cov_raseg.py for `--config configs/cov_raseg.py` in a checkout."""

from covjax.configs.cov_raseg import get_config as get_config
