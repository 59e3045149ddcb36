"""The door to covjax/configs/segment.py for `--config configs/segment.py` in a checkout."""

from covjax.configs.segment import get_config as get_config
