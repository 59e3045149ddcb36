"""Prints the page of all fields of a configuration: python -m covjax.settings.reference."""

import dataclasses
from typing import Any

from covjax.fields import declared
from covjax.settings.sections import RunSettings, StudySettings
from covjax.stages import TASKS, task_of

HEAD = """# Fields of a configuration

Every field is a flag: `--config.data.source=folder`. A configuration has the sections of one stage
or more, `classifier` and `segmenter`; those that ship replace some of the defaults given here.

A run keeps its configuration: called with another one, it is refused. Only fields that say `on
resuming` may change, see [Runs under a job queue](job-queues.md#the-same-run).

Made by `python -m covjax.settings.reference`: the fields, their defaults, meanings and checks stand
in `covjax/settings/sections.py` and in `settings.py` of `covjax.data`, `covjax.preprocess`,
`covjax.optim` and `covjax.stages`.
"""
COLUMNS = "| Field | Default | Meaning | Values |\n|---|---|---|---|\n"


def configuration_page() -> str:
    """Returns the page in Markdown: a table for every section."""
    tables = _tables("", RunSettings())
    for name in TASKS:
        tables += _tables(name, task_of(name).settings())
    tables += _tables("study", StudySettings())
    return "\n".join([HEAD, *tables])


def _tables(where: str, part: Any) -> list[str]:
    """Returns the table of a section, then those of the sections within it."""
    rows: list[str] = []
    within: list[str] = []
    for name, meaning in declared(part).items():
        value = getattr(part, name)
        path = f"{where}.{name}" if where else name
        if dataclasses.is_dataclass(value):
            within += _tables(path, value)
        elif meaning.spread:
            rows += [_row(option, default, meaning.help, "") for option, default in value.items()]
        else:
            resuming = f"; on resuming: {meaning.on_resuming}" if meaning.on_resuming else ""
            rows.append(_row(name, value, meaning.help + resuming, meaning.values()))
    title = f"## {where or 'The run'}\n\n{' '.join((type(part).__doc__ or '').split())}\n\n"
    return [title + COLUMNS + "\n".join(rows) + "\n", *within]


def _row(name: str, default: object, meaning: str, values: str) -> str:
    shown = f"`{default}`" if default not in ("", {}) else "empty"
    if isinstance(default, bool):
        values = "True, False"
    cells = [f"`{name}`", shown, meaning, values]
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


if __name__ == "__main__":
    print(configuration_page(), end="")
