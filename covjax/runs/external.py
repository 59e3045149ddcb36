"""External validation: a trained run scored on another labelled set of slices."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from covjax.data.differences import describe, grey_distance
from covjax.data.intensity import AS_IS, choose_window
from covjax.data.label_map import class_names
from covjax.data.listing import LEFT_OUT, left_out_table
from covjax.data.prepared.dataset import Prepared, prepare
from covjax.data.settings import DataSettings
from covjax.data.splits.splits import SPLITS, read_splits, split_indices, whole_split
from covjax.errors import InputError
from covjax.evaluation.options import PLAIN, Options
from covjax.fields import read_section, to_dict
from covjax.files import check_new_folder, new_folder, write_json, write_whole
from covjax.plugins import record_plugins
from covjax.runs.evaluate import EXTERNAL, Subject, check_options, evaluate_into, record_timing
from covjax.runs.intensity import read_intensity
from covjax.runs.slices import check_sizes, open_run_data, with_crops
from covjax.runtime import environment
from covjax.settings import RunSettings, load_settings, read_settings, settings_dict, write_settings
from covjax.stages import task_of

RECORD = "external.json"
# of `data`: how networks see slices, which is that of the training whatever the set
OF_THE_RUN = ("spacing", "lung_crop")


def evaluate_on(
    workdir: Path, fields: Mapping[str, Any], output: Path, batch_size: int | None = None, *,
    window: str = "", options: Options = PLAIN, save_predictions: str | None = None,
    explain: bool = False, data_path: Path | None = None,
) -> None:  # fmt: skip
    """Scores a trained run on another labelled set, and writes OUTPUT as a run's results.

    Preprocessing, statistics, calibration and threshold are those of the run; all slices of the
    set count, as its split "test". A segmenter is left out where no infected slice has a mask.

    Args:
      workdir: of the run.
      fields: of the section `data`, nested, that name the set and say how it is read.
      output: a folder that is empty or not there.
      batch_size: slices per batch, over all devices; None for that of the training.
      window: brings HU to what a run on 8-bit pictures knows, or "as_is", see `choose_window`.
      options: test-time augmentation and post-processing.
      save_predictions: "png" or "npz", to write the predicted masks.
      explain: whether to write Grad-CAM heat maps of the most confident calls.
      data_path: where the slices of the training lie now; None for data.path of the run.

    Raises:
      InputError: the set cannot be read or holds slices that the run learned from, or a field is
        not one that names a set.
    """
    check_new_folder(output)
    trained = load_settings(workdir)
    check_options(trained, options, save_predictions, explain)
    splits = read_splits(workdir / "splits.json")
    data_settings = _data_settings(trained.data, fields, window)
    config = read_settings(settings_dict(trained) | {"data": to_dict(data_settings)})
    data = prepare(config.data)
    place = config.data.path or data.source
    known = read_intensity(workdir)
    for values in sorted(data.values):
        choose_window(place, values, known, trained.data.window, window)
    _check_unseen(data, learned_from(workdir, trained, splits))
    data = with_crops(config, data)
    check_sizes(config, data)
    record = _differences(data, trained, splits, data_path)
    infected = data.labels == 1
    without = infected.any() and not data.has_mask[infected].any()
    unmasked = tuple(name for name in config.stages if without and task_of(name).needs_masks)
    with new_folder(output) as partial:
        record_plugins(partial)
        write_settings(partial / "config.json", config)
        write_json(partial / "splits.json", ours := _splits(data, config))
        write_json(partial / "environment.json", environment())
        write_json(partial / RECORD, {"run": workdir.resolve().name, **record})
        write_whole(partial / LEFT_OUT, left_out_table(data.left_out))
        subject = Subject(workdir, config, data, ours, "test", unmasked)
        seconds = evaluate_into(
            partial / "results" / "test", subject, batch_size,
            options=options, save_predictions=save_predictions, explain=explain,
        )  # fmt: skip
        for name, per_slice in seconds.items():
            record_timing(partial, name, {"slices_per_second_eval": round(1 / per_slice, 3)})


def learned_from(workdir: Path, config: RunSettings, splits: Mapping[str, Any]) -> set[str]:
    """Returns the origins of all slices that a run, and those that it began with, learned from.

    Warns of an earlier run that is gone: what it learned from is not known.
    """
    if "origins" not in splits:
        raise InputError(f"{workdir}: does not say what it learned from, train it again")
    learned = {one for split in ("train", "val") for one in splits["origins"][split]}
    for name, stage in config.stages.items():
        if not stage.init.run:
            continue
        earlier = Path(stage.init.run)
        path = earlier / "splits.json"
        if not path.is_file():
            logging.warning(
                "%s.init.run: %s is gone, so nothing tells whether it learned from these slices",
                name, earlier,
            )  # fmt: skip
            continue
        learned |= learned_from(earlier, load_settings(earlier), read_splits(path))
    return learned


def _data_settings(trained: DataSettings, fields: Mapping[str, Any], window: str) -> DataSettings:
    """Returns how the set is read: as `fields` say, and seen as in the training."""
    for name in (*OF_THE_RUN, "window"):
        if name in fields:
            remedy = "use --window" if name == "window" else "leave it out"
            raise InputError(f"data.{name}: networks see slices as in their training, {remedy}")
    ours = {name: getattr(trained, name) for name in (*OF_THE_RUN, "window", "classes")}
    if window and window != AS_IS:
        ours["window"] = window
    values = to_dict(DataSettings()) | ours
    for name, value in fields.items():
        values[name] = values[name] | value if isinstance(value, Mapping) else value
    data = read_section(DataSettings(), values, "data")
    if class_names(data.classes) != class_names(trained.classes):
        raise InputError(
            f"data.classes: the run knows {', '.join(class_names(trained.classes))}, name these"
        )
    return data


def _check_unseen(data: Prepared, learned: Collection[str]) -> None:
    """Raises InputError if the set holds slices that the run learned from."""
    seen = [name for name, one in zip(data.ids, data.origins, strict=True) if one in learned]
    if seen:
        raise InputError(
            f"data: the run learned from {len(seen)} of these {len(data)} slices, first "
            f"{seen[0]}; take their files out or name another set; leave --config.data out for "
            "the run's own test split"
        )


def _differences(
    data: Prepared, trained: RunSettings, splits: dict[str, Any], data_path: Path | None
) -> dict[str, Any]:
    """Returns how the set and the slices of the training differ; where these are gone, it alone."""
    here = describe(data, np.arange(len(data)))
    try:
        known = open_run_data(trained, splits, data_path)
    except InputError as error:
        logging.warning("not compared with the data of the training: %s", error)
        return {"set": here.facts}
    before = describe(known, split_indices(known, splits, "train"))
    return {
        "set": here.facts,
        "training": before.facts,
        "grey_distance": grey_distance(here, before),
    }


def _splits(data: Prepared, config: RunSettings) -> dict[str, Any]:
    """Returns what splits.json holds of the set."""
    return {split: [] for split in SPLITS} | {
        "source": data.source,
        "fingerprint": data.fingerprint,
        "by": EXTERNAL,
        "seed": config.seed,
        "origins": {"test": list(data.origins)},
        **whole_split(data, "test"),
    }
