"""What an audit leaves in its folder: audit.json, findings.csv, slices.csv, examples.npz."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import covjax
from covjax.audit.finding import Finding
from covjax.audit.measure import Measured
from covjax.data.sources.source import Slice
from covjax.files import encode_json, write_together
from covjax.locks import held
from covjax.tables import encode_table

LONGEST = 320  # pixels of a side of a stored picture
FIRST = 20  # ids named in audit.json; findings.csv names all


def write_audit(
    folder: Path,
    m: Measured,
    findings: Sequence[Finding],
    split: np.ndarray,
    how: dict[str, Any],
    load: Callable[[str], Slice],
) -> None:
    """Writes the files of an audit; audit.json comes last, so where it is, the others are too.

    Args:
      split: [M], "train", "val", "test" or "" for every slice.
      how: what is said of the split: {"by", "seed"}, or {"problem"} when there is none.
      load: gives the slice of an id, for the pictures.

    Raises InputError if a file cannot be written.
    """
    rows = [(f.name, f.severity, name, detail) for f in findings for name, detail in f.rows]
    files = {
        "findings.csv": encode_table(("finding", "severity", "id", "detail"), rows),
        "slices.csv": encode_table(*_slices(m, split)),
        "examples.npz": _examples(m, findings, load),
    }
    value = {
        "covjax": covjax.__version__, "source": m.source, "slices": len(m), "split": how,
        "patients": len(set(m.patients) - {""}),
        "findings": [
            {"name": f.name, "title": f.title, "severity": f.severity, "count": f.count,
             "of": f.of, "text": f.text, "first": [list(row) for row in f.rows[:FIRST]]}
            for f in findings
        ],
    }  # fmt: skip
    files["audit.json"] = encode_json(value)
    with held(folder):
        write_together({folder / name: content for name, content in files.items()})


def _slices(m: Measured, split: np.ndarray) -> tuple[tuple[str, ...], list[tuple]]:
    columns = {
        "id": m.ids, "patient": m.patients, "split": split, "label": m.labels,
        "height": m.size[:, 0], "width": m.size[:, 1],
        "mean": np.round(m.mean, 3), "std": np.round(m.std, 3),
        "infected_pixels": ["" if n < 0 else n for n in m.infected],
        "infected_pixels_in_border": m.infected_in_border,
        "infected_pixels_on_flat_border": m.infected_on_flat,
        "pixels": m.pixels, "pixels_in_border": m.pixels_in_border,
        "inner_top": m.inner[:, 0], "inner_left": m.inner[:, 1], "inner_bottom": m.inner[:, 2],
        "inner_right": m.inner[:, 3],
    }  # fmt: skip
    return tuple(columns), list(zip(*columns.values(), strict=True))


def _examples(m: Measured, findings: Sequence[Finding], load: Callable[[str], Slice]) -> bytes:
    """Packs the pictures of all findings, and of those that they are compared with: [E, ...]."""
    chosen = [(f.name, i, k) for f in findings for i, k in f.examples]
    details = {(f.name, name): detail for f in findings for name, detail in f.rows}
    slices = {i: load(m.ids[i]) for i in {j for _, i, k in chosen for j in (i, k) if j >= 0}}
    some = {
        i: (_small(s.image), _small(np.zeros_like(s.image) if s.mask is None else s.mask))
        for i, s in slices.items()
    }
    nothing = (np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8))
    pairs = [(some[i], some.get(k, nothing)) for _, i, k in chosen]
    scale = [len(some[i][0]) / m.size[i, 0] for _, i, _ in chosen]
    out = io.BytesIO()
    np.savez_compressed(
        out,
        finding=np.array([name for name, _, _ in chosen], str),
        id=np.array([m.ids[i] for _, i, _ in chosen], str),
        detail=np.array([details[name, m.ids[i]] for name, i, _ in chosen], str),
        other=np.array([m.ids[k] if k >= 0 else "" for _, _, k in chosen], str),
        inner=np.array(
            [m.inner[i] * s for (_, i, _), s in zip(chosen, scale, strict=True)]
        ).reshape(-1, 4),
        size=np.array([first[0].shape for first, _ in pairs], int).reshape(-1, 2),
        other_size=np.array([second[0].shape for _, second in pairs], int).reshape(-1, 2),
        image=_stack([first[0] for first, _ in pairs]),
        mask=_stack([first[1] for first, _ in pairs]),
        other_image=_stack([second[0] for _, second in pairs]),
        other_mask=_stack([second[1] for _, second in pairs]),
    )
    return out.getvalue()


def _small(pixels: np.ndarray) -> np.ndarray:
    """Reduces a picture or mask [H, W] to LONGEST pixels at most, labels kept as they are."""
    factor = min(1, LONGEST / max(pixels.shape))
    size = [max(1, round(side * factor)) for side in reversed(pixels.shape)]
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST))


def _stack(pictures: list[np.ndarray]) -> np.ndarray:
    stacked = np.zeros((len(pictures), LONGEST, LONGEST), np.uint8)
    for place, picture in zip(stacked, pictures, strict=True):
        place[: picture.shape[0], : picture.shape[1]] = picture
    return stacked
