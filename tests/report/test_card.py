"""The model card that every report writes."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from covjax.errors import InputError
from covjax.report.results import read_results
from covjax.report.run.card import model_card
from covjax.runtime import source_commit
from tests.report.runs import write_full, write_json


def card(workdir: Path) -> str:
    return model_card(read_results(workdir)).decode()


def test_a_card_names_data_splits_scores_weights_plugins_and_commit(tmp_path):
    write_full(tmp_path)
    splits = json.loads((tmp_path / "splits.json").read_text())
    splits |= {"fingerprint": "f00d", "origins": {"test": ["b", "a"]}}
    write_json(tmp_path / "splits.json", splits)
    environment = json.loads((tmp_path / "environment.json").read_text())
    write_json(tmp_path / "environment.json", environment | {"commit": "c0ffee, 2 files changed"})
    start = {"network": "resnet18", "file": "/home/someone/w.pth", "digest": "0123"}
    write_json(tmp_path / "init_classifier.json", start)
    write_json(tmp_path / "plugins.json", {"plugins": [{"name": "mine.py", "sha256": "abcd"}]})
    text = card(tmp_path)
    assert "not a medical device" in text
    for fact in (
        "digest f00d",
        "commit c0ffee, 2 files changed",
        "started from resnet18, w.pth, digest 0123",
        "started from random weights",
        "Plug-in: mine.py, SHA-256 abcd",
        "| 7e18f737311b2dc3b2f269dd78396b03 |",
        "0.741 to 0.860",
    ):
        assert fact in text, fact
    assert "/home" not in text
    start["sha256"] = start.pop("digest")  # as published weights have it
    write_json(tmp_path / "init_classifier.json", start)
    assert card(tmp_path) == text


def test_a_card_says_what_limits_its_data(tmp_path):
    write_full(tmp_path)
    splits = json.loads((tmp_path / "splits.json").read_text())
    assert "Data of" in card(tmp_path)
    splits |= {"by": "slice", "notes": {"test": {"no | spacing": 1234}}}
    write_json(tmp_path / "splits.json", splits)
    text = card(tmp_path)
    assert "Split by slice" in text
    assert r"1,234 slices of test: no \| spacing." in text
    write_json(tmp_path / "splits.json", splits | {"source": "phantom"})
    assert "synthetic" in card(tmp_path)


def test_hostile_names_stay_text_in_a_card(tmp_path):
    write_full(tmp_path)
    plugin = {"name": "<script>alert(1)</script>\n# heading", "sha256": "abcd"}
    write_json(tmp_path / "plugins.json", {"plugins": [plugin]})
    text = card(tmp_path)
    assert "<script>" not in text
    assert not re.search("^# heading", text, re.MULTILINE)


def test_a_damaged_record_is_named(tmp_path):
    write_full(tmp_path)
    (tmp_path / "init_classifier.json").write_text("{")
    with pytest.raises(InputError, match=r"init_classifier\.json"):
        card(tmp_path)


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(
        ["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_is_that_of_the_package_and_says_what_changed(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert source_commit(package) == "unknown"
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "elsewhere.py").write_text("not of the package")
    assert source_commit(package) == commit
    (package / "__init__.py").write_text("changed")
    (package / "new.py").write_text("")
    assert source_commit(package) == f"{commit}, 2 files changed since"
    installed = tmp_path / ".venv" / "package"
    shutil.copytree(package, installed)
    assert source_commit(installed) == "unknown"
