"""The section of a page that lists which files were not read, and why."""

from collections.abc import Mapping, Sequence

from covjax.report.page import Section, Table
from covjax.report.reading import read_rows
from covjax.report.results import Results

DRAWN = 200  # files that a page names; left_out.csv names all
COLUMNS = ("file", "reason")


def left_out_section(left_out: Sequence[Mapping[str, str]]) -> Section | None:
    """Returns a section that lists `left_out` ({file, reason} of each), the first DRAWN of them."""
    if not left_out:
        return None
    rows = [[str(one.get(key, "")) for key in COLUMNS] for one in left_out[:DRAWN]]
    table = Table(["File", "Why it was left out"], rows, numbers=False)
    every = f"The first {DRAWN}; all {len(left_out):,} are in left_out.csv."
    note = every if len(left_out) > DRAWN else ""
    return Section("Left out, and why", tables=[table], note=note)


def of_run(results: Results) -> Section | None:
    """Returns the section on files of the data folder that the run did not read."""
    path = results.workdir / "left_out.csv"
    return left_out_section(read_rows(path, COLUMNS)) if path.is_file() else None
