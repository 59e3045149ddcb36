"""What users read first: the README's size, its two commands, and links that lead somewhere."""

import re

import pytest

import covjax
from tests.docs.pages import anchors, bash_blocks, links, pages, resolve
from tests.places import ROOT

PAGES = pages()
QUICKSTART = (
    "python3 -m venv .venv && .venv/bin/pip install -e . && "
    ".venv/bin/python train.py --config configs/quickstart.py --workdir runs/quickstart\n"
)
RUN_TESTS = "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest\n"


def test_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= 9000


@pytest.mark.parametrize("page", ["README.md", "docs/getting-started.md"])
def test_the_two_commands(page):
    blocks = [block.text for block in bash_blocks(page, PAGES[page])]
    assert blocks[0] == QUICKSTART
    assert RUN_TESTS in blocks


@pytest.mark.parametrize("page", ["README.md", "SECURITY.md", "docs/index.md", "docs/faq.md"])
def test_it_says_what_it_is_not(page):
    assert "research software, not a medical device" in PAGES[page].replace("\n", " ").lower()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in links(PAGES[page]):
        file, anchor = resolve(page, target)
        assert file.exists(), f"{target}: no such file"
        if page.startswith("docs/"):
            assert file.is_relative_to(ROOT / "docs"), f"{target}: not part of the site"
        if anchor:
            headings = anchors(PAGES[str(file.relative_to(ROOT))])
            assert anchor in headings, f"{target}: no such heading"


def test_every_page_can_be_found():
    navigation = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1]
    listed = {f"docs/{path}" for path in re.findall(r"[\w/-]+\.md", navigation)}
    assert listed == {page for page in PAGES if page.startswith("docs/")}


def test_nothing_is_asked_of_the_network():
    settings = (ROOT / "mkdocs.yml").read_text()
    assert "font: false" in settings
    for page, text in PAGES.items():
        assert not re.search(r"!\[[^\]]*\]\(\w+:", text), f"{page}: a picture from elsewhere"


def test_citation_is_of_this_version():
    assert f"version: {covjax.__version__}\n" in (ROOT / "CITATION.cff").read_text()
