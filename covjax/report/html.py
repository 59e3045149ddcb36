"""What every page of results shares: its frame, its sections, and the files it is written as."""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from covjax.files import encode_table, write_together
from covjax.report.parts import Picture, Section
from covjax.report.style import CSS

FOOTER = "Every figure is also a file beside this page, NAME.png, with its numbers in NAME.csv."
# Figures of an earlier page would pass for this one's, so a new page removes them; other files
# stay.
OURS = re.compile(r"(training|classifier|segmenter|framework|audit)_.*\.(png|csv)")


def write_page(
    folder: Path, title: str, header: str, sections: Sequence[Section], version: str,
    beside: Mapping[str, bytes] | None = None,
) -> Path:  # fmt: skip
    """Writes FOLDER/index.html and every figure as NAME.png with its numbers in NAME.csv; returns
    the page's path.

    `beside` are further files, written together with them.

    The page embeds its style and figures and needs no network. Everything is made and written
    beside the previous page before any of it is replaced, so a failure leaves that one as it was.
    `header` is HTML.
    """
    sections = [section for section in sections if any(section.content)]
    files = dict(beside or {})
    for section in sections:
        for group in section.content:
            for picture in group if isinstance(group, list) else ():
                files[f"{picture.name}.png"] = picture.png
                rows = list(zip(*picture.numbers.values(), strict=True))
                files[f"{picture.name}.csv"] = encode_table(tuple(picture.numbers), rows)
    files["index.html"] = page(title, header, sections, version)
    write_together({folder / name: content for name, content in files.items()})
    for old in folder.iterdir():
        if OURS.fullmatch(old.name) and old.name not in files:
            old.unlink()
    return folder / "index.html"


def banner(kind: str, text: str) -> str:
    """Returns a warning that nobody overlooks; `text` is HTML, a list too."""
    return f'<div class="banner" role="note"><strong>{escape(kind)}:</strong> {text}</div>'


def bullets(lines: Iterable[str]) -> str:
    """Returns a list of lines, each HTML; '' where there is none."""
    items = "".join(f"<li>{line}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def page(
    title: str,
    header: str,
    sections: Sequence[Section],
    version: str,
    *,
    script: str = "",
    footer: str = FOOTER,
) -> bytes:
    """Returns a page that needs no network; with a `script`, it may show pictures that lie beside
    it. All is HTML.
    """
    links = "".join(
        f'<li><a href="#{_anchor(section)}">{escape(section.title)}</a></li>'
        for section in sections
    )
    body = "\n".join(_section(section) for section in sections)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    if script:
        policy = "default-src 'none'; img-src data: file: 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    text = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="{policy}">
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
<footer class="soft">{footer}<br>
Made by covjax {escape(version)}. Research software, not a medical device.</footer>
{script}</body>
</html>
"""
    return text.encode("utf-8", errors="xmlcharrefreplace")


def _anchor(section: Section) -> str:
    return re.sub("[^a-z]+", "-", section.title.lower())


def _section(section: Section) -> str:
    kind = "figures slices" if section.slices else "figures"
    parts = [
        part if isinstance(part, str) else _figures(part, kind) for part in section.content if part
    ]
    return (
        f'<section>\n<h2 id="{_anchor(section)}">{escape(section.title)}</h2>\n'
        + "\n".join(parts)
        + "\n</section>"
    )


def _figures(pictures: Sequence[Picture], kind: str) -> str:
    shown = (
        f'<figure><div class="card"><img alt="{escape(picture.alt)}" '
        f'src="data:image/png;base64,{base64.b64encode(picture.png).decode()}"></div>'
        f"<figcaption>{picture.caption}</figcaption></figure>"
        for picture in pictures
    )
    return f'<div class="{kind}">{"".join(shown)}</div>'
