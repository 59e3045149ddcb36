"""One scan through a trained run: its masks, overlays, lines of the tables and notes."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from covjax.data.formats.dicom_seg import read_sources, write_segmentation
from covjax.data.formats.nifti import mask_files, write_mask
from covjax.data.intensity import eight_bit
from covjax.data.listing import Skip
from covjax.errors import InputError
from covjax.evaluation.predictions import mask_picture
from covjax.screening.extent import Line, Window, mask_columns, scan_line, slice_line, voxel_size
from covjax.screening.inputs import Scan
from covjax.screening.lungs import COUNTS, find_lungs, lung_notes
from covjax.screening.overlays import class_areas, class_volumes, mask_notes, overlay
from covjax.screening.screener import ScreenedSlice, Screener


class Job(NamedTuple):
    """What every scan is screened with."""

    screener: Screener
    window_of: Callable[[Scan], Window]
    output: Path  # where it is written until all is done
    skip: Skip
    segmentations: bool  # of DICOM scans
    run: str  # identifies the run


@dataclass
class ScreenedScan:
    """What a screening says of a scan, as its record holds it until all scans are done."""

    scan: Line  # of scans.csv
    slices: list[Line]  # of predictions.csv
    notes: list[str]
    skipped: list[str]  # why some of its pictures could not be used


def screen_scan(job: Job, scan: Scan) -> ScreenedScan:
    """Screens one scan and writes its masks and overlays."""
    window = job.window_of(scan)
    classes = job.screener.classes
    lungs = find_lungs(scan) if job.screener.segments else None
    targets = _mask_targets(job, scan)
    lines: list[Line] = []
    sums: dict[str, float] = dict.fromkeys(COUNTS, 0.0)  # mm3, or pixels without voxel sizes
    noted: Counter[str] = Counter()
    skipped: list[str] = []

    def masks() -> Iterator[np.ndarray]:
        for index, image, found in _slices(job, scan, window, skipped):
            noted.update(found.notes)
            line = slice_line(scan, index, found)
            lines.append(line)
            drawn = image
            if lungs is not None and found.mask is not None:
                counted, counts = lungs.divide(index, image, found.mask)
                line |= mask_columns(scan, counted, counts)
                line |= class_areas(counted, classes, scan.spacing)
                line["mask"] = targets.files[index]
                for name, count in counts.items():
                    sums[name] += count * voxel_size(scan, index)
                if scan.volume is None:
                    _save(
                        mask_picture(found.mask, bool(classes)), job.output / targets.files[index]
                    )
                drawn = overlay(image, found.mask)
            _save(Image.fromarray(drawn), job.output / "overlays" / f"{scan.ids[index]}.png")
            if found.mask is not None:
                yield found.mask

    _write_masks(job, scan, targets, masks())
    notes = [*scan.notes, *job.screener.notes]
    named = list(dict.fromkeys(targets.files)) if scan.volume else []
    if scan.volume and named:
        notes += mask_notes(scan.volume, len(named), bool(targets.sources))
    notes += [f"{note} ({count} of {len(scan)} slices)" for note, count in noted.items()]
    if lungs is not None:
        without = sum(line["infected_share_of_lung"] is None for line in lines)
        notes += lung_notes(scan, lungs, sums, without)
    line = scan_line(scan, window, lines, None if lungs is None else sums)
    line |= class_volumes(lines, classes) | {"mask": "; ".join(named), "notes": "; ".join(notes)}
    return ScreenedScan(line, lines, notes, skipped)


class _MaskTargets(NamedTuple):
    """Where the masks of a scan go."""

    files: Sequence[str]  # of each slice; empty without a segmenter
    sources: Sequence[Any]  # of a DICOM segmentation: the pictures that it is of


def _mask_targets(job: Job, scan: Scan) -> _MaskTargets:
    if not job.screener.segments:
        return _MaskTargets((), ())
    volume = scan.volume
    if volume is None:
        return _MaskTargets([f"masks/{name}.png" for name in scan.ids], ())
    sources = read_sources(volume) if job.segmentations and volume.frames else ()
    if sources:
        return _MaskTargets([f"masks/{scan.name}.dcm"] * len(scan), sources)
    files = mask_files(Path(f"masks/{scan.name}.nii.gz"), volume)
    places = [
        file.as_posix() for file, grid in zip(files, volume.grids, strict=True) for _ in grid.places
    ]
    return _MaskTargets(places, ())


def _write_masks(job: Job, scan: Scan, targets: _MaskTargets, masks: Iterator[np.ndarray]) -> None:
    """Writes the masks of a scan as they come, those of a volume as one."""
    if scan.volume is None or not targets.files:
        for _ in masks:  # each picture's is written as it comes
            pass
    elif targets.sources:
        classes = job.screener.classes or ("infection",)
        path = job.output / targets.files[0]
        write_segmentation(path, masks, scan.volume, targets.sources, job.run, classes)
    else:
        write_mask(job.output / f"masks/{scan.name}.nii.gz", masks, scan.volume)


def _slices(
    job: Job, scan: Scan, window: Window, skipped: list[str]
) -> Iterator[tuple[int, np.ndarray, ScreenedSlice]]:
    """Yields (index, slice uint8 [H, W], what is found).

    One that cannot be read ends a volume, not a folder; of a folder, `skipped` takes the reason.
    """
    held: list[tuple[int, np.ndarray]] = []

    def reading() -> Iterator[np.ndarray]:
        for index in range(len(scan)):
            try:
                image = eight_bit(scan.read(index), window)
            except InputError as error:
                if scan.volume:
                    raise
                job.skip(error)
                skipped.append(str(error))
                continue
            held.append((index, image))
            yield image

    results = job.screener.screen(reading(), scan.spacing, scan.path)
    for found in tqdm(results, total=len(scan), desc=f"screening {scan.name}", unit="slice"):
        index, image = held.pop(0)
        yield index, image, found


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
