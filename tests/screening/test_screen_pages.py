"""Pages of a screening link to what is there, and escape what they are given."""

import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from covjax.errors import InputError
from covjax.report import build_screening
from covjax.screening.screen import screen
from tests.data.written import write_nifti, write_series
from tests.result_files import read_csv
from tests.screening.by_hand import VALUES

pytestmark = pytest.mark.usefixtures("loaded_once")


class Links(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.found = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.found += [
            value
            for name, value in attributes
            if name in ("href", "src") and not value.startswith("#")
        ]


def test_pages_link_to_what_is_there_and_escape_what_they_are_given(trained, pictures, tmp_path):
    write_nifti(pictures / "<b>&'#1.nii", VALUES)
    (pictures / "z.png").write_bytes(b"<i>not a picture</i>")
    screen(trained[0], pictures, tmp_path / "out", window="lung", on_error="skip")
    index = build_screening(tmp_path / "out")
    pages = [index, *(tmp_path / "out" / "scans").rglob("*.html")]
    assert len(pages) == 4
    for page in pages:
        links = Links(page).found
        text = page.read_text(encoding="utf-8")
        assert links and all((page.parent / unquote(link)).is_file() for link in links)
        assert "<b>&" not in text and "<i>" not in text and "not a medical device" in text
    named = "".join(page.read_text(encoding="utf-8") for page in pages[1:])
    sources = [unquote(source) for source in re.findall(r'"src": "([^"]+)"', named)]
    assert len(sources) == 8 and "z.png" in index.read_text(encoding="utf-8")
    (tmp_path / "out" / "scans.csv").write_text("scan\n")
    with pytest.raises(InputError, match="scans.csv: column '.*' is missing, screen again"):
        build_screening(tmp_path / "out")


def test_notes_on_a_scan_are_in_its_table_in_json_and_on_the_pages(trained, tmp_path):
    for name, gap in (("a", 0), ("b<i>", 9), ("c", 9)):

        def move(data, k, gap=gap):
            data.ImagePositionPatient = [0, 0, k + gap * (k > 2)]

        write_series(tmp_path / "in" / name, VALUES, move, SeriesInstanceUID=f"1.2.{ord(name[0])}")
    summary = screen(trained[0], tmp_path / "in", tmp_path / "out", window="lung")
    assert "3 scans have notes" in summary  # no lungs are found in noise
    told = json.loads((tmp_path / "out" / "screening.json").read_text(encoding="utf-8"))["notes"]
    assert (
        set(told) == {"a", "b<i>", "c"}
        and "not evenly spaced" in told["c"][0]
        and len(told["a"]) == 1
    )
    assert {r["scan"]: r["notes"] for r in read_csv(tmp_path / "out" / "scans.csv")} == {
        name: "; ".join(notes) for name, notes in told.items()
    }
    index = build_screening(tmp_path / "out").read_text(encoding="utf-8")
    assert "To note" in index and "not evenly spaced" in index and "<i>" not in index
    pages = {
        name: (tmp_path / "out" / "scans" / f"{name}.html").read_text(encoding="utf-8")
        for name in ("a", "c")
    }
    assert "not evenly spaced" in pages["c"] and "not evenly spaced" not in pages["a"]
