"""JSON files that covjax wrote and reads again: every field that is used has the type declared.

What a file must hold is said by a type: a TypedDict (other names may stand beside its own), dict,
list, tuple, Literal, unions, Any, str, int, float, bool and None. `Annotated[int, RULE]` adds a
`covjax.fields.Rule`. Numbers are finite.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from covjax.errors import InputError
from covjax.fields import NOT_NEGATIVE, POSITIVE, Rule
from covjax.files import read_json, read_json_lines

T = TypeVar("T")
WORDS: dict[Any, str] = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false",
    NoneType: "null", dict: "an object", list: "a list",
}  # fmt: skip
LARGEST = 2**63  # of whole numbers


def is_inside(path: str) -> bool:
    """Whether a path leads to something below the folder that it is relative to."""
    place = PurePosixPath(path)
    return bool(path) and not place.is_absolute() and ".." not in place.parts


Count = Annotated[int, NOT_NEGATIVE]
Positive = Annotated[float, POSITIVE]
# of a file or folder
Inside = Annotated[str, Rule("the name of something in the folder", is_inside)]

# results/timing.json, and speed.json: what was measured, of each stage
Timing = dict[str, dict[str, float | None]]


def read_record(path: Path, kind: type[T], remedy: str, missing: str = "") -> T:
    """Returns what a JSON file holds, which is of the type `kind`.

    Raises InputError as `covjax.files.damage_named`, and naming the first field that is not.
    """
    return check_record(path, read_json(path, remedy, missing), kind, remedy)


def read_record_or_empty(path: Path, kind: type[T]) -> T:
    """Returns as `read_record`, but {} for a missing or damaged file: for what can be redone."""
    try:
        return read_record(path, kind, "")
    except InputError:
        return cast(T, {})


def read_record_lines(path: Path, kind: type[T], remedy: str) -> list[T]:
    """Returns the objects of a file of one per line, as `covjax.files.read_json_lines`."""
    lines = enumerate(read_json_lines(path, remedy), 1)
    return [check_record(path, line, kind, remedy, f"line {number}") for number, line in lines]


def check_record(path: Path, value: object, kind: type[T], remedy: str, field: str = "") -> T:
    """Returns a part of a JSON file, the field `field`, if it is of the type `kind`.

    Raises InputError as `read_record`.
    """
    problem = _problem(value, kind, field)
    if problem:
        raise InputError(f"{path}: damaged ({problem}), {remedy}")
    return cast(T, value)


def _problem(value: Any, kind: Any, field: str) -> str:
    """Returns what is wrong with a field or the first one within it, "" for nothing."""
    origin = get_origin(kind)
    args = get_args(kind)
    if kind is Any:
        return ""
    if origin in (Required, NotRequired):
        return _problem(value, args[0], field)
    if origin is Annotated:
        found = _problem(value, args[0], field)
        ruled = args[1].fits
        return found or ("" if ruled(value) else _wrong(value, args[1].words, field))
    if origin in (Union, UnionType):
        problems = [_problem(value, one, field) for one in args]
        return problems[0] if all(problems) else ""
    if origin is Literal:
        return "" if value in args else _wrong(value, " or ".join(map(str, args)), field)
    basic = dict if is_typeddict(kind) else list if origin is tuple else origin or kind
    if not _is_a(value, basic):
        return _wrong(value, WORDS[basic], field)
    return _problem_within(value, kind, origin, field)


def _problem_within(value: Any, kind: Any, origin: Any, field: str) -> str:
    """Returns what is wrong within an object or a list, "" for nothing."""
    args = get_args(kind)
    parts: list[tuple[Any, Any]] = []
    if is_typeddict(kind):
        hints, required = _declared(kind)
        for name in hints:
            if name in required and name not in value:
                return f"field '{_below(field, name)}' is missing"
        parts = [(name, hint) for name, hint in hints.items() if name in value]
    elif origin is dict:
        parts = [(name, args[1]) for name in value]
    elif origin is tuple:
        if len(value) != len(args):
            return _wrong(value, f"{len(args)} values", field)
        parts = list(enumerate(args))
    elif origin is list:
        parts = [(place, args[0]) for place in range(len(value))]
    problems = (_problem(value[name], part, _below(field, name)) for name, part in parts)
    return next(filter(None, problems), "")


@cache
def _declared(kind: Any) -> tuple[Mapping[str, Any], frozenset[str]]:
    """Returns the fields of a TypedDict, and which of them must be there."""
    return get_type_hints(kind, include_extras=True), kind.__required_keys__


def _is_a(value: Any, kind: Any) -> bool:
    if kind is float:
        return type(value) in (int, float) and -LARGEST < value < LARGEST
    return type(value) is kind and (kind is not int or -LARGEST < value < LARGEST)


def _below(field: str, name: object) -> str:
    return f"{field}.{name}" if field else str(name)


def _wrong(value: Any, words: str, field: str) -> str:
    return f"field '{field[:200]}' is {json.dumps(value)[:40]}, must be {words}"
