"""What slices of one split say of those of another: patients and pictures that are in both."""

from collections import Counter

import numpy as np

from covjax.audit.finding import EXAMPLES, Finding, finding
from covjax.audit.measure import Measured
from covjax.audit.similar import correlation_inside, looks, nearest

ALIKE = 0.95  # correlation above which two slices are near-duplicates


def patients_across(m: Measured, split: np.ndarray) -> Finding:
    """Patients whose slices are in several splits."""
    where: dict[str, Counter[str]] = {}
    for patient, name in zip(m.patients, split.tolist(), strict=True):
        if patient and name:
            where.setdefault(patient, Counter())[name] += 1
    shared = sorted((p for p in where if len(where[p]) > 1), key=lambda p: (-where[p].total(), p))
    rows = [
        (p, ", ".join(f"{n} in {name}" for name, n in sorted(where[p].items()))) for p in shared
    ]
    tested = any("test" in where[p] for p in shared)
    text = (
        "Slices of these patients are in several splits: what is tested was partly seen in "
        "training. Split by patient."
        if tested
        else "Slices of these patients are in train and in val, which chooses the epoch: scores of "
        "val are optimistic."
    )
    severity = "serious" if tested else "note"
    title = "Patients in several splits"
    return finding(m, "patients_across_splits", title, severity, len(where), text, rows)


def near_duplicates(m: Measured, split: np.ndarray) -> Finding:
    """Slices of test with a near-duplicate in train or val, and of val with one in train.

    Without a split: slices with a near-duplicate anywhere.
    """
    divided = np.unique(split).size > 1
    correlation, twin = _across(m, split) if divided else nearest(looks(m.thumbnails))
    alike = [
        i for i in np.flatnonzero(correlation > ALIKE).tolist() if _inside(m, i, twin[i]) > ALIKE
    ]
    alike.sort(key=lambda i: -correlation[i])
    rows = [(i, f"correlates {correlation[i]:.3f} with {m.ids[twin[i]]}") for i in alike]
    # Shown from the most alike to the least: the first alone would all be exact copies.
    spread = np.linspace(0, len(alike) - 1, min(EXAMPLES, len(alike))).astype(int)
    examples = [(alike[k], int(twin[alike[k]])) for k in spread]
    if not divided:
        text = (
            f"Slices that correlate above {ALIKE} with another one. Wherever a split separates "
            "them, it leaks."
        )
        title = "Near-duplicate slices"
        return finding(m, "near_duplicates", title, "note", len(m), text, rows, examples)
    shares = ", ".join(
        f"{np.isin(np.flatnonzero(split == name), alike).mean():.0%} of the {name} split"
        for name in ("val", "test")
        if (split == name).any()
    )
    text = (
        f"Slices that correlate above {ALIKE} with one of an earlier split ({shares}): scores on "
        "them measure memory. Neighbouring slices of one patient look like this; split by patient."
    )
    title = "Near-duplicate slices across splits"
    of = int(np.isin(split, ("val", "test")).sum())
    return finding(m, "near_duplicates_across_splits", title, "serious", of, text, rows, examples)


def _across(m: Measured, split: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every slice its highest correlation with one of an earlier split, and which that is."""
    rows = looks(m.thumbnails)
    correlation = np.full(len(m), -1.0)
    twin = np.full(len(m), -1)
    for name, before in (("val", ("train",)), ("test", ("train", "val"))):
        here = np.flatnonzero(split == name)
        there = np.flatnonzero(np.isin(split, before))
        if len(here) and len(there):
            correlation[here], index = nearest(rows[here], rows[there])
            twin[here] = there[index]
    return correlation, twin


def _inside(m: Measured, i: int, k: int) -> float:
    """Correlation of two slices inside their flat borders, which would make any two alike."""
    pair = [i, k]
    return correlation_inside(m.thumbnails[pair], m.inner[pair] / np.tile(m.size[pair], 2))


def exact_duplicates(m: Measured, split: np.ndarray) -> Finding:
    """Slices with the very pixels of another one."""
    first: dict[str, int] = {}
    for i, digest in enumerate(m.picture):
        first.setdefault(digest, i)
    copies = [(i, first[digest]) for i, digest in enumerate(m.picture) if first[digest] != i]
    fields = {"label": m.labels, "mask": m.mask, "patient": m.patients, "split": split}
    others = {
        i: " and ".join(name for name, values in fields.items() if values[i] != values[k])
        for i, k in copies
    }
    copies.sort(key=lambda pair: not others[pair[0]])
    rows = [
        (
            m.ids[i],
            f"same pixels as {m.ids[k]}" + (f", but another {others[i]}" if others[i] else ""),
        )
        for i, k in copies
    ]
    serious = any(others.values())
    text = "Slices with exactly the same pixels as an earlier one" + (
        ", some of them with another label, mask, patient or split."
        if serious
        else "; they count twice."
    )
    severity = "serious" if serious else "note"
    title = "Exact duplicates"
    return finding(m, "exact_duplicates", title, severity, len(m), text, rows, copies)
