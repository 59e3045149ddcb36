"""The HTML page of a report: what was run, then the sections whose files are there, in reading order."""

import base64
import re
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path

from covjax.files import write_together
from covjax.report import figures, tables
from covjax.report.parts import Picture, Section
from covjax.report.results import STAGES, Results, read_results
from covjax.report.style import CSS

SPLIT_RULES = {
    "patient": "by patient: all slices of a patient are in one part",
    "slice": "by slice: slices of one patient may be in several parts",
    "source": "as given by the data source",
}
SECTIONS = (
    tables.data,
    tables.scores,
    figures.training,
    figures.confusion,
    figures.classifier_curves,
    figures.slices,
    figures.examples,
    tables.patients,
    tables.environment,
    tables.configuration,
)


def build_report(workdir: Path) -> Path:
    """Writes WORKDIR/report/index.html and its figures as report/*.png, and returns the page's path.

    The page embeds its style and figures and needs no network. Everything is made and written beside the
    previous report before any of it is replaced, so a failure leaves that one as it was. Raises InputError if
    the workdir holds no results or a damaged file.
    """
    results = read_results(workdir)
    sections = [section for make in SECTIONS for section in [make(results)] if any(section.content)]
    pictures = [
        picture for section in sections for group in section.content if isinstance(group, list) for picture in group
    ]
    page = _page(results, sections).encode("utf-8", errors="xmlcharrefreplace")

    folder = results.workdir / "report"
    files = {f"{picture.name}.png": picture.png for picture in pictures} | {"index.html": page}
    write_together({folder / name: content for name, content in files.items()})
    for old in folder.glob("*.png"):
        # Figures of an earlier report that this one no longer has would pass for current ones.
        if re.match("training_|classifier_|segmenter_|framework_", old.name) and old.name not in files:
            old.unlink()
    return folder / "index.html"


def _page(results: Results, sections: Sequence[Section]) -> str:
    version = str(results.environment.get("covjax", ""))
    return document(f"covjax report: {_source(results)}", _header(results), sections, version)


def document(title: str, header: str, sections: Sequence[Section], version: str) -> str:
    """Returns a whole page, self-contained: `header` is HTML, `title` and `version` are plain text."""
    links = "".join(f'<li><a href="#{_anchor(section)}">{escape(section.title)}</a></li>' for section in sections)
    body = "\n".join(_section(section) for section in sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>{CSS}</style>
</head>
<body>
<header>
{header}
<nav aria-label="Contents"><ul>{links}</ul></nav>
</header>
<main>
{body}
</main>
<footer class="soft">Made by covjax {escape(version)}. Research software, not a medical device.</footer>
</body>
</html>
"""


def _anchor(section: Section) -> str:
    return re.sub("[^a-z]+", "-", section.title.lower())


def _section(section: Section) -> str:
    parts = [part if isinstance(part, str) else _figures(part) for part in section.content if part]
    return f'<section>\n<h2 id="{_anchor(section)}">{escape(section.title)}</h2>\n' + "\n".join(parts) + "\n</section>"


def _figures(pictures: list[Picture]) -> str:
    kind = "figures slices" if "_example_" in pictures[0].name else "figures"
    shown = (
        f'<figure><div class="card"><img alt="{escape(picture.alt)}" '
        f'src="data:image/png;base64,{base64.b64encode(picture.png).decode()}"></div>'
        f"<figcaption>{picture.caption}</figcaption></figure>"
        for picture in pictures
    )
    return f'<div class="{kind}">{"".join(shown)}</div>'


def _source(results: Results) -> str:
    data = results.config.get("data") or {}
    return str(results.splits.get("source") or data.get("source") or "unknown source")


def _split_rule(results: Results) -> str:
    rule = str(results.splits.get("by") or (results.config.get("split") or {}).get("by") or "not recorded")
    return SPLIT_RULES.get(rule, rule)


def _is_phantom(results: Results) -> bool:
    data = results.config.get("data") or {}
    return "phantom" in (results.splits.get("source"), data.get("source"))


def _shared_patients(results: Results) -> int:
    """Returns how many patients are in more than one part."""
    parts = (results.splits.get("patients") or {}).values()
    times = Counter(patient for part in parts for patient in set(part) - {""})  # "" is an unknown patient
    return sum(count > 1 for count in times.values())


def _stage(results: Results, stage: str) -> str:
    model = (results.config.get(stage) or {}).get("model")
    name = model.get("name") if isinstance(model, dict) else model
    return f"{stage} ({name})" if name else stage


def _header(results: Results) -> str:
    stages = [_stage(results, stage) for stage in STAGES if stage in results.scores or stage in results.history]
    seed = results.config.get("seed", results.splits.get("seed", "not recorded"))
    facts = {
        "Source": _source(results),
        "Split": _split_rule(results),
        "Seed": seed,
        "Stages": ", ".join(stages),
    }
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
    return (
        f"<h1>Lung CT screening: {escape(_source(results))}</h1>"
        f'<p class="soft">Research software, not a medical device.</p>{_banners(results)}<dl>{listed}</dl>'
    )


def _banners(results: Results) -> str:
    banners = []
    if _is_phantom(results):
        banners.append("<strong>Synthetic data:</strong> these numbers say nothing about patients.")
    shared = _shared_patients(results)
    if _split_rule(results) == SPLIT_RULES["slice"]:
        banners.append(
            "<strong>Split by slice:</strong> neighbouring slices of one patient are in the training and "
            "the test part, so the scores are optimistic. Split by patient for an honest estimate."
        )
    elif shared:
        banners.append(
            f"<strong>Shared patients:</strong> {shared} of the patients are in more than one part, so the "
            "scores are optimistic."
        )
    return "".join(f'<p class="banner" role="note">{banner}</p>' for banner in banners)
