"""The door to covjax/configs/framework.py for `--config configs/framework.py` in a checkout."""

from covjax.configs.framework import get_config as get_config
