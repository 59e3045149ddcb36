"""Scores for what any tool says of slices: its masks, or its probabilities of infection."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit

from covjax.data.label_map import IGNORE, class_names, infected
from covjax.data.listing import LEFT_OUT, LeftOut, left_out_table
from covjax.data.pairs import MaskedSlice, find_pairs, have_spacing, read_pairs
from covjax.data.prepared.dataset import Prepared
from covjax.data.settings import check_pattern
from covjax.data.sources.source import truth_digest
from covjax.data.splits.splits import whole_split
from covjax.errors import InputError
from covjax.evaluation.delivered import mask_rows
from covjax.evaluation.outputs import StageOutput, outputs_to_arrays
from covjax.evaluation.result_files import write_results
from covjax.evaluation.results import Evaluated, score_rows
from covjax.files import check_new_folder, new_folder, write_json, write_whole
from covjax.stages.classification import call_columns, call_section, classification_task
from covjax.stages.segmentation import mask_columns, mask_section, segmentation_task
from covjax.stages.task import Rows
from covjax.tables import read_user_csv

SPLIT = "test"  # under which the results stand
SURE = 37.0  # log-odds that stand for a probability of 0 or 1: float64 knows no larger ones


def score_masks(
    truth: Path, predicted: Path, output: Path, *,
    patient_pattern: str = "", mask_threshold: int = 0, classes: str = "",
) -> None:  # fmt: skip
    """Scores a folder of predicted masks against true ones, and writes OUTPUT as a run's results.

    All slices count, each in its own size; distances are in mm where the spacing of all is known.

    Args:
      truth: masks, pictures or NIfTI volumes, in folders of any depth.
      predicted: masks of the same names.
      output: a folder that is empty or not there.
      patient_pattern: finds the patient in a name; else a volume is one, and of pictures unknown.
      mask_threshold: as data.mask_threshold.
      classes: as data.classes.

    Raises:
      InputError: a mask has no partner, lies elsewhere or is none.
    """
    check_new_folder(output)
    check_pattern("--patient_pattern", patient_pattern)
    pairs, left_out = find_pairs(truth, predicted)
    names = class_names(classes)
    unit = "mm" if have_spacing(pairs) else "pixels"
    facts: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for one in read_pairs(pairs, patient_pattern, mask_threshold, classes):
        spacing = one.spacing if unit == "mm" else None
        rows.append(mask_rows(one.truth, one.predicted, len(names), spacing))
        facts.append(_facts(one))
    arrays = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    data = _described(facts, unit)
    section = {"model": predicted.name, "slices": "all", **mask_section(arrays, unit)}
    columns = mask_columns(arrays, names, unit)
    indices = np.arange(len(data))
    task = segmentation_task(names)
    scored = score_rows("segmenter", task, 0.0, arrays, data, indices, section, columns)
    _write(output, data, {"segmenter": scored}, arrays, left_out)


def score_calls(truth: Path, predicted: Path, output: Path, *, threshold: float = 0.5) -> None:
    """Scores a table of probabilities of infection, and writes OUTPUT as a run's results.

    Args:
      truth: a CSV with the columns id (or file), label (0 healthy, 1 infected) and, where it is
        known, patient.
      predicted: a CSV with the columns id (or file) and probability, of the same slices.
      output: a folder that is empty or not there.
      threshold: of probability, from which a slice is called infected.

    Raises:
      InputError: a table lacks a column, a slice or a value that fits.
    """
    check_new_folder(output)
    if not 0 < threshold < 1:
        raise InputError(f"--threshold: {threshold:g} must be between 0 and 1")
    trues = _read_table(truth, "label")
    calls = _read_table(predicted, "probability")
    for here, there, path in ((trues, calls, predicted), (calls, trues, truth)):
        if missing := sorted(here.keys() - there.keys()):
            raise InputError(f"{path}: lacks {len(missing)} slices, first {missing[0]}, add them")
    facts = [
        {
            "id": name,
            "patient": row.get("patient", ""),
            "label": int(_number(truth, row, "label", {0.0, 1.0})),
        }
        for name, row in trues.items()
    ]
    probability = np.array([_number(predicted, calls[name], "probability") for name in trues])
    data = _described(facts, "pixels")
    with np.errstate(divide="ignore"):
        log_odds = np.clip(logit(probability), -SURE, SURE)
    level = float(logit(threshold))
    rows = {
        "label": data.labels,
        "log_odds": log_odds,
        "probability": expit(log_odds),
        "called": log_odds >= level,
    }
    fixed = {"threshold_rule": "fixed", "calibration": "none", "temperature": None}
    section = {"model": predicted.stem, **fixed, **call_section(rows, level)}
    sign = np.where(data.labels == 1, 1, -1)
    columns = call_columns(rows) | {"classifier_loss": np.logaddexp(0, -sign * log_odds)}
    indices = np.arange(len(data))
    task = classification_task(())
    scored = score_rows("classifier", task, level, rows, data, indices, section, columns)
    _write(output, data, {"classifier": scored}, rows, ())


def _facts(one: MaskedSlice) -> dict[str, Any]:
    """Returns what results say of a slice whatever was predicted."""
    return {
        "id": one.id,
        "patient": one.patient,
        "label": int(infected(one.truth).any()),
        "infected_pixels": int(np.count_nonzero(infected(one.truth))),
        "counted_pixels": int(np.count_nonzero(one.truth != IGNORE)),
        "truth": truth_digest(one.truth),
        "notes": one.notes,
    }


def _described(facts: Sequence[Mapping[str, Any]], unit: str) -> Prepared:
    """Returns slices as a data set without pictures."""
    content = "\n".join(f"{fact['id']} {fact['label']} {fact.get('truth')}" for fact in facts)
    notes = {i: fact["notes"] for i, fact in enumerate(facts) if fact.get("notes")}
    return Prepared(
        fingerprint=hashlib.sha256(content.encode()).hexdigest()[:16],
        source="files",
        ids=tuple(fact["id"] for fact in facts),
        labels=np.array([fact["label"] for fact in facts], np.int32),
        patients=tuple(fact["patient"] for fact in facts),
        splits=("",) * len(facts),
        has_mask=np.array(["truth" in fact for fact in facts]),
        records=(),
        unit=unit,
        infected_pixels=np.array([fact.get("infected_pixels", 0) for fact in facts]),
        counted_pixels=np.array([fact.get("counted_pixels", 0) for fact in facts]),
        truth=tuple(fact.get("truth", "") for fact in facts),
        notes=notes,
    )


def _write(
    output: Path, data: Prepared, stages: Mapping[str, Evaluated], rows: Rows,
    left_out: Sequence[LeftOut],
) -> None:  # fmt: skip
    indices = np.arange(len(data))
    outputs = {name: StageOutput(indices, rows) for name in stages}
    arrays = {"rows": outputs_to_arrays(outputs, data, indices)}
    made = {"source": data.source, "fingerprint": data.fingerprint, "by": "given"}
    splits = made | whole_split(data, SPLIT)
    with new_folder(output) as partial:
        write_json(partial / "splits.json", splits)
        write_whole(partial / LEFT_OUT, left_out_table(left_out))
        write_results(partial / "results" / SPLIT, SPLIT, data, indices, stages, arrays, {})


def _read_table(path: Path, column: str) -> dict[str, dict[str, str]]:
    """Returns the rows of a CSV by the name of their slice."""
    try:
        columns, rows = read_user_csv(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), check it") from error
    key = next((name for name in ("id", "file") if name in columns), None)
    if key is None or column not in columns:
        raise InputError(f"{path}: needs the columns id (or file) and {column}, add them")
    found: dict[str, dict[str, str]] = {}
    for line, row in rows:
        if not row[key] or row[key] in found:
            fault = "is named twice" if row[key] else "has no name"
            raise InputError(f"{path}: line {line}: slice '{row[key]}' {fault}, correct it")
        found[row[key]] = row
    if not found:
        raise InputError(f"{path}: has no rows, name another file")
    return found


def _number(
    path: Path, row: Mapping[str, str], column: str, among: set[float] | None = None
) -> float:
    """Returns a share 0..1, or one of a few numbers. Raises InputError."""
    try:
        value = float(row[column])
    except ValueError:
        value = np.nan
    if value in among if among else 0 <= value <= 1:
        return value
    allowed = "0 or 1" if among else "from 0 to 1"
    name = row.get("id") or row.get("file")
    raise InputError(f"{path}: {column} of {name} is '{row[column]}', it must be {allowed}")
