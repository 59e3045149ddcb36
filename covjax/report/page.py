"""What every page shares: its pictures, its templates, and the files that it is written as."""

import base64
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from covjax.errors import InputError
from covjax.files import write_together
from covjax.locks import held
from covjax.report import results, scores, text
from covjax.scores import in_front
from covjax.tables import encode_table

AGAIN = "make the results again that it shows"
# Figures of an earlier page would pass for this one's, so a new page removes them; other files
# stay.
FIGURES = re.compile(
    r"((training|classifier|segmenter|two_stages|audit)_.*"
    r"|\w+_(test|val|train)_(confusion|(runs|groups)_\w+))\.(png|csv)"
)
TEMPLATES = Environment(
    loader=PackageLoader("covjax.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= {
    function.__name__: function
    for function in (
        results.kept_classes,
        results.split_title,
        scores.class_words,
        scores.pick,
        scores.stage_title,
        text.by_seed_text,
        text.chance_text,
        text.count_text,
        text.interval_methods,
        text.interval_note,
        text.interval_text,
        text.measured_text,
        text.number_text,
        text.options_text,
        text.p_text,
        text.plain_text,
        text.score_text,
        text.signed_text,
        text.trainings_text,
    )
}

TEMPLATES.globals |= {
    "in_front": in_front,
    "score_label": scores.score_label,
    "score_meaning": scores.score_meaning,
    "split_rules": results.SPLIT_RULES,
    "stages": list(scores.STAGES),
}


def anchor(title: str) -> str:
    """Returns the name that a link to a section leads to."""
    return re.sub("[^a-z]+", "-", title.lower())


TEMPLATES.filters["anchor"] = anchor


@dataclass(frozen=True)
class Picture:
    """A figure of a page, its file NAME.png and its numbers, NAME.csv.

    The caption is `lead`, which stands out, and `text`.
    """

    name: str
    png: bytes
    lead: str
    text: str
    alt: str
    numbers: Mapping[str, Iterable[Any]]  # columns of one length

    @property
    def base64(self) -> str:
        """The file, as a page embeds it."""
        return base64.b64encode(self.png).decode()


Figures = Mapping[str, Sequence[Picture | None]]  # by the heading above them, "" for none


def render(template: str, values: Mapping[str, object]) -> bytes:
    """Returns a page as HTML that needs no network; all values in it are escaped."""
    html = TEMPLATES.get_template(template).render(values)
    return html.encode("utf-8", errors="xmlcharrefreplace")


def write_page(
    folder: Path,
    template: str,
    figures: Mapping[str, Figures],
    values: Mapping[str, object],
    further: Mapping[str, bytes] | None = None,
) -> Path:
    """Writes FOLDER/index.html and the files of all figures; returns the page's path.

    Everything is written before any of the previous page is replaced, so a
    failure leaves that one as it was.

    Args:
      folder: where to.
      template: a file of templates/.
      figures: the figures of each section, by the name that the template knows it by.
      values: what else the template shows.
      further: other files, written together with them.

    Raises InputError if the page cannot be written, or a figure named by a result has no name.
    """
    drawn = {
        section: {
            heading: list(filter(None, group)) for heading, group in groups.items() if any(group)
        }
        for section, groups in figures.items()
    }
    files = dict(further or {})
    every = [group for groups in drawn.values() for group in groups.values()]
    for picture in itertools.chain.from_iterable(every):
        if Path(picture.name).name != picture.name:
            raise InputError(f"{folder}: '{picture.name}' is no name of a figure, {AGAIN}")
        rows = list(zip(*picture.numbers.values(), strict=True))
        files[f"{picture.name}.png"] = picture.png
        files[f"{picture.name}.csv"] = encode_table(tuple(picture.numbers), rows)
    files["index.html"] = render(template, {**values, "figures": drawn})
    with held(folder):
        write_together({folder / name: content for name, content in files.items()})
        for old in folder.iterdir():
            if FIGURES.fullmatch(old.name) and old.name not in files:
                old.unlink()
    return folder / "index.html"
