"""Numbers, scores and tables of them as text."""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any


def number(value: object) -> float:
    """Returns a JSON number as a float, NaN for null or anything that is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return math.nan
    return float(value)


def number_text(value: object, form: str = "{:.3f}") -> str:
    """Returns a number in the given form, 'undefined' for anything else."""
    return "undefined" if math.isnan(number(value)) else form.format(number(value))


def count_text(value: object) -> str:
    """Returns a count with its thousands apart, '' for anything else."""
    return f"{value:,}" if isinstance(value, int) else ""


def measured_text(value: str, column: str) -> str:
    """Returns a cell of a screening's table: shares in percent, the rest to three digits."""
    if not value:
        return ""
    found = float(value)
    if column.startswith("infected_share"):
        return f"{found:.2%}"
    return f"{found:,.0f}" if found == int(found) or abs(found) >= 100 else f"{found:.3g}"


def score_text(score: Mapping[str, Any]) -> str:
    """Returns the value of a score: counts whole, others to 3 decimals, null as undefined."""
    value = score.get("value")
    if value is None or math.isnan(number(value)):
        return f"undefined ({score['reason']})" if score.get("reason") else "undefined"
    if isinstance(value, int):
        return f"{value:,}"
    return "<0.001" if 0 < value < 0.0005 else f"{value:.3f}".replace("-0.000", "0.000")


def signed_text(value: object) -> str:
    """Returns a difference to 3 decimals, with its sign."""
    return number_text(value, "{:+.3f}").replace("-0.000", "0.000")


def p_text(value: object) -> str:
    """Returns a p value to 3 decimals, '' where there is none."""
    p = number(value)
    if math.isnan(p):
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def interval_ends(score: Mapping[str, Any]) -> tuple[float, float]:
    """Returns the ends of the interval of a score, NaN where it has none."""
    ends = [number(end) for end in score.get("interval") or ()]
    return (ends[0], ends[1]) if len(ends) == 2 else (math.nan, math.nan)


def interval_text(score: Mapping[str, Any]) -> str:
    """Returns the interval of a score as 'low to high', '' where it has none."""
    low, high = interval_ends(score)
    return "" if math.isnan(low + high) else f"{low:.3f} to {high:.3f}"


def interval_note(score: Mapping[str, Any], none: str = "none") -> str:
    """Returns the interval of a score in one piece, else why it has none, after the word `none`."""
    reason = score.get("no_interval")
    return interval_text(score).replace(" ", "\u00a0") or (f"{none}: {reason}" if reason else "")


def chance_text(score: Mapping[str, Any]) -> str:
    """Returns what a score would be by chance alone; '' where that is not known."""
    mean = number(score.get("by_chance"))
    high = number(score.get("by_chance_high"))
    return "" if math.isnan(mean + high) else f"by chance alone {mean:.3f}, up to {high:.3f}"


def trainings_text(difference: Mapping[str, Any]) -> str:
    """Returns how many trainings each side of a difference rests on, '' where not recorded."""
    count = difference.get("trainings")
    return f"{count} training{'s' * (count != 1)} each" if isinstance(count, int) else ""


def by_seed_text(difference: Mapping[str, Any]) -> str:
    """Returns a difference seed by seed, '' where that is not known."""
    return ", ".join(map(signed_text, difference.get("by_seed", ())))


def options_text(options: Mapping[str, Any]) -> str:
    """Returns evaluation options as 'name value, ...', '' where none is in force."""
    return ", ".join(
        name if value is True else f"{name} {plain_text(value, ' and ')}"
        for name, value in options.items()
        if value
    )


def plain_text(value: object, separator: str = ", ") -> str:
    """Returns a value of a JSON file in one line."""
    if isinstance(value, list):
        return separator.join(plain_text(one, separator) for one in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def text_table(
    rows: Sequence[Sequence[str]], right: Collection[int] = (), rule: bool = True
) -> str:
    """Returns rows as aligned text, the first as a head with a rule under it; `right` are columns.

    Args:
      rows: cells, the same number in every row.
      right: which columns are aligned right.
      rule: whether a rule stands under the head.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    if rule:
        lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def interval_methods(scores: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns how the intervals of scores were made, each way once."""
    methods = [str(score.get("interval_method") or "") for score in scores if interval_text(score)]
    return list(dict.fromkeys(filter(None, methods)))
