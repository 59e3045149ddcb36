"""One process at a time holds a folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from absl import flags

from covjax import locks
from covjax.commands import audit, enhance, preview, protocols
from covjax.errors import InputError
from covjax.files import new_folder
from covjax.locks import LOCK, held
from tests.places import ROOT

HOLD = """
import sys
from pathlib import Path
from covjax.locks import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
COUNT = """
import sys
from pathlib import Path
from covjax.errors import InputError
from covjax.locks import held
folder = Path(sys.argv[1])
counter = folder.with_name("counter")
done = 0
while done < 200:
    try:
        with held(folder):
            counter.write_text(str(int(counter.read_text()) + 1))
            done += 1
    except InputError:
        pass
"""


def start(program, folder):
    command = [sys.executable, "-c", program, str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, stderr=-1, text=True)


@pytest.fixture
def holder(tmp_path):
    process = start(HOLD, tmp_path / "run")
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_held_folder_is_refused_with_its_holder(holder, tmp_path):
    said = f"run: in use by process {holder.pid} on .* since 20.*, wait until it ends or name"
    with pytest.raises(InputError, match=said), held(tmp_path / "run"):
        pass
    assert (tmp_path / "run" / LOCK).is_file()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_ends_in_any_way_lets_go(holder, tmp_path, end):
    os.kill(holder.pid, end)
    holder.communicate()
    with held(tmp_path / "run"):
        (tmp_path / "run" / "a").touch()
    assert os.listdir(tmp_path / "run") == ["a"]


def test_a_folder_may_be_held_within_and_leaves_nothing(tmp_path):
    folder = tmp_path / "deep" / "run"
    with held(folder), held(tmp_path / "deep" / ".." / "deep" / "run"):
        assert os.listdir(folder) == [LOCK]
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file/run: cannot be made or written"):
        held(tmp_path / "file" / "run").__enter__()


def test_a_folder_that_the_system_has_no_place_for_is_refused():
    with pytest.raises(InputError, match="/proc/none/run: cannot be made or written"):
        held(Path("/proc/none/run")).__enter__()


def test_processes_that_take_turns_lose_no_change(tmp_path):
    (tmp_path / "counter").write_text("0")
    workers = [start(COUNT, tmp_path / "run") for _ in range(4)]
    for worker in workers:
        assert worker.communicate()[1] == ""
    assert (tmp_path / "counter").read_text() == "800"


def test_two_processes_do_not_fill_the_same_new_folder(tmp_path):
    folder = tmp_path / "out"
    other = start(HOLD, tmp_path / "out.partial")
    assert other.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="in use by"), new_folder(folder):
        pass
    other.communicate(input="")
    with new_folder(folder) as partial:
        (partial / "a").touch()
    assert os.listdir(folder) == ["a"]


def test_pictures_are_not_written_into_a_folder_in_use(holder, tmp_path, monkeypatch):
    picture = tmp_path / "run" / "a.png"
    for module, given in ((enhance, {"_PRESET": "none", "_GAIN": "orthonormal"}), (preview, {})):
        for name, value in {"_OUTPUT": picture, "_CONFIG": {}, **given}.items():
            monkeypatch.setattr(module, name, SimpleNamespace(value=value), raising=False)
    monkeypatch.setitem(enhance.PRESETS, "none", "as it is")
    monkeypatch.setattr("covjax.preprocess.enhance.enhance", lambda images, *_: images)
    monkeypatch.setattr("covjax.settings.read_settings", lambda config: config)
    monkeypatch.setattr("covjax.runs.preview.preview_augmentation", lambda settings: {})
    monkeypatch.setattr("covjax.report.augmentation_grid", lambda previews: b"")
    for draw in (enhance.draw, preview.preview):
        with pytest.raises(InputError, match="in use by process"):
            draw()
    holder.kill()
    holder.wait()
    for draw in (enhance.draw, preview.preview):
        draw()
        assert os.listdir(tmp_path / "run") == ["a.png"]


@pytest.mark.parametrize(
    ("module", "job"), [(audit, audit.audit), (protocols, protocols.protocols)]
)
def test_where_data_lie_is_of_a_run(module, job):
    module.FLAGS(["x", "--config=quickstart", "--output=out", "--data_path=place"])
    with pytest.raises(flags.Error, match="--data_path goes with --workdir"):
        job()
    module.FLAGS.unparse_flags()


def test_a_folder_that_keeps_no_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_open", lambda path: None)  # as in /proc
    message = r"cannot be made or written \(it keeps no file\)"
    with pytest.raises(InputError, match=message), held(tmp_path / "out"):
        pass
