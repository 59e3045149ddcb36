"""CSV files that users write, which differ in capitals and spaces."""

import csv
from pathlib import Path

from covjax.errors import InputError
from covjax.files import plain_text


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
