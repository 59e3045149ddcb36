"""The door to covjax/configs/transfer.py for `--config configs/transfer.py` in a checkout."""

from covjax.configs.transfer import get_config as get_config
