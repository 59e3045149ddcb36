"""What study.json holds: scores of variants over all their runs, differences to the reference."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import covjax
from covjax.evaluation.outputs import outputs_from_arrays
from covjax.fields import flat_fields
from covjax.metrics import holm, infected_or_not, mean_of, paired_test, per_image_dice, score
from covjax.metrics.jackknife import limited, t_intervals
from covjax.metrics.resampling import Statistic, ratio
from covjax.records import Timing, read_record_or_empty
from covjax.runs.pool import read_row_arrays
from covjax.settings import RunSettings, settings_dict
from covjax.study.grid import STAGE, Run, study_of, variant_names

# Fields that say what was studied, with those of the variants.
SETTINGS = (
    "data.source",
    "split.by",
    "split.folds",
    f"{STAGE}.model.name",
    f"{STAGE}.input.size",
    f"{STAGE}.epochs",
)


class Counts(NamedTuple):
    """Pixels of every slice under every seed, and which slices were tested."""

    confusion: np.ndarray  # [S, N, 2, 2]
    tested: np.ndarray  # bool [S, N]


def compare_variants(
    config: RunSettings,
    planned: Sequence[Run],
    done: Sequence[Run],
    failed: Mapping[str, str],
    speeds: Mapping[str, float],
) -> dict[str, Any]:
    """Returns what study.json holds.

    Over all test slices of all folds, never a mean of fold scores; of several seeds, the mean.
    Intervals are t over patients (see `covjax.metrics.jackknife`), tests exchange variants patient
    by patient (`covjax.metrics.paired_test`) on the slices and seeds that both were tested on,
    adjusted by Holm for all of the study.
    """
    study = study_of(config)
    names = variant_names(study)
    seeds = list(study.seeds)
    rows = {(run.variant, run.seed, run.fold): _read_rows(run) for run in done}
    patients = {
        name: patient
        for ids, owners, _ in rows.values()
        for name, patient in zip(ids, owners, strict=True)
    }
    counts = {name: _counts(name, seeds, rows, list(patients)) for name in names}
    found = [
        {
            "name": name,
            "fields": flat_fields(study.variants[name]),
            "planned": sum(run.variant == name for run in planned),
            "runs": [
                _run(run, rows[run.variant, run.seed, run.fold][2])
                for run in done
                if run.variant == name
            ],
            "scores": {
                what: _score(make, counts[name], list(patients.values()))
                for what, make in SCORES.items()
            },
            "ms_per_slice": speeds.get(name),
        }
        for name in names
    ]
    reference = study.reference
    others = [one for one in found if one["name"] != reference]
    for one in others:
        one["differences"] = {
            what: _difference(make, counts[one["name"]], counts[reference], list(patients.values()))
            for what, make in SCORES.items()
        }
    pairs = [pair for one in others for pair in one["differences"].values()]
    for pair, adjusted in zip(pairs, holm([pair["p_value"] for pair in pairs]), strict=True):
        pair["p_holm"] = adjusted
    return {
        "covjax": covjax.__version__,
        "study": study.name,
        "reference": reference,
        "settings": _settings(config, planned, patients),
        "failed": dict(failed),
        "variants": found,
    }


def _settings(
    config: RunSettings, planned: Sequence[Run], patients: Mapping[str, str]
) -> dict[str, Any]:
    """Returns what was studied; `patients` are those of the test slices, by slice."""
    flat = flat_fields(settings_dict(config))
    return {
        **{field: flat[field] for field in SETTINGS},
        "seeds": list(study_of(config).seeds),
        "folds": sorted({run.fold for run in planned}) if config.split.folds else [],
        "slices": len(patients),
        "patients": len(set(patients.values()) - {""}),
    }


def _read_rows(run: Run) -> tuple[list[str], list[str], np.ndarray]:
    """Returns id, patient and confusion [n, 2, 2], infected or not, of a run's test slices."""
    arrays = read_row_arrays(run.workdir, "test")
    seen = outputs_from_arrays(arrays).get(STAGE)
    if seen is None:  # a fold without infection: there is nothing to segment
        return [], [], np.zeros((0, 2, 2), np.int64)
    ids, patients = (arrays[name][seen.indices].tolist() for name in ("id", "patient"))
    return ids, patients, infected_or_not(seen.rows["confusion"])


def _counts(
    name: str, seeds: Sequence[int], rows: Mapping[tuple, tuple], ids: Sequence[str]
) -> Counts:
    place = {slice_id: k for k, slice_id in enumerate(ids)}
    confusion = np.zeros((len(seeds), len(ids), 2, 2), np.int64)
    tested = np.zeros((len(seeds), len(ids)), bool)
    for (variant, seed, _), (some, _, found) in rows.items():
        if variant == name:
            at = seeds.index(seed), [place[slice_id] for slice_id in some]
            confusion[at] = found
            tested[at] = True
    return Counts(confusion, tested)


# The statistic of slices' weights that a score is, and what every slice weighs in it, [N].
Made = tuple[Statistic, np.ndarray]


def _dice_per_slice(counts: Counts) -> Made:
    """Mean over slices of each slice's Dice, its mean over the seeds; of slices with a Dice."""
    dice = per_image_dice(counts.confusion.reshape(-1, 2, 2)).reshape(counts.tested.shape)
    _, whole = _hit_and_whole(counts)
    means = _mean(np.where(counts.tested, dice, np.nan), 0)
    return mean_of(means), np.any(whole > 0, axis=0).astype(np.float64)


def _dice_pooled(counts: Counts) -> Made:
    """Dice of the pixels of all slices together, mean over the seeds."""
    hit, whole = _hit_and_whole(counts)

    def pooled(weights: np.ndarray) -> np.ndarray:
        return _mean(ratio(weights @ hit.T, weights @ whole.T), 1)

    return pooled, whole.sum(0)


def _hit_and_whole(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Returns twice the pixels infected in both, and those infected in either, [S, N] each.

    In either: in truth or prediction, both counted.
    """
    pixels = counts.confusion * counts.tested[..., None, None]
    hit = 2 * pixels[..., 1, 1].astype(np.float64)
    return hit, hit + pixels[..., 0, 1] + pixels[..., 1, 0]


SCORES: dict[str, Callable[[Counts], Made]] = {
    "dice_infected_per_image": _dice_per_slice,
    "dice_infected": _dice_pooled,
}


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean of the defined values along an axis; NaN where there is none."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis), defined.sum(axis))


def _score(
    make: Callable[[Counts], Made], counts: Counts, patients: Sequence[str]
) -> dict[str, Any]:
    some, patients = _of_slices(counts, np.any(counts.tested, 0), patients)
    if not patients:
        return score(None, 0, reason="no run is finished")
    statistic, weights = make(some)
    value = statistic(np.ones((1, len(patients))))[0]
    limits = t_intervals(lambda w: statistic(w)[:, None], patients, weights[:, None], ["share"])
    return limited(value, len(patients), limits[0], "no slice has infection")


def _difference(
    make: Callable[[Counts], Made], one: Counts, other: Counts, patients: Sequence[str]
) -> dict[str, Any]:
    """Returns a variant minus the reference over what both were tested on, and seed by seed."""
    both = one.tested & other.tested
    one = one._replace(tested=both)
    other = other._replace(tested=both)
    some, owners = _of_slices(one, np.any(both, 0), patients)
    rest, _ = _of_slices(other, np.any(both, 0), patients)
    by_seed = [_value(make, one, seed) - _value(make, other, seed) for seed in range(len(both))]
    differences = [None if np.isnan(value) else float(value) for value in by_seed]
    together = Counts(*(np.concatenate(pair, 1) for pair in zip(some, rest, strict=True)))
    statistic, _ = make(together)
    weights = make(some)[1] + make(rest)[1]
    trainings = {"trainings": int(both.any(1).sum())}
    return paired_test(statistic, owners, weights) | trainings | {"by_seed": differences}


def _value(make: Callable[[Counts], Made], counts: Counts, seed: int) -> float:
    """Returns the score under one seed; several show how much trainings differ."""
    alone = Counts(*(array[seed : seed + 1] for array in counts))
    statistic, _ = make(alone)
    return statistic(np.ones((1, alone.tested.shape[1])))[0]


def _of_slices(
    counts: Counts, chosen: np.ndarray, patients: Sequence[str]
) -> tuple[Counts, list[str]]:
    some = Counts(counts.confusion[:, chosen], counts.tested[:, chosen])
    return some, [patient for patient, kept in zip(patients, chosen, strict=True) if kept]


def _run(run: Run, confusion: np.ndarray) -> dict[str, Any]:
    """Returns what study.json holds of one run: its scores and how it was trained."""
    timing = read_record_or_empty(run.workdir / "results" / "timing.json", Timing).get(STAGE, {})
    counts = Counts(confusion[None], np.ones((1, len(confusion)), bool))
    values = {what: _value(make, counts, 0) for what, make in SCORES.items()}
    return {
        "seed": run.seed,
        "fold": run.fold,
        "workdir": "/".join(run.workdir.parts[-3:]),
        **{name: timing.get(name) for name in ("parameters", "best_epoch", "train_seconds")},
        **{what: None if np.isnan(value) else float(value) for what, value in values.items()},
    }
