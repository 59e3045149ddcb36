"""The door to covjax/configs/cov_ctnet.py for `--config configs/cov_ctnet.py` in a checkout."""

from covjax.configs.cov_ctnet import get_config as get_config
