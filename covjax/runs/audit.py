"""Audits a data source as a configuration would divide it, or a run's data as it is divided."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from covjax.audit import Finding, Measured, find, measure, write_audit
from covjax.data.prepared.dataset import Prepared
from covjax.data.sources.registry import open_source
from covjax.data.sources.source import Slice
from covjax.data.splits.splits import SPLITS, make_splits, read_splits
from covjax.errors import InputError
from covjax.runs.slices import needed_classes, open_run_data
from covjax.settings import RunSettings, load_settings


def audit_source(config: RunSettings, output: Path) -> bool:
    """Audits the source of `config`, divided as train.py would divide it, into `output`.

    Returns whether something serious was found. Raises InputError for a configuration or a source
    that cannot be used, and for an output folder that holds something else.
    """
    _check_output(output)
    source = open_source(config.data)
    m = measure(source.name, source.fingerprint, source.ids, source.load)
    pseudonyms = {patient: pseudonym for pseudonym, patient in source.patients.items()}
    position = {name: i for i, name in enumerate(source.ids)}
    unreadable = tuple((name, source.hide(position[name], reason)) for name, reason in m.unreadable)
    m = replace(m, unreadable=unreadable, left_out=source.left_out, pseudonyms=pseudonyms)
    try:
        needs = needed_classes(config)
        splits = make_splits(_as_prepared(m), config.split, config.seed, needs)
    except InputError as error:
        splits = {"problem": str(error)}
    return _audit(output, m, splits, lambda name: source.load(position[name]))


def audit_run(workdir: Path, output: Path, data_path: Path | None = None) -> bool:
    """Audits the data of a run, divided as its splits.json says; the rest as `audit_source`.

    `data_path` is where the data lie now, None for data.path of the run.
    """
    _check_output(output)
    splits = read_splits(workdir / "splits.json")
    data = open_run_data(load_settings(workdir), splits, data_path)

    def load(i: int) -> Slice:
        image, mask = data.decode(i)
        mask = mask if data.has_mask[i] else None
        return Slice(
            data.ids[i],
            image,
            mask,
            int(data.labels[i]),
            data.patients[i],
            data.splits[i],
            notes=data.notes.get(i, ()),
        )

    m = replace(measure(data.source, data.fingerprint, data.ids, load), left_out=data.left_out)
    position = {name: i for i, name in enumerate(data.ids)}
    return _audit(output, m, splits, lambda name: load(position[name]))


def _as_prepared(m: Measured) -> Prepared:
    """Returns what the splits of a data set are made of."""
    return Prepared(
        fingerprint=m.fingerprint,
        source=m.source,
        ids=m.ids,
        labels=m.labels,
        patients=m.patients,
        splits=m.splits,
        has_mask=m.infected >= 0,
        records=(),
        notes=m.notes,
        pseudonyms=m.pseudonyms,
    )


def _audit(output: Path, m: Measured, splits: dict[str, Any], load: Any) -> bool:
    split_of = {name: split for split in SPLITS for name in splits.get(split, ())}
    split = np.array([split_of.get(name, "") for name in m.ids])
    findings: list[Finding] = find(m, split)
    how = {key: splits[key] for key in ("by", "seed", "problem") if key in splits}
    write_audit(output, m, findings, split, how, load)
    return any(finding.severity == "serious" for finding in findings)


def _check_output(output: Path) -> None:
    if output.exists() and (
        not output.is_dir() or (any(output.iterdir()) and not (output / "audit.json").is_file())
    ):
        raise InputError(f"--output: {output} exists and holds no audit, name another folder")
