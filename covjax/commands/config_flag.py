"""The flag --config of a command: a configuration file, and --config.a.b=value for its fields."""

import itertools
import os
import re
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from absl import flags
from ml_collections import ConfigDict, config_flags

from covjax import configs
from covjax.errors import InputError, unknown

SHIPPED = Path(configs.__file__).parent
CONFIGS = sorted(path.stem for path in SHIPPED.glob("[!_]*.py"))
MEANING = (
    f"A configuration that ships ({', '.join(CONFIGS)}) or a file of your own (with / or .py); "
    "--config.SECTION.FIELD=VALUE sets a field of it."
)
_FLAG = ("--config", "-config")


def define_config(
    own: flags.FlagValues, meaning: str = MEANING
) -> flags.FlagHolder[ConfigDict | None]:
    """Adds the flag --config to those of a command."""
    return config_flags.DEFINE_config_file(
        "config", None, meaning, lock_config=True, flag_values=own
    )


def named_by_fields(argv: Sequence[str]) -> list[str]:
    """Returns a command line in which fields of --config may stand without a configuration."""
    words = [word for word in argv[1:] if re.match(r"--?config[.=]|--?config$", word)]
    if not words or not all("." in word.partition("=")[0] for word in words):
        return list(argv)
    return [argv[0], "--config=framework", *argv[1:]]  # the flag library asks for it first


def section_overrides(own: flags.FlagValues, section: str) -> dict[str, Any]:
    """Returns the fields of a section that flags set, nested; of none other may they set any.

    Raises InputError if one does, or if --config names a file.
    """
    if own["config"].value is None:
        return {}
    fields: dict[str, Any] = cast(Any, own["config"]).override_values
    if not fields:
        raise InputError(f"--config: the run has its own, set fields (--config.{section}.FIELD=..)")
    nested: dict[str, Any] = {}
    for name, value in fields.items():
        *sections, field = name.split(".")
        if sections[:1] != [section]:
            raise InputError(
                f"--config.{name}: the run has its own, only fields of {section} can be set here"
            )
        place = nested
        for one in sections[1:]:
            place = place.setdefault(one, {})
        place[field] = value
    return nested


def settle_overrides(argv: Sequence[str]) -> list[str]:
    """Returns a command line that gives each field of --config once, the last time it is given.

    The flag library would join the values of a field that is a tuple. --config names a file then,
    see `config_file`.
    """
    fields = [re.match(r"--?(config\.[\w.]+)=", word) for word in argv]
    last = {field[1]: place for place, field in enumerate(fields) if field}
    kept = [
        word
        for place, (word, field) in enumerate(zip(argv, fields, strict=True))
        if field is None or last[field[1]] == place
    ]
    return [_settled(flag, word) for flag, word in itertools.pairwise(["", *kept])]


def _settled(before: str, word: str) -> str:
    if before in _FLAG:
        return config_file(word)
    flag, equals, value = word.partition("=")
    return f"{flag}={config_file(value)}" if equals and flag in _FLAG else word


def config_file(value: str) -> str:
    """Returns the file, and after a colon its argument, that a value of --config means.

    With / or .py it is a file, in which ~ is expanded; without, one of CONFIGS. Raises InputError
    for a name that is none of these.
    """
    name, colon, argument = value.partition(":")
    if "/" in name or name.endswith(".py"):
        return os.path.expanduser(name) + colon + argument
    if name not in CONFIGS:
        raise unknown("--config", name, CONFIGS)
    return f"{SHIPPED / name}.py{colon}{argument}"


def field_problem(message: str) -> str | None:
    """Returns what is wrong with a field's value, from what the flag library says of it."""
    field = re.match(r"flag --config\.([\w.]+)=(.*?): ", message)
    if field is None:
        return None
    reason = message.removeprefix(field[0])
    return f"--config.{field[1]}: '{field[2]}' does not fit this field ({reason})"


def check_overrides(argv: Sequence[str]) -> None:
    """Raises InputError if --config names no usable file, or --config.a.b no field of it.

    The flag library finds both too, but says neither which fields there are nor what is wrong with
    the file.
    """
    path = None
    fields: list[str] = []
    for argument, following in itertools.pairwise([*argv[1:], ""]):
        if field := re.match(r"--?(?:no)?config\.([^=]+)", argument):
            fields.append(field[1])
        elif named := re.match(r"--?config(?:=(.*))?$", argument):
            path = following if named[1] is None else named[1]
    if path is not None:
        config = _load_config(path)
        for field in fields:
            _check_field(config, field)


def _check_field(config: ConfigDict, field: str) -> None:
    value = config
    where = "--config"
    for part in field.split("."):
        if not isinstance(value, ConfigDict):
            raise InputError(f"{where}: a value, it has no field '{part}'")
        if part not in value:
            raise unknown(where, part, value.keys())
        value = value[part]
        where = f"{where}.{part}"
    if isinstance(value, ConfigDict):
        fields = ", ".join(sorted(value.keys()))
        raise InputError(f"{where}: a section, set one of its fields: {fields}")


def _load_config(named: str) -> ConfigDict:
    """Runs the file that --config names; what follows a colon is the argument of get_config()."""
    path, *argument = named.split(":", 1)
    if not Path(path).is_file():
        raise InputError(
            f"--config: {path} is not a file, name one, or one of {', '.join(CONFIGS)}"
        )
    try:
        config = runpy.run_path(path)["get_config"](*argument)
    except InputError as error:
        raise InputError(f"--config: {error}") from error
    except Exception as error:  # the file is a program of the user's and may raise anything
        raise InputError(
            f"--config: {path} is broken ({type(error).__name__}: {error}), correct it"
        ) from error
    if not isinstance(config, ConfigDict):
        raise InputError(f"--config: get_config() of {path} returns no ConfigDict, correct it")
    return config
