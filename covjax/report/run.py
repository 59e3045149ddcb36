"""The HTML page of a report: what was run, then the sections whose files are there, in reading
order.
"""

from html import escape
from pathlib import Path

from covjax.report import by_patient, classifier, figures, left_out, slices, tables
from covjax.report.html import banner, bullets, write_page
from covjax.report.parts import split_title
from covjax.report.results import SPLIT_RULES, STAGES, Results, options_text, read_results

NAMED = 10  # shared patients that a page names
SECTIONS = (
    tables.data,
    tables.scores,
    figures.training,
    figures.confusion,
    classifier.curves,
    classifier.probabilities,
    classifier.explanations,
    slices.slices,
    slices.examples,
    by_patient.patients,
    left_out.of_run,
    tables.environment,
    tables.configuration,
)


def build_report(workdir: Path) -> Path:
    """Writes WORKDIR/report/index.html, every figure as PNG and its numbers as CSV, and returns the
    page's path.

    Raises InputError, and leaves an earlier report as it was, if the workdir holds no results or a
    damaged file.
    """
    results = read_results(workdir)
    title = f"covjax report: {_source(results)}"
    version = str(results.environment.get("covjax", ""))
    sections = [make(results) for make in SECTIONS]
    return write_page(results.workdir / "report", title, _header(results), sections, version)


def _source(results: Results) -> str:
    data = results.config.get("data") or {}
    return str(results.splits.get("source") or data.get("source") or "unknown source")


def _split_rule(results: Results) -> str:
    rule = str(
        results.splits.get("by") or (results.config.get("split") or {}).get("by") or "not recorded"
    )
    return SPLIT_RULES.get(rule, rule)


def _is_phantom(results: Results) -> bool:
    data = results.config.get("data") or {}
    return "phantom" in (results.splits.get("source"), data.get("source"))


def _shared_patients(results: Results) -> dict[str, list[str]]:
    """Returns {patient: the parts it is in} of those in more than one."""
    where: dict[str, list[str]] = {}
    for part, patients in (results.splits.get("patients") or {}).items():
        for patient in set(patients) - {""}:  # "" is an unknown patient
            where.setdefault(patient, []).append(part)
    return {patient: parts for patient, parts in sorted(where.items()) if len(parts) > 1}


def _shared_text(shared: dict[str, list[str]]) -> str:
    """Names patients in several parts, the first few of them, and says what that does to which
    scores.
    """
    listed = ", ".join(
        f"{patient} ({' and '.join(parts)})" for patient, parts in list(shared.items())[:NAMED]
    )
    listed += f" and {len(shared) - NAMED} more" if len(shared) > NAMED else ""
    tested = any("test" in parts for parts in shared.values())
    effect = (
        "so the scores are optimistic"
        if tested
        else "so scores of val, which chose the epoch, are optimistic; those of test are not"
    )
    return f"{len(shared)} of the patients are in more than one part, {effect}: {listed}."


def _patients_unknown(results: Results) -> bool:
    """Whether parts were made elsewhere and nobody can check whether they share patients."""
    patients = results.splits.get("patients")
    return (
        results.splits.get("by") in ("source", "held_out", "file")
        and patients is not None
        and not any(patients.values())
    )


def _stage(results: Results, stage: str) -> str:
    model = (results.config.get(stage) or {}).get("model")
    name = model.get("name") if isinstance(model, dict) else model
    return f"{stage} ({name})" if name else stage


def _header(results: Results) -> str:
    stages = [
        _stage(results, stage)
        for stage in STAGES
        if stage in results.scores or stage in results.history
    ]
    seed = results.config.get("seed", results.splits.get("seed", "not recorded"))
    facts = {
        "Source": _source(results),
        "Split": _split_rule(results),
        "Seed": seed,
        "Stages": ", ".join(stages),
        **_evaluation(results),
    }
    listed = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items()
    )
    return (
        f"<h1>Lung CT screening: {escape(_source(results))}</h1>"
        f'<p class="soft">Research software, not a medical device.</p>{warnings(results)}<dl>{listed}</dl>'
    )


def _evaluation(results: Results) -> dict[str, str]:
    """Says which evaluation options each part was scored with, if any part was."""
    if not any(results.options.values()):
        return {}
    parts = (
        f"{split_title(s)} part: {options_text(options) or 'none'}"
        for s, options in results.options.items()
    )
    return {"Evaluation options": "; ".join(parts)}


def _notes(results: Results) -> list[str]:
    """Returns a line of HTML for each note on slices of the data: of how many slices of which parts
    it is.
    """
    counts: dict[str, dict[str, int]] = {}
    for split, notes in (results.splits.get("notes") or {}).items():
        for note, count in notes.items():
            counts.setdefault(str(note), {})[split] = int(count)
    return [
        f"{escape(note)} ({', '.join(f'{n:,} {escape(split_title(split))}' for split, n in some.items())} slices; "
        "which, says per_image.csv)"
        for note, some in counts.items()
    ]


def warnings(results: Results) -> str:
    """Returns banners about the data and their split that nobody overlooks; '' where there is
    nothing to warn of.
    """
    banners = []
    if _is_phantom(results):
        banners.append(banner("Synthetic data", "these numbers say nothing about patients."))
    shared = _shared_patients(results)
    if _split_rule(results) == SPLIT_RULES["slice"]:
        text = (
            "neighbouring slices of one patient are in the training and the test part, so the scores are optimistic. "
            "Split by patient for an honest estimate."
        )
        banners.append(banner("Split by slice", text))
    elif shared:
        banners.append(banner("Shared patients", _shared_text(shared)))
    if _patients_unknown(results):
        text = "the parts were made elsewhere, and nothing here can tell whether a patient is in several of them."
        banners.append(banner("Unknown patients", text))
    if notes := _notes(results):
        banners.append(banner("To note", bullets(notes)))
    return "".join(banners)
