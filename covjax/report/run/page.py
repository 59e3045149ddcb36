"""The page of a run: what was run, then the sections whose files are there, in reading order."""

from pathlib import Path

from covjax.report import left_out
from covjax.report.page import Page, write_page
from covjax.report.results import read_results
from covjax.report.run import classifier, header, scores, slices, tables, training

SECTIONS = (
    tables.data,
    scores.scores,
    training.training,
    training.confusion,
    classifier.curves,
    classifier.probabilities,
    classifier.explanations,
    slices.slices,
    slices.examples,
    tables.patients,
    left_out.of_run,
    tables.environment,
    tables.configuration,
)


def build_report(workdir: Path) -> Path:
    """Writes WORKDIR/report/index.html, all figures as PNG and CSV, and returns the page's path.

    Raises InputError, and leaves an earlier report as it was, if the workdir holds no results or a
    damaged file.
    """
    results = read_results(workdir)
    source = header.source(results)
    page = Page(
        title=f"covjax report: {source}",
        heading=f"Lung CT screening: {source}",
        version=str(results.environment.get("covjax", "")),
        facts=header.facts(results),
        sections=[make(results) for make in SECTIONS],
        banners=header.warnings(results),
    )
    return write_page(results.workdir / "report", page)
