"""Records of a stopped screening: those that are none are done again, never a traceback."""

import json
from types import SimpleNamespace

import pytest

from covjax.screening.scan import ScreenedScan, read_kept, write_kept

SCAN = ScreenedScan({}, [{"id": "a", "called_infected": 1}], [], ["a.png: empty"])
STATE = [["a", 1]]


def changed(record):
    record["values"]["slices"][0]["called_infected"] = 0
    return record


@pytest.mark.parametrize(
    ("change", "state", "kept"),
    [
        (lambda record: record, STATE, True),
        (lambda record: record, [["a", 2]], False),
        (changed, STATE, False),
        (lambda record: record | {"more": 1}, STATE, False),
        (lambda record: {"stamps": STATE}, STATE, False),
        (lambda record: {"values": [], "stamps": STATE}, STATE, False),
    ],
)
def test_a_record_is_kept_if_it_is_one_of_the_same_files(change, state, kept, tmp_path):
    path = tmp_path / "a.json"
    write_kept(path, SCAN, STATE)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    skipped = []
    job = SimpleNamespace(skip=skipped.append)
    found = read_kept(ScreenedScan, job, path, state)
    assert found == (SCAN if kept else None)
    assert [str(error) for error in skipped] == SCAN.skipped * kept
