"""Digests of files: by content, remembered by size and times."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from covjax.data import contents
from covjax.data.contents import digests


@given(st.dictionaries(st.sampled_from("abcdef"), st.binary(max_size=20), min_size=1), st.data())
@settings(max_examples=50, deadline=None)
def test_digests_follow_contents_and_nothing_else(tmp_path_factory, files, draw):
    root = tmp_path_factory.mktemp("root")
    memory = tmp_path_factory.mktemp("memory")
    for name, content in files.items():
        (root / name).write_bytes(content)
    paths = [root / name for name in files]
    first = digests(root, paths, memory)
    assert len(set(first.values())) == len(set(files.values()))
    name = draw.draw(st.sampled_from(sorted(files)))
    times = (root / name).stat().st_mtime_ns
    new = draw.draw(st.binary(max_size=20))
    (root / name).write_bytes(new)
    os.utime(root / name, ns=(times, times))
    second = digests(root, paths, memory)
    assert (second[root / name] == first[root / name]) == (new == files[name])
    assert all(second[path] == first[path] for path in paths if path.name != name)
    moved = root.rename(root.with_name(root.name + "_moved"))
    again = digests(moved, [moved / one for one in files], memory)
    assert {path.name: digest for path, digest in again.items()} == {
        p.name: d for p, d in second.items()
    }


def test_unchanged_files_are_not_read_again(tmp_path, monkeypatch):
    paths = [tmp_path / f"{k}" for k in range(20)]
    for path in paths:
        path.write_text(path.name)
    read = []
    real = contents._digest
    monkeypatch.setattr(contents, "_digest", lambda path: read.append(path) or real(path))
    first = digests(tmp_path, paths, tmp_path / "memory")
    assert digests(tmp_path, paths, tmp_path / "memory") == first and len(read) == 20
    paths[3].write_text("other")
    assert digests(tmp_path, paths, tmp_path / "memory") != first and len(read) == 21
    (place,) = (tmp_path / "memory").iterdir()
    place.write_text("{damaged")
    digests(tmp_path, paths, tmp_path / "memory")
    assert len(read) == 41


def test_what_cannot_be_remembered_is_read_again(tmp_path):
    path = tmp_path / "a"
    path.write_text("a")
    (tmp_path / "file").write_text("")
    assert digests(tmp_path, [path], tmp_path / "file" / "below") == digests(
        tmp_path, [path], tmp_path / "memory"
    )
