"""The part of a page that lists which files were not read, and why."""

from collections.abc import Mapping, Sequence
from html import escape

from covjax.report.parts import Section, table
from covjax.report.results import Results, read_table

DRAWN = 200  # files that a page names; left_out.csv names all


def left_out_section(left_out: Sequence[Mapping[str, str]]) -> list[Section]:
    """Returns a section that lists `left_out` ({file, reason} of each), the first DRAWN of them; []
    for none.
    """
    if not left_out:
        return []
    rows = [
        [escape(str(one.get(key, ""))) for key in ("file", "reason")] for one in left_out[:DRAWN]
    ]
    parts = [table(["File", "Why it was left out"], rows, numbers=False)]
    if len(left_out) > DRAWN:
        parts.append(f"<p>The first {DRAWN}; all {len(left_out):,} are in left_out.csv.</p>")
    return [Section("Left out, and why", parts)]


def of_run(results: Results) -> Section:
    """Returns the section on files of the data folder that the run did not read; an empty one for
    none.
    """
    columns = read_table(results.workdir / "left_out.csv", ("file", "reason"), ()) or {
        "file": [],
        "reason": [],
    }
    listed = [
        {"file": file, "reason": reason} for file, reason in zip(*columns.values(), strict=True)
    ]
    return next(iter(left_out_section(listed)), Section("Left out, and why", []))
