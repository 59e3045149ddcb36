"""Prepared slices: made once, safe against kills, races and full disks, and the same as the
source.
"""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from covjax.data.label_map import IGNORE
from covjax.data.prepared import dataset as prepared
from covjax.data.prepared import shards
from covjax.data.prepared.dataset import open_prepared, prepare
from covjax.data.prepared.shards import SHARD
from covjax.data.sources.registry import open_source
from covjax.data.sources.source import Slice, Source
from covjax.data.splits.splits import count_notes
from covjax.errors import InputError, Interrupted, RunError
from covjax.settings import default_config
from tests.limits import files_up_to
from tests.places import ROOT


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i, size in enumerate([(20, 24), (33, 17), (16, 16), (40, 50)]):
        for kind, pixels in (
            ("images", rng.integers(0, 256, size)),
            ("masks", rng.integers(0, 2, size)),
        ):
            (tmp_path / "slices" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(
                tmp_path / "slices" / kind / f"s{i} ü.png"
            )
    return tmp_path / "slices"


def config(folder, **fields):
    home = folder.parent / "prepared"
    data = default_config().data
    data.update(source="folder", path=str(folder), prepared_dir=str(home), **fields)
    return data


def left(folder):
    """What is in the place of prepared slices, but for the digests of files."""
    home = folder.parent / "prepared"
    if not home.is_dir():
        return []
    return [p for p in home.iterdir() if not p.name.startswith("digests-")]


def test_reads_back_what_the_source_gave(folder):
    data = prepare(config(folder))
    source = open_source(config(folder))
    assert len(data) == 4 and data.ids == source.ids and data.has_mask.all()
    for i in range(4):
        image, mask = data.decode(i)
        np.testing.assert_array_equal(image, source.load(i).image)
        np.testing.assert_array_equal(mask, source.load(i).mask)
    assert data.decode(np.int64(2))[0].dtype == np.uint8


def test_notes_are_kept(folder):
    plain = open_source(config(folder))
    noted = replace(plain, load=lambda i: plain.load(i)._replace(notes=("tilted", "ü")[: i - 1]))
    prepared._build(noted, folder.parent / "built")
    data = open_prepared(folder.parent / "built")
    assert data.notes == {0: ("tilted",), 2: ("tilted",), 3: ("tilted", "ü")}
    assert count_notes(data, np.array([1, 2, 3])) == {"tilted": 2, "ü": 1}


def test_no_masks_at_all(folder):
    for path in (folder / "masks").iterdir():
        path.unlink()
    (folder / "masks").rmdir()
    names = sorted(p.stem for p in (folder / "images").iterdir())
    lines = [f"{name},{k % 2},p{k}" for k, name in enumerate(names)]
    (folder / "index.csv").write_text("\n".join(["id,label,patient", *lines]))
    data = prepare(config(folder))
    assert data.has_mask.tolist() == [True, False, True, False]  # healthy slices have an empty one
    assert (data.decode(1)[1] == IGNORE).all() and not data.decode(0)[1].any()
    assert data.labels.tolist() == [0, 1, 0, 1] and data.values == {"8bit"}
    assert (
        data.patients == tuple(data.pseudonyms[f"p{k}"] for k in range(4))
        and "p0" not in data.patients
    )
    (prepared_folder,) = (path for path in left(folder) if path.is_dir())
    key = prepared_folder / "patients.csv"
    assert f"{data.pseudonyms['p2']},p2" in key.read_text() and key.stat().st_mode & 0o777 == 0o600


def test_built_once_and_again_when_a_file_changes(folder, monkeypatch):
    built = []
    build = prepared._build
    monkeypatch.setattr(prepared, "_build", lambda *args: (built.append(1), build(*args)))
    first = prepare(config(folder))
    assert prepare(config(folder)).fingerprint == first.fingerprint and len(built) == 1
    path = next((folder / "images").iterdir())
    Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    changed = prepare(config(folder))
    assert changed.fingerprint != first.fingerprint and len(built) == 2
    assert not changed.decode(changed.ids.index(path.stem))[0].any()


def test_finished_slices_need_no_writable_folder(folder, monkeypatch):
    prepare(config(folder))
    monkeypatch.setattr(prepared, "held", lambda folder, **_: pytest.fail("locks, so it writes"))
    assert len(prepare(config(folder))) == 4


def test_an_error_in_the_middle_leaves_nothing(folder):
    broken = folder / "images" / "s2 ü.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:60])
    with pytest.raises(InputError, match="s2 ü.png: damaged or truncated") as caught:
        prepare(config(folder))
    assert "\n" not in str(caught.value) and left(folder) == []
    broken.write_bytes(whole)
    assert len(prepare(config(folder))) == 4


def generated(n, size=64):
    def load(i):
        image = np.random.default_rng(i).integers(0, 256, (size, size), np.uint8)
        return Slice(f"s{i}", image, image % 2, 1, "p", "")

    return Source(
        "made", tuple(f"s{i}" for i in range(n)), load, "f", tuple(f"o{i}" for i in range(n))
    )


def test_several_files_keep_the_order(tmp_path):
    source = generated(SHARD + 3, size=16)
    prepared._build(source, tmp_path / "x")
    data = open_prepared(tmp_path / "x")
    assert data.ids == source.ids
    for i in (0, SHARD - 1, SHARD, SHARD + 2):
        np.testing.assert_array_equal(data.decode(i)[0], source.load(i).image)


def test_memory_does_not_grow_with_the_data(tmp_path):
    """In a process of its own, because the peak of this one is already high."""
    code = f"""
import resource, sys
sys.path[:0] = [{str(ROOT)!r}]
from pathlib import Path
from tests.data.prepared import test_dataset as t
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
t.shards.SHARD = 16
t.prepared._build(t.generated(32, 512), Path({str(tmp_path)!r}) / "a")
before = peak()
t.prepared._build(t.generated(200, 512), Path({str(tmp_path)!r}) / "b")
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    written = sum(p.stat().st_size for p in (tmp_path / "b").rglob("*") if p.is_file()) / 2**20
    assert written > 50 and float(done.stdout) < 25


@pytest.fixture
def several(monkeypatch):
    """A shard per slice, and two processes to write them."""
    monkeypatch.setattr(shards, "SHARD", 1)
    monkeypatch.setattr(prepared, "LEAST_SHARDS", 1)
    monkeypatch.setattr(prepared, "_cores", lambda: 2)


def test_several_processes_write_what_one_writes(folder, several, monkeypatch):
    many = prepare(config(folder))
    c = config(folder)
    monkeypatch.setattr(prepared, "_cores", lambda: 1)
    c.prepared_dir += " alone"
    one = prepare(c)
    assert many.ids == one.ids and (many.labels == one.labels).all() and len(left(folder)) == 1
    for i in range(4):
        for a, b in zip(many.decode(i), one.decode(i), strict=True):
            np.testing.assert_array_equal(a, b)
    files = [
        sorted(p.name for p in Path(x).rglob("*") if p.is_file())
        for x in (c.prepared_dir, left(folder)[0].parent)
    ]
    assert files[0] == files[1] and sum("array_record" in name for name in files[0]) == 4


def test_an_error_in_one_of_several_processes(folder, several):
    (folder / "images" / "s2 ü.png").write_bytes(b"none")
    with pytest.raises(InputError, match="s2 ü.png: not a picture") as caught:
        prepare(config(folder))
    assert "\n" not in str(caught.value) and left(folder) == []


def test_a_process_that_is_killed(folder, several, monkeypatch):
    monkeypatch.setattr(shards.sys, "executable", "/bin/false")
    with pytest.raises(RunError, match="ended with status .*, run the same command to go on"):
        prepare(config(folder))
    assert left(folder) and not list(left(folder)[0].rglob("index.json"))


def test_an_interruption_leaves_the_finished_shards(tmp_path):
    read = []
    source = generated(2 * SHARD + 5, size=16)

    def load(i, until=SHARD + 7):
        read.append(i)
        if i == until:
            raise Interrupted(15, "stopped")
        return source.load(i)

    with pytest.raises(Interrupted):
        prepared._build(replace(source, load=load), tmp_path / "x")
    assert not list(tmp_path.rglob("*.partial"))
    with pytest.raises(InputError):
        open_prepared(tmp_path / "x")
    read.clear()
    (tmp_path / "x" / "shards" / "1-2.77.partial").write_text("of a process that was killed")
    prepared._build(replace(source, load=lambda i: load(i, None)), tmp_path / "x")
    assert read == list(range(SHARD, 2 * SHARD + 5))  # the first shard was finished
    data = open_prepared(tmp_path / "x")
    assert data.ids == source.ids and not (tmp_path / "x" / "shards").exists()
    for i in (0, SHARD, 2 * SHARD + 4):
        np.testing.assert_array_equal(data.decode(i)[0], source.load(i).image)


def test_the_number_of_files_is_bounded(tmp_path):
    found = shards.Shards(generated(1_000_003), tmp_path)
    assert len(found.slices) <= shards.MOST_SHARDS and sum(map(len, found.slices)) == 1_000_003


SLOW = """
import os, sys, time
sys.path[:0] = [{root!r}]
from types import SimpleNamespace
from covjax.data.prepared.dataset import prepare
from covjax.data.sources import pictures
from tests.data.prepared.test_dataset import config
from pathlib import Path
load = pictures.read_picture
def slowly(path, told, bits):
    os.write(1, b"reading\\n")  # the builder's own output is kept from standard output
    time.sleep({pause})
    return load(path, told, bits)
pictures.read_picture = slowly
data = prepare(config(Path({folder!r})))
print("done", len(data), flush=True)
"""


def preparing(folder, pause):
    code = SLOW.format(root=str(ROOT), folder=str(folder), pause=pause)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def test_killed_in_the_middle(folder):
    process = preparing(folder, 15)
    assert process.stdout.readline() == "reading\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert left(folder) and not list(left(folder)[0].glob("index.json"))
    data = prepare(config(folder))
    assert len(data) == 4 and len(left(folder)) == 1
    assert not list((folder.parent / "prepared").rglob("incomplete*"))


def test_two_processes_at_once(folder):
    first = preparing(folder, 0.3)
    second = preparing(folder, 0.3)
    said = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert all(text.endswith("done 4\n") for text in said)
    assert sum(text.count("reading") for text in said) == 4  # only one of them built
    source = open_source(config(folder))
    np.testing.assert_array_equal(prepare(config(folder)).decode(3)[0], source.load(3).image)


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "info", "index", "rows"])
def test_damage_is_noticed(tmp_path, damage):
    prepared._build(generated(6), tmp_path / "x")
    shard = next((tmp_path / "x").rglob("*array_record*"))
    if damage == "cut":
        shard.write_bytes(shard.read_bytes()[:-20000])
    elif damage == "empty":
        shard.write_bytes(b"")
    elif damage == "gone":
        shard.unlink()
    elif damage == "info":
        (shard.parent / "features.json").write_text("{")
    else:
        (tmp_path / "x" / "index.json").write_text("{" if damage == "index" else '{"slices": [{}]}')
    with pytest.raises(InputError, match="missing or damaged .*, delete the folder") as caught:
        open_prepared(tmp_path / "x")
    assert "\n" not in str(caught.value)


def refused(folder, match, **fields):
    with pytest.raises(InputError, match=match) as caught:
        prepare(config(folder, **fields))
    message = str(caught.value)
    assert "\n" not in message and "data.prepared_dir" in message


@pytest.mark.parametrize("place", ["/proc/covjax", "a file/below"])
def test_a_place_that_cannot_be_written(folder, place):
    (folder.parent / "a file").write_text("")
    home = folder.parent / place  # an absolute place replaces the rest
    c = config(folder)
    c.prepared_dir = str(home)
    with pytest.raises(InputError, match=f"{home}.* cannot be made or written.*data.prepared_dir"):
        prepare(c)


def test_a_file_that_cannot_grow(folder):
    with files_up_to(3000):
        refused(folder, "cannot be written .*File too large")
    assert left(folder) == []


def test_a_full_disk_keeps_finished_shards_and_the_file_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 1)
    home = tmp_path / "prepared"
    home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(home)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        refused(folder, r"/slices-.*\.array_record.* cannot be written .*No space left.* make room")
        kept = {path: path.stat().st_mtime_ns for path in home.rglob("shards/*.json")}
        assert 0 < len(kept) < 4 and not list(home.rglob("*.partial"))

        subprocess.run(["mount", "-o", "remount,size=16m", str(home)], check=True)
        finished = {path: path.stat().st_mtime_ns for path in home.rglob("*.array_record*")}
        assert len(prepare(config(folder))) == 4
        for path, written in finished.items():
            assert path.stat().st_mtime_ns == written
    finally:
        subprocess.run(["umount", str(home)], check=True)
