"""Splits cannot leak, hold both classes, and come near the shares."""

import json
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from covjax.data.prepared.dataset import Prepared, prepare
from covjax.data.settings import SplitSettings
from covjax.data.splits.splits import SPLITS, make_splits, read_splits, split_indices
from covjax.errors import InputError
from covjax.settings import default_config
from tests.places import REAL


def data(labels, patients, splits=None):
    n = len(labels)
    ids = tuple(f"s{i}" for i in range(n))
    splits = tuple(splits) if splits is not None else ("",) * n
    return Prepared(
        "f",
        "fake",
        ids,
        np.array(labels, np.int32),
        tuple(patients),
        splits,
        np.ones(n, bool),
        None,
    )


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


def real(path, home, column):
    data = default_config().data
    data.update(
        source="folder",
        path=str(path),
        prepared_dir=str(home),
        patient_column=column,
        show_patients=True,
    )
    return data


def rule(by="patient", shares=(0.64, 0.16, 0.2), folds=0, fold=0, path=""):
    return SplitSettings(by, shares, folds, fold, str(path))


def patients(sizes, infected_shares):
    """One patient per size, the first slices of each infected."""
    names = np.repeat([f"p{i}" for i in range(len(sizes))], sizes)
    labels = np.concatenate(
        [np.arange(n) < round(n * s) for n, s in zip(sizes, infected_shares, strict=True)]
    )
    return data(labels.astype(int), names)


def check(splits, d, by="patient"):
    # each slice in exactly one split
    assert sorted(sum((splits[p] for p in SPLITS), [])) == sorted(d.ids)
    patient = dict(zip(d.ids, d.patients, strict=True))
    label = dict(zip(d.ids, d.labels.tolist(), strict=True))
    if by == "patient":
        groups = [{patient[s] for s in splits[p]} for p in SPLITS]
        assert all(not groups[a] & groups[b] for a, b in ((0, 1), (0, 2), (1, 2)))
    for p in SPLITS:
        assert {label[s] for s in splits[p]} == {0, 1}
        assert splits["slices"][p] == {
            k: sum(label[s] == i for s in splits[p]) for i, k in enumerate(("healthy", "infected"))
        }


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


def test_by_source():
    d = data(
        [0, 1] * 3, ["a", "a", "b", "b", "c", "c"], ["test", "test", "train", "train", "val", "val"]
    )
    splits = make_splits(d, rule("source"), 0)
    assert splits["train"] == ["s2", "s3"] and splits["test"] == ["s0", "s1"]
    check(splits, d)
    unknown_patients = data(d.labels, [""] * 6, d.splits)
    assert make_splits(unknown_patients, rule("source"), 0)["val"] == ["s4", "s5"]


def refused(match, *args, **kwargs):
    with pytest.raises(InputError, match=match) as caught:
        make_splits(*args, **kwargs)
    assert "\n" not in str(caught.value)


def test_by_source_refused():
    labels = [0, 1] * 3
    six = ["train", "train", "val", "val", "test", "test"]
    refused(
        "patient p is in both train and test, use split.by=held_out",
        data(labels, "pqrspt", six),
        rule("source"),
        0,
    )
    refused("s0: split 'training'", data(labels, [""] * 6, ["training"] * 6), rule("source"), 0)
    refused(
        "test split is empty.*column split",
        data(labels, [""] * 6, ["train", "val"] * 3),
        rule("source"),
        0,
    )


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


def test_semiseg100(tmp_path):
    """Real slices that are all infected and of unknown patients: a segmenter can be trained on them
    by slice.
    """
    path = REAL / "semiseg100"
    if not path.is_dir():
        pytest.skip(f"{path} absent; set COVJAX_TEST_DATA to run this on real slices")
    d = prepare(real(path, tmp_path, "patient"))
    splits = make_splits(d, rule("slice"), 0, needs=("infected",))
    assert [len(splits[p]) for p in SPLITS] == [32, 8, 10] and d.has_mask.all()
    blocks = [make_splits(d, rule("block", folds=5, fold=k), 0, ("infected",)) for k in range(5)]
    assert [len(splits["test"]) for splits in blocks] == [10] * 5
    assert sum((splits["test"] for splits in blocks), []) == sorted(d.ids)
    refused("no slice is healthy", d, rule("slice"), 0)
    refused("patient unknown", d, rule(), 0, needs=("infected",))


def test_what_the_source_holds_out_is_only_tested_on():
    names = [f"p{i // 3}" for i in range(60)]
    # patient p0 is on both sides
    splits = ["val" if i >= 45 or i == 0 else "train" for i in range(60)]
    d = data([i // 3 % 2 for i in range(60)], names, splits)
    found = make_splits(d, rule("held_out", (0.6, 0.2, 0.2)), 0)
    assert found["test"] == ["s0", *(f"s{i}" for i in range(45, 60))] and found["left_out"] == [
        "s1",
        "s2",
    ]
    assert sorted(found["train"] + found["val"]) == sorted(f"s{i}" for i in range(3, 45))
    groups = [set(found["patients"][split]) for split in SPLITS]
    assert not any(groups[a] & groups[b] for a, b in ((0, 1), (0, 2), (1, 2)))
    assert 6 <= len(found["val"]) <= 15  # a quarter of 42, in whole patients
    again = make_splits(d, rule("held_out", (0.6, 0.2, 0.2)), 1)
    assert again["test"] == found["test"] and again["val"] != found["val"]


def test_nothing_is_held_out_where_the_source_does_not_say_so():
    refused("found nothing; use split.by=patient", data([0, 1] * 3, "aabbcc"), rule("held_out"), 0)
    other = ["train", "train", "val", "val", "testing", "testing"]
    refused("found testing, train, val", data([0, 1] * 3, "aabbcc", other), rule("held_out"), 0)
    two = ["train"] * 3 + ["test"] * 3
    refused("fewer than 2 patients", data([0, 1] * 3, "aabbcc", two), rule("held_out"), 0)
    refused("set folds to 0", data([0, 1] * 3, "aabbcc", two), rule("held_out", folds=2), 0)


PUBLISHED = st.lists(
    st.tuples(
        st.sampled_from(["", "a", "b", "c", "d"]), st.sampled_from(SPLITS), st.sampled_from([0, 1])
    ),
    min_size=12,
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(PUBLISHED, st.sampled_from(["source", "held_out"]), st.booleans())
def test_published_splits_are_offered_as_they_are(slices, by, known):
    """With patients known or not: train and val may share one, which is refused only where test
    does.
    """
    names, published, labels = ([row[k] for row in slices] for k in range(3))
    d = data(labels, names if known else [""] * len(slices), published)
    tested = {
        patient for patient, split in zip(d.patients, published, strict=True) if split == "test"
    } - {""}
    leaks = {p for p, split in zip(d.patients, published, strict=True) if split != "test"} & tested
    kept = [i for i in range(len(d)) if published[i] == "test" or d.patients[i] not in tested]
    want = kept if by == "held_out" else range(len(d))
    assume(all({labels[i] for i in want if published[i] == split} == {0, 1} for split in SPLITS))
    if by == "source" and leaks:
        refused(
            f"patient ({'|'.join(leaks)}) is in both .* and test, use split.by=held_out",
            d,
            rule(by),
            0,
        )
        return
    found = make_splits(d, rule(by), 0)
    assert {split: found[split] for split in SPLITS} == {
        split: [d.ids[i] for i in want if published[i] == split] for split in SPLITS
    }
    assert found.get("left_out", []) == [d.ids[i] for i in range(len(d)) if i not in want]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(["", "a", "b", "c", "d", "e"]), min_size=22, max_size=52),
    st.sampled_from(SPLITS[1:]),
)
def test_what_is_held_out_needs_no_patients(names, word):
    names = [""] * 8 + names  # enough of each class to divide
    count = len(names)
    published = ["train" if i < count - 10 else word for i in range(count)]
    d = data([i % 2 for i in range(count)], names, published)
    tested = {*names[-10:]} - {""}
    rest = {i for i in range(count - 10) if names[i] not in tested}
    found = make_splits(d, rule("held_out"), 0)
    assert found["test"] == list(d.ids[-10:])
    assert sorted(found["train"] + found["val"]) == sorted(d.ids[i] for i in rest)
    assert not set(found["patients"]["train"]) & set(found["patients"]["val"])


def test_the_remedies_for_a_published_split_work():
    labels = [0, 1] * 8
    leaking = ["train"] * 6 + ["val"] * 4 + ["test"] * 6
    d = data(labels, ["p", *"aabbcccddeeeee", "p"], leaking)
    refused("patient p is in both train and test, use split.by=held_out", d, rule("source"), 0)
    found = make_splits(d, rule("held_out"), 0)
    assert found["left_out"] == ["s0"] and found["val"] == list(d.ids[6:10])
    two = data(labels, [""] * 16, ["train" if split == "train" else "val" for split in leaking])
    refused("the test split is empty, use split.by=held_out", two, rule("source"), 0)
    assert make_splits(two, rule("held_out"), 0)["test"] == list(d.ids[6:])


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(["", "training", "3"]),
    st.sampled_from(["source", "held_out"]),
    st.booleans(),
    st.booleans(),
)
def test_the_rule_named_for_other_words_divides_these_slices(word, by, known, folds):
    d = data([0, 1] * 12, [f"p{i // 3}" if known else "" for i in range(24)], [word] * 24)
    wanted = rule(by, folds=2 if folds and by == "source" else 0)
    with pytest.raises(InputError) as error:
        make_splits(d, wanted, 0)
    (named,) = re.findall(r"split\.by=(\w+)", str(error.value))
    make_splits(d, rule(named, folds=wanted.folds), 0)


def test_covid_ct_holds_out_its_published_validation_split(tmp_path):
    path = REAL / "covid_ct"
    if not path.is_dir():
        pytest.skip(f"{path} absent; set COVJAX_TEST_DATA to run this on real slices")
    d = prepare(real(path, tmp_path, "source_group"))
    splits = make_splits(d, rule("held_out", (0.68, 0.17, 0.15)), 0)
    assert splits["slices"]["test"] == {"healthy": 58, "infected": 60}
    left_out = {
        dict(zip(d.ids, d.patients, strict=True))[slice_id] for slice_id in splits["left_out"]
    }
    assert left_out == {"2020.03.13.20035212", "33"} and len(splits["left_out"]) == 4


def all_folds(d, by, folds, seed, needs=("healthy", "infected")):
    return [make_splits(d, rule(by, folds=folds, fold=k), seed, needs) for k in range(folds)]


@settings(max_examples=3, deadline=None)
@given(
    st.lists(st.integers(2, 40), min_size=6, max_size=12),
    st.integers(2, 6),
    st.integers(0, 2**32 - 1),
)
@pytest.mark.parametrize("by", ["patient", "slice"])
def test_folds_test_every_slice_once(by, sizes, folds, seed):
    d = patients(sizes, [0.5] * len(sizes))
    found = all_folds(d, by, folds, seed)
    assert sorted(sum((splits["test"] for splits in found), [])) == sorted(d.ids)
    for k, splits in enumerate(found):
        check(splits, d, by)
        assert (splits["folds"], splits["fold"]) == (folds, k)
    assert found[1] == make_splits(d, rule(by, folds=folds, fold=1), seed)


def test_blocks_by_hand():
    # In the order of their numbers: 1 2 3 .. 10, not 1 10 2 ..
    d = data([1] * 10, [""] * 10)
    shuffled = [7, 2, 10, 1, 5, 3, 9, 4, 8, 6]
    d = replace(d, ids=tuple(f"a{i}b" for i in shuffled))
    one = lambda **fields: make_splits(d, rule("block", **fields), 0, ("infected",))  # noqa: E731
    number = lambda ids: sorted(int(i[1:-1]) for i in ids)  # noqa: E731
    splits = one()
    assert [number(splits[p]) for p in SPLITS] == [[1, 2, 3, 4, 5, 6], [7, 8], [9, 10]]
    splits = one(folds=5, fold=4, shares=(0.5, 0.25, 0.25))
    assert [number(splits[p]) for p in SPLITS] == [[4, 5, 6, 7, 8], [1, 2, 3], [9, 10]]
    assert one(folds=5, fold=1) == make_splits(d, rule("block", folds=5, fold=1), 0, ("infected",))


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 60), st.integers(2, 12), st.floats(0.05, 0.9))
def test_blocks_are_contiguous_and_test_every_slice_once(count, folds, val):
    assume(folds <= count and (folds > 2 or count > 3))
    d = replace(data([1] * count, [""] * count), ids=tuple(f"s{i}" for i in range(count)))
    shares = (0.95 - val, val, 0.05)
    found = [
        make_splits(d, rule("block", shares, folds, k), k, ("infected",)) for k in range(folds)
    ]
    assert sum((splits["test"] for splits in found), []) == list(d.ids)
    for splits in found:
        assert sorted(sum((splits[p] for p in SPLITS), [])) == sorted(d.ids)
        split = [next(p for p in SPLITS if i in splits[p]) for i in d.ids]
        assert sum(a != b for a, b in zip(split, split[1:] + split[:1], strict=True)) == 3


def test_blocks_refused():
    d = patients([10] * 5, [0.5] * 5)
    refused("patient p[34] is in both", d, rule("block"), 0)
    refused(
        "split.folds: 6 cannot be made of 5 slices",
        data([1] * 5, [""] * 5),
        rule("block", folds=6),
        0,
        ("infected",),
    )
    refused(
        "train split is empty", data([1] * 2, [""] * 2), rule("block", folds=2), 0, ("infected",)
    )


def test_folds_are_stratified_and_val_is_its_share_of_the_rest():
    d = patients([30] * 30, [0.2, 0.8] * 15)
    for splits in all_folds(d, "patient", 5, 0):
        counts = {p: sum(splits["slices"][p].values()) for p in SPLITS}
        assert abs(counts["test"] - 180) <= 60
        assert abs(splits["slices"]["test"]["infected"] / counts["test"] - 0.5) < 0.1
        assert abs(counts["val"] / (counts["val"] + counts["train"]) - 0.2) < 0.03
    one = rule(folds=5)
    assert make_splits(d, one, 0)["test"] != make_splits(d, one, 1)["test"]


def test_leave_one_patient_out():
    """Also a patient of one class only, who has to be tested like the others."""
    d = patients([457, 93, 66, 45, 45, 42, 42, 39], [0.37, 0.6, 0.5, 0.4, 0.7, 1.0, 0.0, 0.3])
    found = all_folds(d, "patient", 8, 0)
    assert sorted(p for splits in found for p in splits["patients"]["test"]) == sorted(
        set(d.patients)
    )
    assert all(len(splits["patients"]["test"]) == 1 for splits in found)
    assert {0} in [{splits["slices"]["test"][k] for k in ("healthy",)} for splits in found]
    for splits in found:
        assert all(
            splits["slices"][p][k] for p in ("train", "val") for k in ("healthy", "infected")
        )


def test_folds_of_the_source():
    column = ["0", "1", "2", "0", "1", "2"] * 4
    d = data([0, 1] * 12, np.repeat(["a", "b", "c", "d"], 6), column)
    refused("s0: split '0' in index.csv, use train, val or test", d, rule("source"), 0)
    refused("s2: split '2' in index.csv, with 2 folds use 0 to 1", d, rule("source", folds=2), 0)
    refused("patient a is in both", d, rule("source", folds=3), 0)
    unnamed = data(d.labels, [""] * 24, column)
    for k, splits in enumerate(all_folds(unnamed, "source", 3, 0)):
        assert splits["test"] == [f"s{i}" for i in range(24) if column[i] == str(k)]
        check(splits, unnamed, "slice")
    many = data([0, 1] * 12, [f"p{i // 2}" for i in range(24)], [str(i // 8) for i in range(24)])
    for splits in all_folds(many, "source", 3, 0):
        check(splits, many)
    two = data([0, 1] * 12, ["p"] * 12 + ["q"] * 12, ["0"] * 12 + ["1"] * 12)
    refused("fold 1 leaves nothing to divide", two, rule("source", folds=2, fold=1), 0)


def test_folds_refused():
    d = patients([10] * 5, [0.5] * 5)
    refused("split.folds: 1 must be 0", d, rule(folds=1), 0)
    refused("split.folds: -2 must be 0", d, rule(folds=-2), 0)
    refused("split.fold: 3 must be 0 to 2", d, rule(folds=3, fold=3), 0)
    refused("split.fold: 1 is for cross-validation", d, rule(fold=1), 0)
    refused("split.folds: 6 cannot be made of 5 patients", d, rule(folds=6), 0)
    refused(
        "split.folds: 2 cannot be made of 3 patients",
        patients([10] * 3, [0.5] * 3),
        rule(folds=2),
        0,
    )
    refused(
        "the val split has no healthy slice",
        patients([10] * 4, [1, 1, 1, 0]),
        rule(folds=4, fold=0),
        0,
    )


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


def test_as_many_folds_as_patients_leave_one_out():
    d = data([0, 1] * 9, [f"p{i // 3}" for i in range(18)])
    tested = [make_splits(d, rule(folds=6, fold=k), 0)["patients"]["test"] for k in range(6)]
    assert sorted(sum(tested, [])) == [f"p{k}" for k in range(6)] and all(
        len(one) == 1 for one in tested
    )
