"""CSV files: written, read back, and read as users write them."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covjax.errors import InputError
from covjax.files import damage_named, write_whole

# as -600,1500
NUMBERS = re.compile(r"[+-][\d.,]+(e[+-]?\d+)?")


def encode_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """Returns a CSV; a NaN is an empty field, and a float32 reads back as it was.

    Text that a spreadsheet would take for a formula gets an apostrophe, see `plain_text`.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([[_field(v) for v in row] for row in rows])
    return text.getvalue().encode(errors="backslashreplace")


def _field(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return "" if not np.isfinite(value) else f"{value:.9g}"
    if isinstance(value, str) and _looks_like_formula(value):
        return f"'{value}"
    return value


def plain_text(field: str) -> str:
    """Returns the text of a field of a CSV, less the apostrophe that `encode_table` put first."""
    return field[1:] if field.startswith("'") and _looks_like_formula(field) else field


def _looks_like_formula(text: str) -> bool:
    """Whether text, after apostrophes, begins as formulas of spreadsheets do; numbers do not."""
    formula = text.lstrip("'").startswith(("=", "+", "-", "@", "\t", "\r"))
    return formula and not NUMBERS.fullmatch(text)


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Writes a CSV, see `encode_table`, as `write_whole` does."""
    write_whole(path, encode_table(header, rows))


def read_rows(path: Path, columns: Iterable[str], remedy: str) -> list[dict[str, str]]:
    """Returns the rows of a CSV, which must have these columns; "" for a missing cell.

    Raises InputError as `damage_named`.
    """
    with (
        damage_named(path, remedy),
        path.open(newline="", encoding="utf-8", errors="replace") as text,
    ):
        reader = csv.DictReader(text, restval="")
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise InputError(f"{path}: column '{missing[0]}' is missing, {remedy}")
        return [
            {name: plain_text(field) for name, field in row.items() if name is not None}
            for row in reader
        ]


def read_numbers(
    path: Path, rows: Sequence[Mapping[str, str]], column: str, remedy: str
) -> NDArray[np.float64]:
    """Returns a column of the CSV at `path`, NaN where a cell is empty. Raises InputError."""
    try:
        values = np.array([float(row.get(column) or "nan") for row in rows])
    except ValueError as error:
        raise InputError(f"{path}: column '{column}' is not numeric, {remedy}") from error
    if np.isinf(values).any():
        raise InputError(f"{path}: column '{column}' has an infinite number, {remedy}")
    return values


def read_user_csv(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Returns the names of the columns, and the rows with the number of their line.

    Names are in lower case, cells without spaces around them, "" where one is missing. Raises
    OSError, and InputError for what is no CSV in UTF-8 or has two columns of a name.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.DictReader(text, restval="")
            reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
            columns = list(reader.fieldnames)
            rows = [(reader.line_num, _plain(row)) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a UTF-8 CSV file ({error}), export it again") from None
    twice = sorted(name for name in set(columns) if name and columns.count(name) > 1)
    if twice:
        raise InputError(f"{path}: has two columns {twice[0]}, remove or rename one")
    return columns, rows


def _plain(row: dict[str, str]) -> dict[str, str]:
    return {name: plain_text(cell.strip()) for name, cell in row.items() if name}
