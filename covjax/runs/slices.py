"""The slices of a run: its data as it saw them, and what each stage reads of a split."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from covjax.data.contents import prepared_dir
from covjax.data.loader import SliceReader
from covjax.data.lungs.fields import Box, truth_outside
from covjax.data.prepared.dataset import Prepared, open_prepared, prepare
from covjax.data.resizing import box_at, check_fits, scaled_shape
from covjax.data.settings import DataSettings
from covjax.data.splits.splits import CLASSES, split_indices
from covjax.data.views import ViewSettings, box_shape, crop_note, seen_crop
from covjax.errors import InputError
from covjax.preprocess.network_input import size_field, slice_size
from covjax.settings import RunSettings
from covjax.stages import task_of
from covjax.stages.settings import StageSettings

OUTSIDE = "lung crop: marked pixels lie outside of what networks see, they count as missed"


def open_run_data(
    config: RunSettings, splits: dict[str, Any], path: Path | None = None
) -> Prepared:
    """Opens the data of a run: prepared ones where they are kept, even without the source.

    Where `path` says that they lie now, they are looked at there first. Raises InputError if they
    are not those that the run was trained on.
    """
    folder = prepared_dir(config.data) / f"{splits['source']}-{splits['fingerprint']}"
    if path is None and (folder / "index.json").is_file():
        return open_prepared(folder)
    place = config.data.path if path is None else str(path)
    data = prepare(replace(config.data, path=place))
    if data.fingerprint != splits["fingerprint"]:
        raise InputError(
            f"data.path: {place} does not hold the data that this run was trained on, or they "
            "changed; restore them"
        )
    return data


def split_reader(
    name: str, config: RunSettings, data: Prepared, splits: dict[str, Any], split: str, *,
    cache: bool | None = None, selection: str | None = None, native: bool = False,
) -> SliceReader:  # fmt: skip
    """Returns the slices of a split that a stage works on, as it sees them.

    `selection` ("all" or "infected") replaces the stage's own; `native` adds the slices in their
    own size.

    Raises InputError if there is none, or one lacks the mask it needs.
    """
    indices = split_indices(data, splits, split)
    task = task_of(name)
    if task.needs_masks:
        _check_masks(name, data, indices)
    if (selection or task.selection(config.stages[name])) == "infected":
        indices = indices[data.labels[indices] == 1]
    if not len(indices):
        raise InputError(
            f"{name}: the {split} split has no slice to work on, add slices or change split.shares "
            "or seed"
        )
    cache = config.data.cache if cache is None else cache
    return SliceReader(
        data, indices, view_settings(config.stages[name], config.data), cache, native
    )


def needed_classes(config: RunSettings) -> tuple[str, ...]:
    """Returns the classes of slices that every split must hold for the stages of a run."""
    calls = any(task_of(name).calls_slices for name in config.stages)
    return CLASSES if calls else ("infected",)


def view_settings(stage: StageSettings, data: DataSettings) -> ViewSettings:
    """Returns how slices are shown to a stage, from its settings and those of the data."""
    return ViewSettings(slice_size(stage.input), stage.input.size, data.spacing, data.lung_crop)


def check_sizes(config: RunSettings, data: Prepared) -> None:
    """Refuses slices without spacing, or too large for a stage, where all have one scale."""
    if not config.data.spacing:
        return
    stages = {name: config.stages[name].input for name in config.stages}
    for i, (slice_id, stored, spacing) in enumerate(
        zip(data.ids, data.shapes, data.spacings, strict=True)
    ):
        shape = scaled_shape(slice_id, stored, spacing, config.data.spacing)
        if (
            config.data.lung_crop and spacing is not None
        ):  # of which the picture alone tells the size
            box = data.boxes.get(i) or seen_crop(data.decode(i)[0], True).box
            shape = box_at(box_shape(box), spacing, config.data.spacing)
        for name, settings in stages.items():
            check_fits(
                slice_id,
                shape,
                slice_size(settings),
                config.data.spacing,
                f"{name}.input.{size_field(settings)}",
            )


def with_crops(
    config: RunSettings, data: Prepared, indices: Sequence[int] | None = None
) -> Prepared:
    """Returns the data with the boxes that data.lung_crop shows of slices, all or `indices`.

    Notes say where the whole body is kept because a lung is missing, and where marked pixels lie
    outside of the box.
    """
    if not config.data.lung_crop:
        return data
    places = range(len(data)) if indices is None else [int(i) for i in indices]
    with ThreadPoolExecutor(4) as pool:
        found = dict(zip(places, pool.map(lambda i: _crop(data, i), places), strict=True))
    notes = {i: (*data.notes.get(i, ()), *more) for i, (_, more) in found.items() if more}
    kept = sum(any(OUTSIDE not in note for note in more) for _, more in found.values())
    outside = sum(OUTSIDE in more for _, more in found.values())
    if kept or outside:
        logging.warning(
            "data.lung_crop: the whole body is shown of %d of %d slices, whose lungs were not "
            "both found; in %d marked pixels lie outside of what is shown (notes in "
            "per_image.csv)", kept, len(found), outside,
        )  # fmt: skip
    return replace(
        data, notes={**data.notes, **notes}, boxes={i: box for i, (box, _) in found.items()}
    )


def _crop(data: Prepared, i: int) -> tuple[Box, tuple[str, ...]]:
    image, mask = data.decode(i)
    crop = seen_crop(image, True)
    notes = (crop_note(crop.kept),) if crop.kept else ()
    return crop.box, (*notes, OUTSIDE) if truth_outside(mask, crop.box) else notes


def _check_masks(name: str, data: Prepared, indices: np.ndarray) -> None:
    without = indices[~data.has_mask[indices]]
    if len(without):
        raise InputError(
            f"{data.ids[without[0]]} (and {len(without) - 1} more): no mask, the {name} needs one "
            "per slice; add it to masks/ or train a classifier only (--config cov_ctnet)"
        )
