"""How another set that a run is scored on differs from the slices of its training."""

from collections.abc import Mapping
from typing import Any

from covjax.report.reading import read_record
from covjax.report.results import Results
from covjax.report.shapes import ExternalFile
from covjax.report.text import number, number_text, text_table

RECORD = "external.json"
ROWS = {  # of the record: the title, and how a value is written
    "slices": ("Slices", "{:,.0f}"),
    "patients": ("Patients", "{:,.0f}"),
    "infected_slices_share": ("Infected slices", "{:.1%}"),
    "infected_pixels_share_median": ("Infected share of such a slice, median", "{:.2%}"),
    "rows_median": ("Rows, median", "{:,.0f}"),
    "columns_median": ("Columns, median", "{:,.0f}"),
    "spacing_mm_median": ("Spacing, median [mm]", "{:.2f}"),
    "grey_mean": ("Grey value 0..255, mean", "{:.1f}"),
    "grey_sd": ("Grey value, standard deviation", "{:.1f}"),
    "grey_5_percent": ("Grey value, 5 % of pixels below", "{:.0f}"),
    "grey_median": ("Grey value, median", "{:.0f}"),
    "grey_95_percent": ("Grey value, 95 % of pixels below", "{:.0f}"),
}
HEAD = ["", "this set", "training"]


def external(results: Results) -> Mapping[str, Any]:
    """Returns {run, rows, grey_distance} of another set, {} of a run's own data."""
    record = read_record(results.workdir / RECORD, ExternalFile)
    if not record:
        return {}
    rows = [
        [
            title,
            *(_cell(side.get(name), form) for side in (record["set"], record.get("training", {}))),
        ]
        for name, (title, form) in ROWS.items()
    ]
    distance = number_text(record.get("grey_distance"), "{:.1f}")
    return {"run": record["run"], "rows": rows, "grey_distance": distance}


def external_table(results: Results) -> str:
    """Returns the same as text, "" of a run's own data."""
    found = external(results)
    if not found:
        return ""
    table = text_table([HEAD, *found["rows"]], right=[1, 2])
    return f"{table}\ngrey values of pixels differ by {found['grey_distance']} of 255 on average\n"


def _cell(value: object, form: str) -> str:
    return number_text(value, form) if number(value) == number(value) else "unknown"
