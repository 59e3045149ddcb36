"""Records of a stopped screening: those that are none are done again, never a traceback."""

import json
from types import SimpleNamespace

import pytest

from covjax.screening.scan import ScreenedScan, read_kept

RECORD = {"scan": {}, "slices": [], "notes": [], "skipped": ["a.png: empty"], "stamps": [["a", 1]]}


@pytest.mark.parametrize(
    ("record", "kept"),
    [
        (RECORD, True),
        (RECORD | {"stamps": [["a", 2]]}, False),
        (RECORD | {"more": 1}, False),
        ({"stamps": [["a", 1]]}, False),
    ],
)
def test_a_record_is_kept_if_it_is_one_of_the_same_files(record, kept, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(record))
    skipped = []
    job = SimpleNamespace(skip=skipped.append)
    found = read_kept(ScreenedScan, job, tmp_path / "a.json", [["a", 1]])
    assert (found is not None) == kept
    assert [str(error) for error in skipped] == RECORD["skipped"] * kept
