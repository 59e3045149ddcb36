"""The slices of a run: its data as it saw them, and what each stage reads of a part."""

from typing import Any

import numpy as np

from covjax.config import stage_names
from covjax.data.contents import prepared_dir
from covjax.data.loader import SliceReader
from covjax.data.prepared import Prepared, open_prepared, prepare
from covjax.data.resizing import box_at, check_fits, scaled_shape
from covjax.data.splits import part_indices
from covjax.data.views import ViewSettings, box_shape, seen_box
from covjax.errors import InputError
from covjax.inputs import size_field, slice_size


def open_run_data(config: Any, splits: dict[str, Any]) -> Prepared:
    """Opens the data as the run saw them: prepared ones if they are still there, even when the source is gone."""
    folder = prepared_dir(config.data) / f"{splits['source']}-{splits['fingerprint']}"
    if (folder / "index.json").is_file():
        return open_prepared(folder)
    data = prepare(config.data)
    if data.fingerprint != splits["fingerprint"]:
        raise InputError(f"data.path: {config.data.path} changed since this run was trained, restore the data")
    return data


def part_reader(
    name: str, config: Any, data: Prepared, splits: dict[str, Any], part: str, *,
    cache: bool | None = None, selection: str | None = None, native: bool = False,
) -> SliceReader:  # fmt: skip
    """Slices of a part as a stage wants them: all for the classifier, those it trains on for the segmenter.

    `selection` replaces config.segmenter.slices; `native` adds the slices in their own size.

    Raises InputError if there is none, or one lacks the mask it needs.
    """
    indices = part_indices(data, splits, part)
    if name == "segmenter":
        _check_masks(data, indices)
        if (selection or config.segmenter.slices) == "infected":
            indices = indices[data.labels[indices] == 1]
    if not len(indices):
        raise InputError(f"{name}: the {part} part has no slice to work on, add slices or change split.shares or seed")
    cache = config.data.cache if cache is None else cache
    return SliceReader(data, indices, view_settings(config[name], config.data), cache, native)


def view_settings(stage: Any, data: Any) -> ViewSettings:
    """Returns how slices are shown to a stage, from its section of a configuration and the section `data`."""
    return ViewSettings(slice_size(stage.input), tuple(stage.input.size), data.spacing, data.lung_crop)


def check_sizes(config: Any, data: Prepared) -> None:
    """Raises InputError if slices are shown at one scale and one has no spacing or is larger than a stage takes."""
    if not config.data.spacing:
        return
    stages = {name: config[name].input for name in stage_names(config)}
    for i, (slice_id, stored, spacing) in enumerate(zip(data.ids, data.shapes, data.spacings, strict=True)):
        shape = scaled_shape(slice_id, stored, spacing, config.data.spacing)
        if config.data.lung_crop:  # of which the picture alone tells the size
            shape = box_at(box_shape(seen_box(data.decode(i)[0], True)), spacing, config.data.spacing)
        for name, settings in stages.items():
            check_fits(
                slice_id, shape, slice_size(settings), config.data.spacing, f"{name}.input.{size_field(settings)}"
            )


def _check_masks(data: Prepared, indices: np.ndarray) -> None:
    without = indices[~data.has_mask[indices]]
    if len(without):
        raise InputError(
            f"{data.ids[without[0]]} (and {len(without) - 1} more): no mask, segmentation needs one per slice; "
            "add it to masks/ or train a classifier only (configs/cov_ctnet.py)"
        )
