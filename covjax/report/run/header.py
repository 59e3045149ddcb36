"""What a page says first of a run: its facts, and what to know of its data before its scores."""

from collections.abc import Mapping, Sequence

from covjax.report.page import Banner
from covjax.report.results import SPLIT_RULES, Results, split_title
from covjax.report.scores import STAGES
from covjax.report.text import options_text

NAMED = 10  # shared patients that a page names
SYNTHETIC = Banner("Synthetic data", "these numbers say nothing about patients.")
SPLIT_BY_SLICE = Banner(
    "Split by slice",
    "neighbouring slices of one patient are in the training and the test part, so the scores are "
    "optimistic. Split by patient for an honest estimate.",
)
UNKNOWN_PATIENTS = Banner(
    "Unknown patients",
    "the parts were made elsewhere, and nothing here can tell whether a patient is in several of "
    "them.",
)


def source(results: Results) -> str:
    """Returns the name of the source of the data."""
    data = results.config.get("data") or {}
    return str(results.splits.get("source") or data.get("source") or "unknown source")


def facts(results: Results) -> dict[str, object]:
    """Returns what was run, by name."""
    stages = [
        _stage(results, stage)
        for stage in STAGES
        if stage in results.scores or stage in results.history
    ]
    rule = _split_rule(results)
    found = {
        "Source": source(results),
        "Split": SPLIT_RULES.get(rule, rule),
        "Seed": results.config.get("seed", results.splits.get("seed", "not recorded")),
        "Stages": ", ".join(stages),
    }
    if any(results.options.values()):
        found["Evaluation options"] = "; ".join(
            f"{split_title(split)} part: {options_text(options) or 'none'}"
            for split, options in results.options.items()
        )
    return found


def _stage(results: Results, stage: str) -> str:
    model = (results.config.get(stage) or {}).get("model") or {}
    return f"{stage} ({model['name']})" if model.get("name") else stage


def _split_rule(results: Results) -> str:
    configured = (results.config.get("split") or {}).get("by")
    return str(results.splits.get("by") or configured or "not recorded")


def warnings(results: Results) -> list[Banner]:
    """Returns what is to know of the data and their split."""
    banners = []
    data = results.config.get("data") or {}
    if "phantom" in (results.splits.get("source"), data.get("source")):
        banners.append(SYNTHETIC)
    patients = results.splits.get("patients")
    shared = _shared_patients(patients or {})
    if _split_rule(results) == "slice":
        banners.append(SPLIT_BY_SLICE)
    elif shared:
        banners.append(Banner("Shared patients", _shared_text(shared)))
    made_elsewhere = results.splits.get("by") in ("source", "held_out", "file")
    if made_elsewhere and patients is not None and not any(patients.values()):
        banners.append(UNKNOWN_PATIENTS)
    notes = _notes(results)
    if notes:
        banners.append(Banner("To note", lines=notes))
    return banners


def _shared_patients(splits: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Returns {patient: the splits it is in} of those in more than one."""
    where: dict[str, list[str]] = {}
    for split, patients in splits.items():
        for patient in set(patients) - {""}:  # "" is an unknown patient
            where.setdefault(patient, []).append(split)
    return {patient: found for patient, found in sorted(where.items()) if len(found) > 1}


def _shared_text(shared: Mapping[str, Sequence[str]]) -> str:
    """Names the first patients in several splits, and says what that does to which scores."""
    named = list(shared.items())[:NAMED]
    listed = ", ".join(f"{patient} ({' and '.join(splits)})" for patient, splits in named)
    listed += f" and {len(shared) - NAMED} more" if len(shared) > NAMED else ""
    tested = any("test" in splits for splits in shared.values())
    effect = (
        "so the scores are optimistic"
        if tested
        else "so scores of val, which chose the epoch, are optimistic; those of test are not"
    )
    return f"{len(shared)} of the patients are in more than one part, {effect}: {listed}."


def _notes(results: Results) -> list[str]:
    """Returns a line for each note on slices of the data: of how many slices of which splits."""
    counts: dict[str, list[str]] = {}
    for split, notes in (results.splits.get("notes") or {}).items():
        for note, count in notes.items():
            counts.setdefault(str(note), []).append(f"{int(count):,} {split_title(split)}")
    return [
        f"{note} ({', '.join(found)} slices; which, says per_image.csv)"
        for note, found in counts.items()
    ]
