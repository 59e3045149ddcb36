"""Splits cannot leak, hold both classes, and come near the shares."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from covjax.data.splits.splits import SPLITS, make_splits, read_splits, split_indices
from covjax.errors import InputError
from tests.data.splits.made import check, data, patients, refused, rule
from tests.places import REAL


def test_notes_are_counted_by_split():
    d = patients([4, 4, 4, 4], [0.5] * 4)
    splits = make_splits(replace(d, notes={0: ("tilted",), 1: ("tilted", "thick")}), rule(), 0)
    counts = splits["notes"]
    assert {split for split in SPLITS if counts[split]} == {
        split for split in SPLITS if "s0" in splits[split]
    }
    assert sum((Counter(notes) for notes in counts.values()), Counter()) == {
        "tilted": 2,
        "thick": 1,
    }
    assert "notes" not in make_splits(d, rule(), 0)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(2, 60), min_size=3, max_size=30), st.integers(0, 2**32 - 1), st.data())
def test_patients_never_leak(sizes, seed, draw):
    d = patients(sizes, [draw.draw(st.sampled_from([0.0, 0.5, 1.0])) for _ in sizes])
    per_class = [
        len({p for p, k in zip(d.patients, d.labels, strict=True) if k == c}) for c in (0, 1)
    ]
    assume(min(per_class) >= 3)
    try:
        splits = make_splits(d, rule(), seed)
    except InputError as error:
        # Three patients hold a class, but no division puts both classes everywhere: only then.
        mixed = len(
            {
                p
                for p in d.patients
                if {k for q, k in zip(d.patients, d.labels, strict=True) if q == p} == {0, 1}
            }
        )
        assert len(sizes) < 6 - mixed, error
        return
    check(splits, d)
    assert splits == make_splits(d, rule(), seed)


def test_seed_matters():
    d = patients([20] * 20, [0.5] * 20)
    assert len({tuple(make_splits(d, rule(), seed)["test"]) for seed in range(5)}) > 1


def test_shares_of_many_patients():
    d = patients([30] * 60, [0.4] * 60)
    splits = make_splits(d, rule(), 0)
    for split, share in zip(SPLITS, (0.64, 0.16, 0.2), strict=True):
        assert abs(len(splits[split]) / len(d) - share) < 0.03


def test_unequal_patients():
    """As in the paper's data, where one of eight patients has more than half of the slices."""
    d = patients([457, 93, 66, 45, 45, 42, 42, 39], [0.37, 0.6, 0.5, 0.4, 0.7, 0.45, 0.5, 0.3])
    splits = make_splits(d, rule(), 0)
    check(splits, d)
    shares = [len(splits[p]) / len(d) for p in SPLITS]
    assert 0.55 <= shares[0] <= 0.75 and 0.08 <= shares[1] <= 0.25 and 0.1 <= shares[2] <= 0.3


def test_prlab21():
    path = REAL / "prlab21" / "index.csv"
    if not path.is_file():
        pytest.skip(f"{path} absent; set COVJAX_TEST_DATA to run this on real patients")
    header, *rows = (line.split(",") for line in path.read_text().split())
    column = {name: [row[header.index(name)] for row in rows] for name in ("label", "patient")}
    d = data([int(v) for v in column["label"]], column["patient"])
    for seed in range(3):
        splits = make_splits(d, rule(), seed)
        check(splits, d)
        assert abs(len(splits["train"]) / len(d) - 0.64) < 0.12
        for split in SPLITS:
            assert len(splits[split]) / len(d) > 0.08


@pytest.mark.parametrize("n", [60, 3000])
def test_by_slice_with_a_rare_class(n):
    d = data([1, 1, 1, *[0] * (n - 3)], ["p"] * n)
    for seed in range(4):
        check(make_splits(d, rule("slice"), seed), d, by="slice")


def test_split_indices():
    d = patients([5] * 6, [0.4] * 6)
    splits = make_splits(d, rule(), 0)
    assert [d.ids[i] for i in split_indices(d, splits, "val")] == splits["val"]
    with pytest.raises(InputError, match="2 slices, first gone0"):
        split_indices(d, splits | {"val": ["gone0", "gone1"]}, "val")


def test_refused():
    one = patients([20], [0.5])
    refused("1 patient.*--config.split.by=slice", one, rule(), 0)
    refused("s0: patient unknown", data([0, 1] * 5, [""] * 10), rule(), 0)
    refused("split.by.*did you mean 'patient'", one, rule("patent"), 0)
    for shares in (
        (0.5, 0.5),
        (0.5, 0.5, 0.0),
        (0.5, 0.4, 0.2),
        ("a", 0.5, 0.5),
        (float("nan"), 0.5, 0.5),
        "abc",
    ):
        refused("split.shares", one, rule("slice", shares), 0)
    refused("no slice is healthy", patients([10] * 5, [1] * 5), rule(), 0)
    refused("no slice is infected", patients([10] * 5, [0] * 5), rule(), 0)
    refused("split has no healthy slice", patients([10] * 5, [1, 1, 1, 1, 0]), rule(), 0)


def test_a_segmenter_alone_needs_no_healthy_slice():
    d = patients([10] * 5, [1] * 5)
    splits = make_splits(d, rule(), 0, needs=("infected",))
    assert all(
        splits["slices"][p]["infected"] and not splits["slices"][p]["healthy"] for p in SPLITS
    )
    refused(
        "split has no infected", patients([10] * 5, [1, 0, 0, 0, 0]), rule(), 0, needs=("infected",)
    )


def test_reading(tmp_path):
    d = patients([5] * 6, [0.4] * 6)
    splits = make_splits(d, rule(), 0)
    path = tmp_path / "splits.json"
    path.write_text(json.dumps(splits))
    assert read_splits(path) == json.loads(json.dumps(splits))
    patient = splits["patients"]["train"][0]
    for content in (
        "", "[]", "{}", "7", "{", json.dumps({k: v for k, v in splits.items() if k != "test"}),
        json.dumps({k: v for k, v in splits.items() if k != "fingerprint"}),
        json.dumps(splits | {"train": 3}),
    ):  # fmt: skip
        path.write_text(content)
        with pytest.raises(InputError, match="splits.json: damaged"):
            read_splits(path)
    path.write_bytes(b"\xff\xfe\0")
    with pytest.raises(InputError, match="splits.json: damaged"):
        read_splits(path)
    for change, match in (
        ({"val": splits["train"]}, "is in both train and val"),
        (
            {"patients": splits["patients"] | {"test": [patient]}},
            f"patient {patient} is in both train and test",
        ),
        ({"val": []}, "val split is empty"),
    ):
        path.write_text(json.dumps(splits | change))
        with pytest.raises(InputError, match=match):
            read_splits(path)
    path.unlink()
    with pytest.raises(InputError, match="missing"):
        read_splits(path)


def test_splits_come_from_a_file(tmp_path):
    d = data([0, 1] * 6, "aaaabbbbccdd")
    made = make_splits(d, rule(), 0)
    (tmp_path / "splits.json").write_text(json.dumps(made))
    again = make_splits(d, rule("file", path=tmp_path / "splits.json"), 1)
    assert all(again[split] == made[split] for split in SPLITS) and again["by"] == "file"
    by_hand = tmp_path / "splits.csv"
    by_hand.write_text("Patient,split\na,train\nb,val\nc,test\n")
    found = make_splits(d, rule("file", path=by_hand), 0)
    assert [found["patients"][split] for split in SPLITS] == [["a"], ["b"], ["c"]] and found[
        "left_out"
    ] == ["s10", "s11"]
    names = {name: f"hidden {name}" for name in "abcd"}
    hidden = replace(data([0, 1] * 6, [names[name] for name in "aaaabbbbccdd"]), pseudonyms=names)
    assert make_splits(hidden, rule("file", path=by_hand), 0)["test"] == found["test"]
    numbered = data([0, 1] * 6, "111122223344")
    by_hand.write_text(
        "Patient,split\n1.0,train\n2.0,val\n3,test\n"
    )  # as a spreadsheet writes them
    assert make_splits(numbered, rule("file", path=by_hand), 0)["test"] == found["test"]
    for text, word in (
        ("patient,split\nx,train\n", "first x"),
        ("patient,split\na,training\n", "line 2: split 'training'"),
        ("patient,split\na,train\na,test\n", "line 3 puts a into another"),
        ("name,split\na,train\n", "columns split and patient or id"),
        ("patient,split\na,train\nb,val\n", "the test split is empty"),
        ("id,split\ns0,train\ns1,val\ns2,test\n", "patient a is in both train and test"),
    ):
        by_hand.write_text(text)
        refused(word, d, rule("file", path=by_hand), 0)
    refused("none.csv: missing, name", d, rule("file", path=tmp_path / "none.csv"), 0)
    refused("says what is tested", d, rule("file", path=by_hand, folds=2), 0)
