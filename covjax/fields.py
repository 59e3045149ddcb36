"""Fields of settings: default, meaning and check of each stand together.

A section of a configuration is a frozen dataclass whose fields are declared by `setting` (a value),
`section` (a section within) or `free` (names that are not known here). `read_section` checks values
against it, `to_dict` is the way back. A section may have a method `check(where)` for what its
fields must agree in; other fields of the dataclass are not of the configuration.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from covjax.errors import InputError, unknown

T = TypeVar("T")


@dataclass(frozen=True)
class Rule:
    """What a value must be, in words that follow "must be", and the test of it."""

    words: str
    fits: Callable[[Any], bool]


def _above_zero(value: float) -> bool:
    return value > 0


def _not_negative(value: float) -> bool:
    return value >= 0


def _share(value: float) -> bool:
    return 0 <= value < 1


# Whether a field may change when a run goes on. Either way the results remain what they are, the
# second way up to the rounding of numbers.
MAY_CHANGE = "may change"
BITS_CHANGE = "may change, the bits then do too"
POSITIVE = Rule("more than 0", _above_zero)
NOT_NEGATIVE = Rule("0 or more", _not_negative)
SHARE = Rule("at least 0 and below 1", _share)


def off_or_up_to(high: float) -> Rule:
    """Returns the rule that a number is 0, which switches something off, or up to `high`."""

    def fits(value: float) -> bool:
        return 0 <= value <= high

    return Rule(f"0 (off) to {high:g}", fits)


@dataclass(frozen=True)
class Meaning:
    """What is known of a field besides its default, see `setting`."""

    help: str
    choices: Mapping[Any, Any] | Sequence[Any] = ()
    rule: Rule | None = None
    check: Callable[[str, Any], object] | None = None
    allowed: str = ""
    path: bool = False  # of a file or folder
    spread: bool = False  # the names of this field stand in the section itself
    # in words that follow "on resuming:", whether it may change when a run goes on; "": it may not
    on_resuming: str = ""

    def refuse(self, where: str, value: Any) -> None:
        """Raises InputError naming the field `where` if its value cannot be used."""
        if self.choices and value not in self.choices:
            raise unknown(where, value, map(str, self.choices))
        endless = isinstance(value, float) and not math.isfinite(value)
        if self.rule and (endless or not self.rule.fits(value)):
            raise InputError(f"{where}: {value} must be {self.rule.words}")
        if self.check:
            self.check(where, value)

    def values(self) -> str:
        """Returns which values are allowed, in words; "" if any of the field's type."""
        if isinstance(self.choices, Mapping):
            meanings = self.choices.items()
            if all(isinstance(meaning, str) for _, meaning in meanings):
                return "; ".join(f"`{name}`: {meaning}" for name, meaning in meanings)
        if self.choices:
            return ", ".join(f"`{choice}`" for choice in self.choices)
        return self.rule.words if self.rule else self.allowed


def setting(
    default: T,
    help: str,
    *,
    choices: Mapping[Any, Any] | Sequence[Any] = (),
    rule: Rule | None = None,
    check: Callable[[str, Any], object] | None = None,
    allowed: str = "",
    path: bool = False,
    on_resuming: str = "",
) -> T:
    """Declares a field.

    Args:
      default: its value if nothing else is said; every value must be of the default's type.
      help: what it means, in one line.
      choices: the only values that it may have, with their meanings if it is a mapping.
      rule: what its value must be.
      check: called with the field's dotted name and the value, raises InputError.
      allowed: in words, what `check` accepts.
      path: whether it names a file or folder, see `expand_home`.
      on_resuming: in words, whether it may change when a run goes on; "" if it may not.
    """
    meaning = Meaning(help, choices, rule, check, allowed, path, on_resuming=on_resuming)
    return field(default=default, metadata={"meaning": meaning})


def section(kind: Callable[..., T], **defaults: Any) -> T:
    """Declares a section within a section; `defaults` replace those of its class."""

    def make() -> T:
        return kind(**defaults)

    return field(default_factory=make, metadata={"meaning": Meaning("")})


def free(help: str, spread: bool = False) -> Mapping[str, Any]:
    """Declares a mapping with any names; with `spread` they stand in the section itself."""
    meaning = Meaning(help, spread=spread)
    return field(default_factory=dict[str, Any], metadata={"meaning": meaning})


def declared(part: object) -> dict[str, Meaning]:
    """Returns the fields of a section that belong to the configuration, with their meanings."""
    fields = dataclasses.fields(cast(Any, part))
    return {f.name: f.metadata["meaning"] for f in fields if "meaning" in f.metadata}


def expand_home(section: object) -> None:
    """Expands ~ in the paths of a section, as its `__post_init__`: in files, flags and Python."""
    for name, meaning in declared(section).items():
        value = getattr(section, name)
        if meaning.path and isinstance(value, str | os.PathLike):
            object.__setattr__(section, name, os.path.expanduser(value))


def to_dict(part: object) -> dict[str, Any]:
    """Returns a section as nested dictionaries, as configurations and their files are."""
    values: dict[str, Any] = {}
    for name, meaning in declared(part).items():
        value = getattr(part, name)
        if meaning.spread:
            values |= value
        else:
            values[name] = to_dict(value) if dataclasses.is_dataclass(value) else value
    return values


def changeable(part: object, prefix: str = "") -> dict[str, str]:
    """Returns the dotted names of a section's fields that may change when a run goes on, and how.

    Those with MAY_CHANGE and BITS_CHANGE say nothing of what is trained; `epochs`, which may grow,
    does.
    """
    found: dict[str, str] = {}
    for name, meaning in declared(part).items():
        value = getattr(part, name)
        if dataclasses.is_dataclass(value):
            found |= changeable(value, f"{prefix}{name}.")
        elif meaning.on_resuming:
            found[prefix + name] = meaning.on_resuming
    return found


def flat_fields(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the fields of nested sections by their dotted names."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flat_fields(cast(Mapping[str, Any], value), f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def read_section(default: T, values: object, where: str) -> T:
    """Returns the section `where` as `default`, all its values replaced by those given, checked.

    Raises InputError naming the first field that is missing, unknown or whose value cannot be used.
    """
    given = _mapping(values, where)
    fields = declared(default)
    own = [name for name, meaning in fields.items() if not meaning.spread]
    rest = {name: value for name, value in given.items() if name not in own}
    spread = [name for name, meaning in fields.items() if meaning.spread]
    if rest and not spread:
        raise unknown(where or "config", next(iter(rest)), own)
    read: dict[str, Any] = dict.fromkeys(spread, rest)
    for name in own:
        path = f"{where}.{name}" if where else name
        if name not in given:
            raise InputError(
                f"config: a field is missing or of the wrong type ({path} is missing), compare "
                "with docs/reference/configuration.md"
            )
        read[name] = _read_field(fields[name], getattr(default, name), given[name], path)
    made = dataclasses.replace(cast(Any, default), **read)
    check = getattr(made, "check", None)
    if check is not None:
        check(where)
    return made


def check_section(part: object, where: str) -> None:
    """Raises InputError naming the first field, below `where`, whose value cannot be used."""
    read_section(part, to_dict(part), where)


def _read_field(meaning: Meaning, before: object, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(before):
        return read_section(before, value, where)
    if isinstance(before, Mapping):
        return _mapping(value, where)
    if isinstance(before, tuple):
        # of another length, or with names in it: the rule says better what is wrong
        value = tuple(cast(Iterable[Any], value)) if isinstance(value, list | tuple) else value
    else:
        value = _of_type(type(before), value, where)
    meaning.refuse(where, value)
    return value


def _of_type(kind: type, value: Any, where: str) -> Any:
    """Returns a value as the type of its field; whole numbers are numbers too."""
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        wanted = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}
        raise InputError(f"{where}: {value!r} is of the wrong type, give {wanted[kind]}")
    return value


def _mapping(values: object, where: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise InputError(f"{where or 'config'}: {values!r} is of the wrong type, give its fields")
    return cast(Mapping[str, Any], values)
