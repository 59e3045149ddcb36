"""The short text table of a run for the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from covjax.errors import InputError
from covjax.report.results import kept_classes, read_results
from covjax.report.run.external import external_table
from covjax.report.text import interval_text, options_text, score_text, text_table
from covjax.scores import SCORES


def summary_table(workdir: Path) -> str:
    """Returns the key scores of every stage and split evaluated so far as aligned plain text.

    One row per score with its n and, where it has one, its interval. Raises InputError if `workdir`
    holds no scores.
    """
    results = read_results(workdir)
    rows = [["stage", "split", "n", "score", "value", "interval"]]
    for stage, splits in results.scores.items():
        for split, scored in splits.items():
            for name in _names(stage, scored):
                score = scored["scores"].get(name)
                if score is not None:
                    texts = [str(score.get("n", "")), name, score_text(score), interval_text(score)]
                    rows.append([stage, split, *texts])
    if len(rows) == 1:
        raise InputError(f"{workdir}: holds no scores (results/SPLIT/summary.json), evaluate first")
    notes = [
        f"{split} evaluated with {options_text(options)}"
        for split, options in results.options.items()
        if options_text(options)
    ]
    differences = external_table(results)
    return "\n".join([*filter(None, [differences]), text_table(rows, right=[2]), *notes])


def _names(stage: str, scored: Mapping[str, Any]) -> list[str]:
    if stage not in SCORES:
        return list(scored["scores"])
    short = [score.name for score in SCORES[stage] if score.in_terminal]
    return short + [f"dice_{name}" for name in kept_classes(scored)]
