"""What every page shares: the values that its templates show, and the files it is written as."""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from covjax.files import encode_table, write_together

# Figures of an earlier page would pass for this one's, so a new page removes them; other files
# stay.
FIGURES = re.compile(r"(training|classifier|segmenter|framework|audit)_.*\.(png|csv)")
TEMPLATES = Environment(
    loader=PackageLoader("covjax.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


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

    def files(self) -> dict[str, bytes]:
        """Returns the files that the picture is written as."""
        rows = list(zip(*self.numbers.values(), strict=True))
        table = encode_table(tuple(self.numbers), rows)
        return {f"{self.name}.png": self.png, f"{self.name}.csv": table}


class Cell(NamedTuple):
    """A cell of a table: its text, small lines under it, and how it is shown."""

    text: str
    notes: Sequence[str] = ()
    strong: bool = False
    wide: bool = False
    link: str = ""


@dataclass(frozen=True)
class Table:
    """A table; the first cell heads its row, `numbers` aligns the others right.

    With a `summary` it is folded under that line, `intro` above it.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    caption: str = ""
    kind: str = ""
    numbers: bool = True
    foot: Sequence[str] = ()
    summary: str = ""
    intro: str = ""


class Figures(NamedTuple):
    """Pictures beside each other, with what is above them."""

    pictures: Sequence[Picture]
    heading: str = ""
    intro: str = ""


@dataclass(frozen=True)
class Section:
    """A section of a page, shown by a template, in this order if it has none of its own.

    `slices` says that the figures are of slices, not charts. What else a template reads lies in
    `values`.
    """

    title: str
    intro: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[Figures] = ()
    slices: bool = False
    note: str = ""
    template: str = "section.html"
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def anchor(self) -> str:
        """The name that a link leads to."""
        return re.sub("[^a-z]+", "-", self.title.lower())


class Banner(NamedTuple):
    """A warning that nobody overlooks: its kind, and a text, a list of lines, or both."""

    kind: str
    text: str = ""
    lines: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """A page: what its header says, and its sections; None is a section with nothing to show."""

    title: str
    heading: str
    version: str  # of covjax
    facts: Mapping[str, object]
    sections: Sequence[Section | None]
    banners: Sequence[Banner] = ()
    note: str = ""
    template: str = "page.html"
    values: Mapping[str, Any] = field(default_factory=dict)

    def render(self) -> bytes:
        """Returns the HTML, which needs no network."""
        sections = [section for section in self.sections if section]
        text = TEMPLATES.get_template(self.template).render(page=self, sections=sections)
        return text.encode("utf-8", errors="xmlcharrefreplace")


def write_page(folder: Path, page: Page, beside: Mapping[str, bytes] | None = None) -> Path:
    """Writes FOLDER/index.html and the files of all figures; returns the page's path.

    `beside` are further files, written together with them. Everything is made and written beside
    the previous page before any of it is replaced, so a failure leaves that one as it was.
    """
    files = dict(beside or {})
    for section in filter(None, page.sections):
        for group in section.figures:
            for picture in group.pictures:
                files |= picture.files()
    files["index.html"] = page.render()
    write_together({folder / name: content for name, content in files.items()})
    for old in folder.iterdir():
        if FIGURES.fullmatch(old.name) and old.name not in files:
            old.unlink()
    return folder / "index.html"
