"""What a source comes with is kept, or held out, and never leaks."""

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from covjax.data.prepared.dataset import prepare
from covjax.data.splits.splits import SPLITS, make_splits
from covjax.errors import InputError
from tests.data.splits.made import check, data, real, refused, rule
from tests.places import REAL


def test_by_source():
    d = data(
        [0, 1] * 3, ["a", "a", "b", "b", "c", "c"], ["test", "test", "train", "train", "val", "val"]
    )
    splits = make_splits(d, rule("source"), 0)
    assert splits["train"] == ["s2", "s3"] and splits["test"] == ["s0", "s1"]
    check(splits, d)
    unknown_patients = data(d.labels, [""] * 6, d.splits)
    assert make_splits(unknown_patients, rule("source"), 0)["val"] == ["s4", "s5"]


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
