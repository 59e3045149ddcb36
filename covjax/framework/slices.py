"""The slices of a run: its data as it saw them, and what each stage reads of a part."""

from typing import Any

import numpy as np

from covjax.config import stage_names
from covjax.data.contents import prepared_dir
from covjax.data.loader import SliceReader, SliceSizes
from covjax.data.prepared import Prepared, open_prepared, prepare
from covjax.data.resizing import check_fits
from covjax.data.splits import part_indices
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
    cache: bool | None = None, selection: str | None = None,
) -> SliceReader:  # fmt: skip
    """Slices of a part as a stage wants them: all for the classifier, those it trains on for the segmenter.

    `selection` replaces config.segmenter.slices. Raises InputError if there is none, or one lacks the mask it needs.
    """
    indices = part_indices(data, splits, part)
    if name == "segmenter":
        _check_masks(data, indices)
        if (selection or config.segmenter.slices) == "infected":
            indices = indices[data.labels[indices] == 1]
    if not len(indices):
        raise InputError(f"{name}: the {part} part has no slice to work on, add slices or change split.shares or seed")
    stage = config[name]
    check_sizes(config, data)
    sizes = SliceSizes(slice_size(stage.input), tuple(stage.input.size), stretched=not config.data.spacing)
    return SliceReader(data, indices, sizes, config.data.cache if cache is None else cache)


def check_sizes(config: Any, data: Prepared) -> None:
    """Raises InputError if slices keep their scale and one is larger than a stage takes."""
    for name in stage_names(config) if config.data.spacing else ():
        field = size_field(config[name].input)
        size = config[name].input[field]
        for slice_id, shape in zip(data.ids, data.shapes, strict=True):
            check_fits(slice_id, shape, size, config.data.spacing, f"{name}.input.{field}")


def _check_masks(data: Prepared, indices: np.ndarray) -> None:
    without = indices[~data.has_mask[indices]]
    if len(without):
        raise InputError(
            f"{data.ids[without[0]]} (and {len(without) - 1} more): no mask, segmentation needs one per slice; "
            "add it to masks/ or train a classifier only (configs/cov_ctnet.py)"
        )
