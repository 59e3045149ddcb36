"""Everything that an audit looks for, as pure functions of what was measured and of the split."""

from collections import Counter

import numpy as np

from covjax.audit.finding import Check, Finding, Rows, finding
from covjax.audit.leaks import exact_duplicates, near_duplicates, patients_across
from covjax.audit.measure import Measured

# share of a slice's infected pixels on the flat border from which on they are no lesion
IN_MARGIN = 0.05
FULL = 0.95  # share of a slice labelled infected
MINORITY = 0.25  # share of slices below which a class is rare
DOMINANT = 0.3  # share of slices from which on one patient dominates
SIZE_FACTOR = 1.5  # times the median height or width, or less than its inverse
OUTLIER = 6  # robust standard deviations of mean or contrast
BLANK = 2  # grey levels of standard deviation below which a picture shows nothing


def find(m: Measured, split: np.ndarray) -> list[Finding]:
    """Looks for everything, serious findings first.

    `split` [M] holds "train", "val", "test", or "" without a split.
    """
    found = [check(m, split) for check in CHECKS]
    return sorted(found, key=lambda one: ("serious", "note", "ok").index(one.severity))


def _margin_labels(m: Measured, split: np.ndarray) -> Finding:
    labelled = m.infected > 0
    share = np.where(labelled, m.infected_on_flat / np.maximum(m.infected, 1), 0)
    chosen = _worst_first(share, share >= IN_MARGIN)
    text = ""
    if chosen:
        inside = m.infected_in_border[labelled].sum() / m.infected[labelled].sum()
        infected, background = blind_iou(m)
        top, left, bottom, right = np.median(m.inner[chosen], axis=0).astype(int)
        text = (
            f"The pictures have a flat border of one grey (inside it are rows {top} to "
            f"{bottom - 1} and columns {left} to {right - 1}), and {inside:.1%} of all pixels "
            "labelled infected lie in it. A predictor that calls this border infected and the rest "
            f"background, without looking at a slice, scores IoU {infected:.1%} / "
            f"{background:.1%} (infected / background) on the labelled slices. Cut the border off, "
            "or label it 255 (ignore)."
        )
    rows = [(i, f"{share[i]:.1%} of its infected pixels lie on the flat border") for i in chosen]
    title = "Labels in a constant image border"
    return finding(m, "margin_labels", title, "serious", int(labelled.sum()), text, rows)


def blind_iou(m: Measured) -> tuple[float, float]:
    """IoU of infected and of background over labelled slices when the border is called infected."""
    some = m.infected > 0
    border, infected, both, pixels = (
        int(x[some].sum()) for x in (m.pixels_in_border, m.infected, m.infected_in_border, m.pixels)
    )
    either = border + infected - both
    return both / max(either, 1), (pixels - either) / max(pixels - both, 1)


def _label_imbalance(m: Measured, split: np.ndarray) -> Finding:
    counts = {"healthy": _healthy(m), "infected": _infected(m)}
    rare, common = sorted(counts, key=counts.__getitem__)
    if counts[rare] >= MINORITY * len(m):
        return Finding("label_imbalance", "Label imbalance", "ok", 0, len(m), "")
    text = (
        f"{counts[common]:,} of {len(m):,} slices are {common}: accuracy says little, sensitivity "
        "and MCC say more."
        if counts[rare]
        else f"No slice is {rare}: a classifier cannot be trained."
    )
    rows = [(name, f"{counts[name]:,} of {len(m):,} slices") for name in (rare, common)]
    return Finding("label_imbalance", "Label imbalance", "note", counts[common], len(m), text, rows)


def _size_outliers(m: Measured, split: np.ndarray) -> Finding:
    height, width = np.median(m.size, axis=0)
    ratio = np.abs(np.log(m.size / (height, width))).max(1)
    chosen = _worst_first(ratio, ratio > np.log(SIZE_FACTOR) + 1e-9)
    text = (
        f"Height or width differs from the median ({height:.0f} x {width:.0f}) by more than a "
        f"factor of {SIZE_FACTOR}: brought to one size, these slices look unlike the others."
    )
    rows = [(i, f"{m.size[i, 0]} x {m.size[i, 1]} pixels") for i in chosen]
    return finding(m, "size_outliers", "Unusual sizes", "note", len(m), text, rows)


def _intensity_outliers(m: Measured) -> Rows:
    values = np.stack([m.mean, m.std], 1)
    middle = np.median(values, axis=0)
    # 1.4826 makes the median deviation a standard deviation for a normal distribution; 1 is a grey
    # level.
    spread = np.maximum(1.4826 * np.median(np.abs(values - middle), axis=0), 1)
    deviation = np.abs((values - middle) / spread).max(1)
    chosen = _worst_first(deviation, (deviation > OUTLIER) | (m.std < BLANK))
    return [
        (i, f"mean {m.mean[i]:.0f}, standard deviation {m.std[i]:.0f} grey levels") for i in chosen
    ]


def _dominant_patients(m: Measured) -> Rows:
    slices = Counter(p for p in m.patients if p)
    total = slices.total()
    large = [(p, n) for p, n in slices.most_common() if n >= DOMINANT * total]
    return [(p, f"{n:,} of {total:,} slices") for p, n in large if len(slices) > 3]


def _full_masks(m: Measured) -> Rows:
    share = m.infected / np.maximum(m.pixels, 1)
    return [(i, f"{share[i]:.1%} infected") for i in _where(share > FULL)]


def _empty_masks(m: Measured) -> Rows:
    return [(i, "infected, empty mask") for i in _where((m.labels == 1) & (m.infected == 0))]


def _healthy_with_mask(m: Measured) -> Rows:
    chosen = _where((m.labels == 0) & (m.infected > 0))
    return [(i, f"healthy, {m.infected[i]} pixels infected") for i in chosen]


def _no_masks(m: Measured) -> Rows:
    return [(i, "no mask") for i in _where((m.labels == 1) & (m.infected < 0))]


def _unknown_patients(m: Measured) -> Rows:
    return [(i, "patient unknown") for i, p in zip(m.ids, m.patients, strict=True) if not p]


def _notes(m: Measured) -> Rows:
    return [(i, "; ".join(m.notes[i])) for i in sorted(m.notes, key=lambda i: (m.notes[i], i))]


def _healthy(m: Measured) -> int:
    return int((m.labels == 0).sum())


def _infected(m: Measured) -> int:
    return int((m.labels == 1).sum())


def _where(chosen: np.ndarray) -> list[int]:
    return np.flatnonzero(chosen).tolist()


def _worst_first(badness: np.ndarray, chosen: np.ndarray) -> list[int]:
    """Positions of the slices `chosen`, bool [M], by falling badness [M]."""
    order = np.argsort(-badness, kind="stable")
    return order[chosen[order]].tolist()


CHECKS = (
    Check(
        "unreadable",
        "Slices that cannot be read",
        "serious",
        "These slices cannot be read and were left out of everything below; training would refuse "
        "the data set.",
        lambda m: m.unreadable,
        lambda m: len(m) + len(m.unreadable),
    ),
    _margin_labels,
    patients_across,
    near_duplicates,
    exact_duplicates,
    Check(
        "empty_masks",
        "Infected slices with an empty mask",
        "serious",
        "Labelled infected, but no pixel of the mask is: either the label or the mask is wrong.",
        _empty_masks,
        _infected,
    ),
    Check(
        "healthy_with_mask",
        "Healthy slices with a mask",
        "serious",
        "Labelled healthy, but the mask marks infection: either the label or the mask is wrong. "
        "Training refuses these.",
        _healthy_with_mask,
        _healthy,
    ),
    Check(
        "full_masks",
        "Full masks",
        "serious",
        f"More than {FULL:.0%} of the picture is labelled infected; no lesion fills a slice with "
        "the chest around it.",
        _full_masks,
        lambda m: int((m.infected >= 0).sum()),
    ),
    Check(
        "no_masks",
        "Infected slices without a mask",
        "note",
        "Infected slices without a mask: enough to train a classifier, but no segmenter.",
        _no_masks,
        _infected,
    ),
    _label_imbalance,
    Check(
        "dominant_patients",
        "Patients with a large share of the slices",
        "note",
        "A single patient gives a large share of all slices: scores over slices are mostly about "
        "this patient.",
        _dominant_patients,
        lambda m: len(set(m.patients) - {""}),
    ),
    Check(
        "unknown_patients",
        "Slices of unknown patients",
        "note",
        "Slices of unknown patients cannot be kept apart by patient. Add a column patient to "
        "index.csv.",
        _unknown_patients,
    ),
    _size_outliers,
    Check(
        "intensity_outliers",
        "Unusual intensities",
        "note",
        f"Mean grey level or contrast lies more than {OUTLIER} robust standard deviations from the "
        "median, or the picture is blank: another window, an inverted or damaged picture, or no "
        "chest CT.",
        _intensity_outliers,
    ),
    Check(
        "notes",
        "Slices with notes",
        "note",
        "What was uncertain when these slices were read. Results show it too, as notes.",
        _notes,
    ),
    Check(
        "left_out",
        "Files left out",
        "note",
        "What lies in the folder of the data and is not read. Slices and masks among it are "
        "missing everywhere.",
        lambda m: m.left_out,
        lambda m: len(m.left_out),
    ),
)
