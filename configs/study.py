"""The door to covjax/configs/study.py for `--config configs/study.py` in a checkout."""

from covjax.configs.study import get_config as get_config
