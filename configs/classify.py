"""The door to covjax/configs/classify.py for `--config configs/classify.py` in a checkout."""

from covjax.configs.classify import get_config as get_config
