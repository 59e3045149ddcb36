import csv
import errno
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covjax.errors import InputError
from covjax.files import (
    new_folder,
    open_whole,
    read_arrays,
    read_json,
    write_json,
    write_together,
    write_whole,
)
from covjax.records import read_record_or_empty
from covjax.tables import NUMBERS, encode_table, read_rows


def test_a_file_that_fails_on_the_way_stays_as_it_was(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with open_whole(path) as out:
        out.write(b"before")
    with pytest.raises(KeyError), open_whole(path) as out:
        out.write(b"after")
        raise KeyError
    assert path.read_bytes() == b"before"
    assert list(path.parent.iterdir()) == [path]


def test_files_that_belong_together_are_written_all_or_none_and_the_bad_one_is_named(tmp_path):
    (tmp_path / "a").write_bytes(b"before")
    (tmp_path / "b").mkdir()
    with pytest.raises(InputError, match=r"b: cannot be written \(.*\), use another"):
        write_together({tmp_path / "b": b"", tmp_path / "a": b"after"})
    assert (tmp_path / "a").read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_folder_is_there_when_it_is_whole(tmp_path):
    with pytest.raises(KeyError), new_folder(tmp_path / "new") as folder:
        write_json(folder / "a.json", {})
        raise KeyError
    assert not list(tmp_path.iterdir())
    (tmp_path / "new").mkdir()
    with new_folder(tmp_path / "new") as folder:
        write_json(folder / "a.json", {"a": 1})
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "a.json"]


@pytest.mark.parametrize("content", ["", "{", "[1]", "\ud800", '{"a": 1'])
def test_damaged_json_is_named_with_the_remedy(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content, errors="surrogatepass")
    with pytest.raises(InputError, match=r"a\.json: damaged \(.*\), mend it"):
        read_json(path, "mend it")
    assert read_record_or_empty(path, dict[str, Any]) == {}


def test_a_file_that_is_missing_or_no_array_file_is_named(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(InputError, match="missing, mend it"):
        read_arrays(path, "mend it")
    with pytest.raises(InputError, match="missing, make it"):
        read_arrays(path, "mend it", missing="make it")
    np.savez(path, a=np.arange(3))
    assert read_arrays(path, "")["a"].tolist() == [0, 1, 2]
    for content in (b"", b"PK\x03\x04", path.read_bytes()[:-30]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.npz: damaged \(.*\), mend it"):
            read_arrays(path, "mend it")


def test_arrays_that_unpack_to_far_more_than_their_file_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros(100_000))
    assert read_arrays(path, "")["a"].shape == (100_000,)
    monkeypatch.setattr("covjax.files.LEAST_ARRAYS", 100_000)
    with pytest.raises(InputError, match=r"a\.npz: damaged \(unpacks to 800,128 bytes\), mend it"):
        read_arrays(path, "mend it")
    content = bytearray(path.read_bytes())
    content[60:120] = bytes(60)  # what is packed
    path.write_bytes(content)
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"a\.npz: damaged \(.*\), mend it"):
        read_arrays(path, "mend it")


def test_a_name_that_is_too_long_is_said_so(tmp_path):
    with pytest.raises(InputError, match="File name too long.*, shorten the longest name in it"):
        write_whole(tmp_path / ("x" * 250), b"")


def test_numbers_of_a_table_read_back_as_they_were_and_nan_is_empty():
    table = encode_table(("a", "b"), [(np.float32(0.1), float("nan")), ("x,y", 3)]).decode()
    assert table.splitlines() == ["a,b", "0.100000001,", '"x,y",3']
    assert np.float32(0.1) == np.float32(table.splitlines()[1].split(",")[0])


CELLS = st.builds(
    "{}{}".format,
    st.sampled_from(["", "=", "+", "-", "@", "\t", "'", "'=", "''-", "-1", "=cmd|' /C calc'!A0"]),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5),
)


@given(st.lists(CELLS, min_size=1, max_size=4))
def test_no_text_is_a_formula_and_all_reads_back(tmp_path_factory, cells):
    path = tmp_path_factory.mktemp("table") / "a.csv"
    path.write_bytes(encode_table(("id", "n"), [(cell, -1.5) for cell in cells]))
    with path.open(newline="", encoding="utf-8") as text:
        raw = list(csv.DictReader(text))
    for row in raw:
        assert row["n"] == "-1.5"
        if row["id"].startswith(("=", "+", "-", "@", "\t")):
            assert NUMBERS.fullmatch(row["id"])
    assert [row["id"] for row in read_rows(path, ["id"], "")] == cells


def test_a_field_without_end_is_one_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id\n" + "x" * 200_000)
    with pytest.raises(InputError, match=r"a\.csv: damaged \(field larger than .*, mend it"):
        read_rows(path, ["id"], "mend it")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room or use another folder"),
        (errno.EDQUOT, "make room or use another folder"),
        (errno.EACCES, "use another folder"),
        (errno.EIO, "use another folder"),
    ],
)
def test_a_full_disk_is_said_of_a_full_disk_alone(tmp_path, monkeypatch, number, remedy):
    def refuse(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(InputError) as caught:
        write_json(tmp_path / "a", {})
    assert str(caught.value).endswith(f"({os.strerror(number)}), {remedy}")
    assert not list(tmp_path.iterdir())
