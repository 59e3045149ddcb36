"""Files that covjax wrote: a damaged field is named in one line, with what to do."""

import json
from typing import Any, Literal, NotRequired, TypedDict

import pytest

from covjax.errors import InputError
from covjax.plugins import check_plugins
from covjax.records import Count, Inside, read_record, read_record_lines
from covjax.report import audit_table, protocols_table, study_table
from covjax.report.results import read_results
from covjax.runs.calibrate import read_calibration
from covjax.runs.intensity import read_intensity
from covjax.stages.settings import ClassifierSettings
from covjax.training.history import rewind
from tests.attacks.results import CALIBRATION, written_kinds


class Part(TypedDict):
    count: Count
    path: NotRequired[Inside]


class Whole(TypedDict):
    name: str
    parts: list[Part]
    ends: tuple[float, float] | None
    odds: float | Literal["inf"]
    further: NotRequired[dict[str, bool]]
    anything: NotRequired[Any]


GOOD = {"name": "a", "parts": [{"count": 1}], "ends": None, "odds": 1, "more": [], "anything": {}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"ends": [0, 0.5], "odds": "inf", "further": {"x": True}}, ""),
        ({"name": 3}, "field 'name' is 3, must be text"),
        ({"name": None}, "field 'name' is null, must be text"),
        ({"parts": {}}, "field 'parts' is {}, must be a list"),
        ({"parts": [{}]}, "field 'parts.0.count' is missing"),
        ({"parts": [{"count": 1}, 3]}, "field 'parts.1' is 3, must be an object"),
        ({"parts": [{"count": True}]}, "field 'parts.0.count' is true, must be a whole number"),
        ({"parts": [{"count": -1}]}, "field 'parts.0.count' is -1, must be 0 or more"),
        ({"parts": [{"count": 2**63}]}, "field 'parts.0.count' is 9223372036854775808, must be a "),
        ({"parts": [{"count": 1, "path": "../a"}]}, "'parts.0.path' is \"../a\", must be the name"),
        ({"parts": [{"count": 1, "path": "/a"}]}, "'parts.0.path' is \"/a\", must be the name"),
        ({"ends": [0]}, "field 'ends' is [0], must be 2 values"),
        ({"ends": [0, float("nan")]}, "field 'ends.1' is NaN, must be a number"),
        ({"odds": "x"}, "field 'odds' is \"x\", must be a number"),
        ({"odds": float("-inf")}, "field 'odds' is -Infinity, must be a number"),
        ({"further": {"x": 1}}, "field 'further.x' is 1, must be true or false"),
        ({"name": ["\n" * 999]}, "field 'name' is [\"\\n\\n"),
    ],
)
def test_the_first_field_that_is_wrong_is_named(change, words, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(GOOD | change))
    if not words:
        assert read_record(path, Whole, "mend it") == GOOD | change
        return
    with pytest.raises(InputError) as caught:
        read_record(path, Whole, "mend it")
    message = str(caught.value)
    assert message.startswith(f"{path}: damaged (") and message.endswith("), mend it")
    assert words in message and len(message) < 200 + len(str(path))


def test_lines_are_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"count": 1}\n{"count": "1"}\n')
    with pytest.raises(InputError, match="field 'line 2.count' is \"1\", must be a whole number"):
        read_record_lines(path, Part, "mend it")


def changed(path, *names):
    """Changes the field of a JSON file that `names` lead to into a list within an object."""
    whole = json.loads(path.read_text())
    part = whole
    for name in names[:-1]:
        part = part[name]
    part[names[-1]] = {"odd": []}
    path.write_text(json.dumps(whole))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("written")
    written_kinds(root)
    (root / "run" / "intensity.json").write_text('{"values": ["8bit"], "window": null}')
    (root / "run" / "metrics.jsonl").write_text('{"stage": "classifier", "epoch": 1, "step": 2}')
    summary = {"definitions": 3, "options": {}, "classifier": {"scores": {"mcc": {"value": 1}}}}
    (root / "run" / "results" / "test").mkdir(parents=True)
    (root / "run" / "results" / "test" / "summary.json").write_text(json.dumps(summary))
    (root / "run" / "results" / "timing.json").write_text('{"classifier": {"epochs": 2}}')
    return root


def calibration(run):
    return read_calibration(ClassifierSettings(calibration="temperature"), run)


def history(run):
    rewind(run / "metrics.jsonl", "classifier", 3)


@pytest.mark.parametrize(
    ("read", "file", "field"),
    [
        (study_table, "study/study.json", "variants.1.scores.dice_infected.value"),
        (study_table, "study/study.json", "variants.0.runs.1.parameters"),
        (study_table, "study/study.json", "settings.seeds"),
        (audit_table, "audit/audit.json", "findings.0.count"),
        (protocols_table, "protocols/protocols.json", "rows.4.scores.iou_infected.interval"),
        (check_plugins, "run/plugins.json", "plugins.0.sha256"),
        (calibration, "run/calibration.json", "temperature"),
        (read_intensity, "run/intensity.json", "values"),
        (read_results, "run/results/test/summary.json", "classifier.scores.mcc.value"),
        (read_results, "run/results/timing.json", "classifier.epochs"),
        (read_results, "run/metrics.jsonl", "epoch"),
        (history, "run/metrics.jsonl", "step"),
    ],
)
def test_every_reader_names_file_and_field(written, read, file, field):
    path = written / file
    before = path.read_bytes()
    changed(path, *(int(name) if name.isdigit() else name for name in field.split(".")))
    with pytest.raises(InputError, match=f"{path.name}: damaged .*{field}' is "):
        read(written / file.split("/")[0])
    path.write_bytes(before)


@pytest.mark.parametrize("stored", [None, "nan", "-inf", "x", True, [], float("nan")])
def test_damaged_thresholds(stored, tmp_path):
    found = CALIBRATION | {"threshold_log_odds": stored}
    (tmp_path / "calibration.json").write_text(json.dumps(found))
    with pytest.raises(InputError, match="field 'threshold_log_odds' is .*, delete it and run"):
        calibration(tmp_path)


@pytest.mark.parametrize("temperature", [0, -1, float("inf")])
def test_damaged_temperatures(temperature, tmp_path):
    found = CALIBRATION | {"temperature": temperature}
    (tmp_path / "calibration.json").write_text(json.dumps(found))
    with pytest.raises(InputError, match="field 'temperature' is "):
        calibration(tmp_path)
