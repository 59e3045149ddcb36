from typing import Any

from absl import flags

def DEFINE_config_file(
    name: str, default: str | None = None, help_string: str = ..., **kwargs: Any
) -> flags.FlagHolder[Any]: ...
