"""The pages for users: README.md and what lies in docs/, without the parts inside code fences."""

import re
from pathlib import Path
from typing import NamedTuple

from tests.places import ROOT

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)


class Block(NamedTuple):
    """A fenced block of shell commands."""

    page: str
    number: int  # on its page, from 1
    text: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.number}"


def pages() -> dict[str, str]:
    """Returns the text of every page by its path from the top of the repository."""
    at_top = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
    paths = [*(ROOT / name for name in at_top), *sorted((ROOT / "docs").rglob("*.md"))]
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths}


def bash_blocks(page: str, text: str) -> list[Block]:
    """Returns the blocks of a page that are marked as bash."""
    found = [match[2] for match in FENCE.finditer(text) if match[1] == "bash"]
    return [Block(page, number, block) for number, block in enumerate(found, 1)]


def named_files(text: str) -> dict[str, str]:
    """Returns the Python blocks of a page that begin with their file's name, by that name."""
    blocks = [match[2] for match in FENCE.finditer(text) if match[1] == "python"]
    named = [(re.match(r"# (\w+\.py)\n", block), block) for block in blocks]
    return {name[1]: block for name, block in named if name}


def prose(text: str) -> str:
    """Returns a page without its fenced blocks and code in backticks."""
    return re.sub(r"`[^`\n]+`", "", FENCE.sub("", text))


def links(text: str) -> list[str]:
    """Returns the targets of links and pictures that stay in the repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(text))
    return [target for target in targets if not re.match(r"\w+:", target)]


def anchors(text: str) -> set[str]:
    """Returns the anchors of a page's headings, by the rule of GitHub and MkDocs alike."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def resolve(page: str, target: str) -> tuple[Path, str]:
    """Returns the file that a link of a page leads to, and the anchor there ("" for none)."""
    path, _, anchor = target.partition("#")
    file = (ROOT / page).parent / path if path else ROOT / page
    return file.resolve(), anchor
