"""The door to covjax/configs/quickstart.py for `--config configs/quickstart.py` in a checkout."""

from covjax.configs.quickstart import get_config as get_config
