"""Variants of a study from one line: fields of the configuration and the values that they take."""

import ast
import re
from itertools import product
from typing import Any

from covjax.errors import InputError

WHERE = "study.vary"
EXAMPLE = "segmenter.optimizer.learning_rate:1e-3,3e-4"
OUTSIDE_BRACKETS = r",(?![^(\[]*[)\]])"


def varied(text: str) -> dict[str, dict[str, Any]]:
    """Returns {name: fields} of all combinations of "FIELD:VALUE,VALUE;FIELD:VALUE,VALUE".

    Raises InputError for a line of another form, and for a value that is given twice.
    """
    parts = [part.strip() for part in text.split(";") if part.strip()]
    fields: dict[str, list[str]] = {}
    for part in parts:
        field, colon, values = part.partition(":")
        found = [value.strip() for value in re.split(OUTSIDE_BRACKETS, values)]
        if not colon or not re.fullmatch(r"\w+(\.\w+)+", field.strip()) or not all(found):
            raise InputError(f"{WHERE}: '{part}' must be FIELD:VALUE,VALUE, as {EXAMPLE}")
        fields[field.strip()] = found
    if len(fields) < len(parts):
        raise InputError(f"{WHERE}: a field is named twice, give all its values at once")
    variants: dict[str, dict[str, Any]] = {}
    for values in product(*fields.values()):
        name = "_".join(re.sub(r"[^\w.+-]+", "-", value).strip("-") for value in values)
        if name in variants:
            raise InputError(f"{WHERE}: {', '.join(values)} is given twice, leave one out")
        variants[name] = {}
        for field, value in zip(fields, values, strict=True):
            _set(variants[name], field.split("."), _typed(value))
    return variants


def _set(fields: dict[str, Any], path: list[str], value: Any) -> None:
    for section in path[:-1]:
        fields = fields.setdefault(section, {})
    fields[path[-1]] = value


def _typed(value: str) -> Any:
    """Returns a number, a tuple or a truth value as Python writes it, anything else as text."""
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
