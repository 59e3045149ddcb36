"""One scan through a trained run: its masks, overlays, lines of the tables and notes."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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
from covjax.screening.extent import (
    Line,
    Window,
    scan_line,
    slice_line,
    voxel_size,
)
from covjax.screening.inputs import Scan
from covjax.screening.lungs import PARTS, find_lungs, lung_notes, share_of_lung
from covjax.screening.overlays import (
    class_areas,
    class_volumes,
    mask_notes,
    overlay,
)
from covjax.screening.screener import Screened, Screener


class Job(NamedTuple):
    """What every scan is screened with."""

    screener: Screener
    window_of: Callable[[Scan], Window]
    output: Path  # where it is written until all is done
    skip: Skip
    segmentations: bool  # of DICOM scans
    run: str  # tells the run


def screen_scan(job: Job, scan: Scan) -> dict[str, Any]:
    """Screens one scan and writes its masks and overlays.

    Returns its line of scans.csv, those of its slices, its notes, and what was skipped.
    """
    lines = []
    window = job.window_of(scan)
    classes = job.screener.classes
    spacing = scan.volume.spacing if scan.volume else None
    sums = dict.fromkeys(PARTS, 0.0)  # mm3, or pixels where the size of voxels is not known
    segments = "segmenter" in job.screener.stages
    noted = Counter()
    skipped = []
    lungs = find_lungs(scan) if segments else None
    sources = (
        read_sources(scan.volume)
        if job.segmentations and scan.volume and scan.volume.frames
        else []
    )
    mask_file = (
        f"masks/{scan.name}.{'dcm' if sources else 'nii.gz'}" if scan.volume and segments else ""
    )
    files = _mask_files(scan, mask_file, bool(sources)) if mask_file else []

    def masks() -> Iterator[np.ndarray]:
        for index, image, found in _slices(job, scan, window, skipped):
            counted, counts = lungs.divide(index, image, found.mask) if segments else (None, {})
            line = slice_line(scan, index, found._replace(mask=counted))
            noted.update(found.notes)
            if segments:
                line["infected_outside_lung_pixels"] = counts["outside"]
                line["infected_share_of_lung"] = share_of_lung(counts)
                for part, count in counts.items():
                    sums[part] += count * voxel_size(scan, index)
                line["mask"] = files[index] if files else f"masks/{scan.ids[index]}.png"
                line |= class_areas(counted, classes, spacing)
            drawn = Image.fromarray(overlay(image, found.mask) if segments else image)
            _save(drawn, job.output / "overlays" / f"{scan.ids[index]}.png")
            lines.append(line)
            yield found.mask

    _write_masks(job, scan, mask_file, sources, masks(), lines)
    summed = scan_line(scan, window, lines, sums if segments else None)
    named = list(dict.fromkeys(files))
    notes = [*scan.notes, *job.screener.notes]
    if scan.volume and named:
        notes += mask_notes(scan.volume, len(named), bool(sources))
    notes += [f"{note} ({count} of {len(scan)} slices)" for note, count in noted.items()]
    if lungs:
        without = sum(line["infected_share_of_lung"] is None for line in lines)
        notes += lung_notes(scan, lungs, sums, without)
    summed |= class_volumes(lines, classes) | {"mask": "; ".join(named), "notes": "; ".join(notes)}
    return {"scan": summed, "slices": lines, "notes": notes, "skipped": skipped}


def _write_masks(
    job: Job,
    scan: Scan,
    mask_file: str,
    sources: Sequence[Any],
    masks: Iterator[np.ndarray],
    lines: Sequence[Line],
) -> None:
    """Writes the masks of a scan as they come, which adds the slices' lines to `lines`."""
    classes = job.screener.classes
    if sources:
        path = job.output / mask_file
        names = classes or ("infection",)
        write_segmentation(path, masks, scan.volume, sources, job.run, names)
    elif mask_file:
        write_mask(job.output / mask_file, masks, scan.volume)
    else:
        for mask in masks:
            if "mask" in lines[-1]:
                _save(mask_picture(mask, bool(classes)), job.output / lines[-1]["mask"])


def _mask_files(scan: Scan, name: str, segmentation: bool) -> list[str]:
    """Returns the file of each slice's mask: one for all, or of NIfTI one for each even run of
    slices.
    """
    if segmentation:
        return [name] * len(scan)
    path = Path(name)
    files = mask_files(path, scan.volume)
    return [
        file.as_posix()
        for file, grid in zip(files, scan.volume.grids, strict=True)
        for _ in grid.places
    ]


def _slices(
    job: Job, scan: Scan, window: Window, skipped: list[str]
) -> Iterator[tuple[int, np.ndarray, Screened]]:  # fmt: skip
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

    results = job.screener.screen(reading(), scan.volume and scan.volume.spacing, scan.path)
    for found in tqdm(results, total=len(scan), desc=f"screening {scan.name}", unit="slice"):
        yield (*held.pop(0), found)


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
