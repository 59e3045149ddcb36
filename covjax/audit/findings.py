"""What an audit finds, as pure functions of what was measured and of who is in which part."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from covjax.audit.measure import Measured
from covjax.audit.similar import correlation_inside, looks, nearest

ALIKE = 0.95  # correlation above which two slices are near-duplicates
# share of a slice's infected pixels on the flat border from which on they are no lesion
IN_MARGIN = 0.05
FULL = 0.95  # share of a slice labelled infected
MINORITY = 0.25  # share of slices below which a class is rare
DOMINANT = 0.3  # share of slices from which on one patient dominates
SIZE_FACTOR = 1.5  # times the median height or width, or less than its inverse
OUTLIER = 6  # robust standard deviations of mean or contrast
BLANK = 2  # grey levels of standard deviation below which a picture shows nothing
EXAMPLES = 3  # pictures shown per finding

Example = tuple[int, int]  # positions of a slice and of the one it is compared with, -1 if none


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for. `severity` is serious, note, or ok when nothing was found.

    `rows` names who is concerned: (id of a slice, or a patient, and what is the matter with it),
    worst first.
    """

    name: str
    title: str
    severity: str
    count: int
    of: int
    text: str
    rows: Sequence[tuple[str, str]] = ()
    examples: Sequence[Example] = ()


def find(m: Measured, parts: np.ndarray) -> list[Finding]:
    """Looks for everything, serious findings first. `parts` [M] holds "train", "val", "test", or ""
    without a split.
    """
    found = [check(m, parts) for check in CHECKS]
    order = {"serious": 0, "note": 1, "ok": 2}
    return sorted(found, key=lambda finding: order[finding.severity])


def _finding(
    name: str, title: str, severity: str, of: int, text: str, rows: Sequence[tuple[str, str]],
    examples: Sequence[Example] = (), count: int | None = None,
) -> Finding:  # fmt: skip
    count = len(rows) if count is None else count
    if not count:
        return Finding(name, title, "ok", 0, of, "")
    return Finding(name, title, severity, count, of, text, rows, list(examples)[:EXAMPLES])


def _of_slices(
    m: Measured, name: str, title: str, severity: str, chosen: np.ndarray, text: str,
    detail: Callable[[int], str], of: int | None = None,
) -> Finding:  # fmt: skip
    """A finding about the slices at positions `chosen`, worst first."""
    rows = [(m.ids[i], detail(i)) for i in chosen]
    return _finding(
        name,
        title,
        severity,
        len(m) if of is None else of,
        text,
        rows,
        [(int(i), -1) for i in chosen],
    )


def _unreadable(m: Measured, parts: np.ndarray) -> Finding:
    text = "These slices cannot be read and were left out of everything below; training would refuse the data set."
    return _finding(
        "unreadable",
        "Slices that cannot be read",
        "serious",
        len(m) + len(m.unreadable),
        text,
        m.unreadable,
    )


def _left_out(m: Measured, parts: np.ndarray) -> Finding:
    text = "What lies in the folder of the data and is not read. Slices and masks among it are missing everywhere."
    return _finding("left_out", "Files left out", "note", len(m.left_out), text, m.left_out)


def _margin(m: Measured, parts: np.ndarray) -> Finding:
    labelled = m.infected > 0
    share = np.divide(m.infected_on_flat, m.infected, out=np.zeros(len(m)), where=labelled)
    chosen = np.flatnonzero(share >= IN_MARGIN)
    chosen = chosen[np.argsort(-share[chosen], kind="stable")]
    text = ""
    if len(chosen):
        inside = m.infected_in_border[labelled].sum()
        total = m.infected[labelled].sum()
        infected, background = blind_iou(m)
        top, left, bottom, right = np.median(m.inner[chosen], axis=0).astype(int)
        text = (
            f"The pictures have a flat border of one grey (inside it are rows {top} to {bottom - 1} and columns {left} "
            f"to {right - 1}), and {inside / total:.1%} of all pixels labelled infected lie in it. A predictor that "
            "calls this border infected and the rest background, without looking at a slice, scores IoU "
            f"{infected:.1%} / {background:.1%} (infected / background) on the labelled slices. Cut the border off, or "
            "label it 255 (ignore)."
        )
    detail = lambda i: f"{share[i]:.1%} of its infected pixels lie on the flat border"  # noqa: E731
    title = "Labels in a constant image border"
    return _of_slices(
        m, "margin_labels", title, "serious", chosen, text, detail, int(labelled.sum())
    )


def blind_iou(m: Measured) -> tuple[float, float]:
    """IoU of the infected and of the background class when the border is called infected, over
    labelled slices.
    """
    some = m.infected > 0
    border, infected, both, pixels = (
        int(x[some].sum()) for x in (m.pixels_in_border, m.infected, m.infected_in_border, m.pixels)
    )
    either = border + infected - both
    return both / max(either, 1), (pixels - either) / max(pixels - both, 1)


def _patients_across(m: Measured, parts: np.ndarray) -> Finding:
    where: dict[str, Counter] = {}
    for patient, part in zip(m.patients, parts, strict=True):
        if patient and part:
            where.setdefault(patient, Counter())[part] += 1
    shared = sorted((p for p in where if len(where[p]) > 1), key=lambda p: (-where[p].total(), p))
    rows = [
        (p, ", ".join(f"{n} in {part}" for part, n in sorted(where[p].items()))) for p in shared
    ]
    tested = any("test" in where[p] for p in shared)
    text = (
        "Slices of these patients are in several parts: what is tested was partly seen in training. Split by patient."
        if tested
        else "Slices of these patients are in train and in val, which chooses the epoch: scores of val are optimistic."
    )
    severity = "serious" if tested else "note"
    return _finding(
        "patients_across_parts", "Patients in several parts", severity, len(where), text, rows
    )


def _near_duplicates(m: Measured, parts: np.ndarray) -> Finding:
    """Slices of the test part with a near-duplicate in train or val, and of val with one in
    train.
    """
    rows = looks(m.thumbnails)
    split = np.unique(parts).size > 1
    correlation = np.full(len(m), -1.0)
    twin = np.full(len(m), -1)
    name = "near_duplicates_across_parts"
    title = "Near-duplicate slices across parts"
    if not split:
        name = "near_duplicates"
        title = "Near-duplicate slices"
        correlation, twin = nearest(rows)
    for part, before in (("val", ("train",)), ("test", ("train", "val"))):
        here = np.flatnonzero(parts == part)
        there = np.flatnonzero(np.isin(parts, before))
        if len(here) and len(there):
            correlation[here], index = nearest(rows[here], rows[there])
            twin[here] = there[index]
    chosen = np.array(
        [i for i in np.flatnonzero(correlation > ALIKE) if _inside(m, i, twin[i]) > ALIKE], int
    )
    chosen = chosen[np.argsort(-correlation[chosen], kind="stable")]
    if split:
        shares = (
            f"{np.isin(np.flatnonzero(parts == p), chosen).mean():.0%} of the {p} part"
            for p in ("val", "test")
            if (parts == p).any()
        )
        text = (
            f"Slices that correlate above {ALIKE} with one of an earlier part ({', '.join(shares)}): scores on them "
            "measure memory. Neighbouring slices of one patient look like this; split by patient."
        )
    else:
        text = f"Slices that correlate above {ALIKE} with another one. Wherever a split separates them, it leaks."
    found = [(m.ids[i], f"correlates {correlation[i]:.3f} with {m.ids[twin[i]]}") for i in chosen]
    of = int(np.isin(parts, ("val", "test")).sum()) if split else len(m)
    # Shown from the most alike to the least: the first alone would all be exact copies.
    spread = (
        chosen[np.linspace(0, len(chosen) - 1, EXAMPLES).astype(int)]
        if len(chosen) > EXAMPLES
        else chosen
    )
    examples = [(int(i), int(twin[i])) for i in spread]
    return _finding(name, title, "serious" if split else "note", of, text, found, examples)


def _inside(m: Measured, i: int, k: int) -> float:
    """Correlation of two slices inside their flat borders, which would make any two figures
    alike.
    """
    pair = [i, k]
    return correlation_inside(m.thumbnails[pair], m.inner[pair] / np.tile(m.size[pair], 2))


def _exact_duplicates(m: Measured, parts: np.ndarray) -> Finding:
    first: dict[str, int] = {}
    copies = [
        (i, k) for i, digest in enumerate(m.picture) if (k := first.setdefault(digest, i)) != i
    ]
    differences = {i: _differences(m, parts, i, k) for i, k in copies}
    copies.sort(key=lambda pair: not differences[pair[0]])
    rows = [(m.ids[i], f"same pixels as {m.ids[k]}{differences[i]}") for i, k in copies]
    serious = any(differences.values())
    text = "Slices with exactly the same pixels as an earlier one"
    text += (
        ", some of them with another label, mask, patient or part."
        if serious
        else "; they count twice."
    )
    return _finding(
        "exact_duplicates",
        "Exact duplicates",
        "serious" if serious else "note",
        len(m),
        text,
        rows,
        copies,
    )


def _differences(m: Measured, parts: np.ndarray, i: int, k: int) -> str:
    fields = {"label": m.labels, "mask": m.mask, "patient": m.patients, "part": parts}
    other = [name for name, values in fields.items() if values[i] != values[k]]
    return f", but another {' and '.join(other)}" if other else ""


def _empty_masks(m: Measured, parts: np.ndarray) -> Finding:
    text = "Labelled infected, but no pixel of the mask is: either the label or the mask is wrong."
    chosen = np.flatnonzero((m.labels == 1) & (m.infected == 0))
    title = "Infected slices with an empty mask"
    of = int((m.labels == 1).sum())
    return _of_slices(
        m, "empty_masks", title, "serious", chosen, text, lambda i: "infected, empty mask", of
    )


def _healthy_with_mask(m: Measured, parts: np.ndarray) -> Finding:
    text = "Labelled healthy, but the mask marks infection: either the label or the mask is wrong. Training refuses these."
    chosen = np.flatnonzero((m.labels == 0) & (m.infected > 0))
    title = "Healthy slices with a mask"
    of = int((m.labels == 0).sum())
    return _of_slices(
        m,
        "healthy_with_mask",
        title,
        "serious",
        chosen,
        text,
        lambda i: f"healthy, {m.infected[i]} pixels infected",
        of,
    )


def _full_masks(m: Measured, parts: np.ndarray) -> Finding:
    text = f"More than {FULL:.0%} of the picture is labelled infected; no lesion fills a slice with the chest around it."
    share = m.infected / np.maximum(m.pixels, 1)
    chosen = np.flatnonzero(share > FULL)
    of = int((m.infected >= 0).sum())
    return _of_slices(
        m,
        "full_masks",
        "Full masks",
        "serious",
        chosen,
        text,
        lambda i: f"{share[i]:.1%} infected",
        of,
    )


def _no_masks(m: Measured, parts: np.ndarray) -> Finding:
    text = "Infected slices without a mask: enough to train a classifier, but no segmenter."
    chosen = np.flatnonzero((m.labels == 1) & (m.infected < 0))
    of = int((m.labels == 1).sum())
    return _of_slices(
        m,
        "no_masks",
        "Infected slices without a mask",
        "note",
        chosen,
        text,
        lambda i: "no mask",
        of,
    )


def _imbalance(m: Measured, parts: np.ndarray) -> Finding:
    counts = {"healthy": int((m.labels == 0).sum()), "infected": int((m.labels == 1).sum())}
    rare, common = sorted(counts, key=counts.__getitem__)
    rows = [(name, f"{counts[name]:,} of {len(m):,} slices") for name in (rare, common)]
    text = (
        f"{counts[common]:,} of {len(m):,} slices are {common}: accuracy says little, sensitivity and MCC say more."
        if counts[rare]
        else f"No slice is {rare}: a classifier cannot be trained."
    )
    rows = rows if counts[rare] < MINORITY * len(m) else []
    return _finding(
        "label_imbalance",
        "Label imbalance",
        "note",
        len(m),
        text,
        rows,
        count=len(rows) and counts[common],
    )


def _few_patients(m: Measured, parts: np.ndarray) -> Finding:
    slices = Counter(p for p in m.patients if p)
    dominant = (
        [(p, n) for p, n in slices.most_common() if n >= DOMINANT * slices.total()]
        if len(slices) > 3
        else []
    )
    rows = [(p, f"{n:,} of {slices.total():,} slices") for p, n in dominant]
    text = "A single patient gives a large share of all slices: scores over slices are mostly about this patient."
    return _finding(
        "dominant_patients",
        "Patients with a large share of the slices",
        "note",
        len(slices),
        text,
        rows,
    )


def _unknown_patients(m: Measured, parts: np.ndarray) -> Finding:
    text = "Slices of unknown patients cannot be kept apart by patient. Add a column patient to index.csv."
    rows = [(i, "patient unknown") for i, p in zip(m.ids, m.patients, strict=True) if not p]
    return _finding("unknown_patients", "Slices of unknown patients", "note", len(m), text, rows)


def _sizes(m: Measured, parts: np.ndarray) -> Finding:
    ratio = np.abs(np.log(m.size / np.median(m.size, axis=0))).max(1)
    chosen = np.flatnonzero(ratio > np.log(SIZE_FACTOR) + 1e-9)
    chosen = chosen[np.argsort(-ratio[chosen], kind="stable")]
    height, width = np.median(m.size, axis=0)
    text = (
        f"Height or width differs from the median ({height:.0f} x {width:.0f}) by more than a factor of {SIZE_FACTOR}: "
        "brought to one size, these slices look unlike the others."
    )
    detail = lambda i: f"{m.size[i, 0]} x {m.size[i, 1]} pixels"  # noqa: E731
    return _of_slices(m, "size_outliers", "Unusual sizes", "note", chosen, text, detail)


def _intensities(m: Measured, parts: np.ndarray) -> Finding:
    values = np.stack([m.mean, m.std], 1)
    middle = np.median(values, axis=0)
    # 1.4826 makes the median deviation a standard deviation for a normal distribution; 1 is a grey
    # level.
    spread = np.maximum(1.4826 * np.median(np.abs(values - middle), axis=0), 1)
    deviation = np.abs((values - middle) / spread).max(1)
    chosen = np.flatnonzero((deviation > OUTLIER) | (m.std < BLANK))
    chosen = chosen[np.argsort(-deviation[chosen], kind="stable")]
    text = (
        f"Mean grey level or contrast lies more than {OUTLIER} robust standard deviations from the median, or the "
        "picture is blank: another window, an inverted or damaged picture, or no chest CT."
    )
    detail = lambda i: f"mean {m.mean[i]:.0f}, standard deviation {m.std[i]:.0f} grey levels"  # noqa: E731
    return _of_slices(m, "intensity_outliers", "Unusual intensities", "note", chosen, text, detail)


def _notes(m: Measured, parts: np.ndarray) -> Finding:
    text = "What was uncertain when these slices were read. Results show it too, as notes."
    chosen = np.array(sorted(m.notes, key=lambda i: (m.notes[i], i)), int)
    return _of_slices(
        m, "notes", "Slices with notes", "note", chosen, text, lambda i: "; ".join(m.notes[i])
    )


CHECKS = (
    _unreadable, _margin, _patients_across, _near_duplicates, _exact_duplicates, _empty_masks, _healthy_with_mask,
    _full_masks, _no_masks, _imbalance, _few_patients, _unknown_patients, _sizes, _intensities,
    _notes, _left_out,
)  # fmt: skip
