"""The short text table of a run for the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from covjax.errors import InputError
from covjax.report.results import (
    interval_text,
    kept_classes,
    options_text,
    read_results,
    score_text,
)

KEY_SCORES = {
    "classifier": ("accuracy", "roc_auc", "mcc"),
    "segmenter": ("dice_infected", "dice_infected_per_image", "iou_infected"),
    "framework": ("dice_infected", "missed_infected_slices"),
}


def _names(stage: str, scored: Mapping[str, Any]) -> tuple[str, ...]:
    classes = kept_classes(scored) if stage == "segmenter" else ()
    return KEY_SCORES[stage] + tuple(f"dice_{name}" for name in classes)


def summary_table(workdir: Path) -> str:
    """Returns the key scores of every stage and split evaluated so far as aligned plain text.

    One row per score with its n and, where it has one, its interval. Raises InputError if `workdir`
    holds no scores.
    """
    results = read_results(workdir)
    rows = [
        (
            stage,
            split,
            str(scored["scores"][name].get("n", "")),
            name,
            score_text(scored["scores"][name]),
            interval_text(scored["scores"][name]),
        )
        for stage, splits in results.scores.items()
        for split, scored in splits.items()
        for name in _names(stage, scored)
        if name in scored["scores"]
    ]
    if not rows:
        raise InputError(f"{workdir}: holds no scores (results/PART/summary.json), evaluate first")
    rows.insert(0, ("stage", "split", "n", "score", "value", "interval"))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column == 2 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(len(line) for line in lines))
    options = {split: options_text(options) for split, options in results.options.items()}
    return "\n".join(
        [*lines, *(f"{split} evaluated with {text}" for split, text in options.items() if text)]
    )
