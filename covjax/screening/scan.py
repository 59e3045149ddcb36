"""One scan through a trained run: its masks, overlays, lines of the tables and notes."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from covjax.data.formats.dicom_seg import read_sources, write_segmentation
from covjax.data.formats.nifti import mask_files, write_mask
from covjax.data.intensity import eight_bit
from covjax.data.listing import Skip
from covjax.errors import InputError
from covjax.evaluation.predictions import mask_picture
from covjax.files import write_json
from covjax.progress import report_event
from covjax.records import read_record_or_empty
from covjax.screening.extent import Line, Window, mask_columns, scan_line, slice_line, voxel_size
from covjax.screening.inputs import Scan
from covjax.screening.lungs import COUNTS, Lungs, find_lungs, lung_notes
from covjax.screening.overlays import class_areas, class_volumes, mask_notes, overlay
from covjax.screening.screener import CHUNK, ScreenedSlice, Screener

UNITS = "units"  # of the folder of unfinished results: pictures that are done


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


@dataclass
class _Part:
    """What is found in some of a scan's slices: all of a volume, a unit of a folder's pictures."""

    lines: list[Line] = field(default_factory=list[Line])
    # by COUNTS, in mm3, or in pixels without voxel sizes
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0.0))
    noted: dict[str, int] = field(default_factory=dict[str, int])  # in how many slices
    skipped: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])  # of reading them

    def add(self, other: "_Part") -> None:
        self.lines += other.lines
        self.skipped += other.skipped
        self.notes += [note for note in other.notes if note not in self.notes]
        for name, amount in other.sums.items():
            self.sums[name] += amount
        for note, count in other.noted.items():
            self.noted[note] = self.noted.get(note, 0) + count


K = TypeVar("K", ScreenedScan, _Part)


def screen_scan(job: Job, scan: Scan) -> ScreenedScan:
    """Screens one scan and writes its masks and overlays.

    Of pictures, those are kept that an earlier, stopped call has done.
    """
    window = job.window_of(scan)
    lungs = find_lungs(scan) if job.screener.segments else None
    targets = _mask_targets(job, scan)
    with tqdm(total=len(scan), desc=f"screening {scan.name}", unit="slice") as bar:
        found = _Part()
        if scan.volume is None:
            for unit in _units(job, scan, window, lungs, targets, bar):
                found.add(unit)
        else:
            every = range(len(scan))
            masks = _masks(job, scan, window, lungs, targets, every, found, bar)
            _write_masks(job, scan, targets, masks)
            found.notes = list(scan.notes)
    lines = found.lines
    notes = [*found.notes, *job.screener.notes]
    named = list(dict.fromkeys(targets.files)) if scan.volume else []
    if scan.volume and named:
        notes += mask_notes(scan.volume, len(named), bool(targets.sources))
    notes += [f"{note} ({count} of {len(scan)} slices)" for note, count in found.noted.items()]
    if lungs is not None:
        without = sum(line["infected_share_of_lung"] is None for line in lines)
        notes += lung_notes(scan, lungs, found.sums, without)
    line = scan_line(scan, window, lines, None if lungs is None else found.sums)
    line |= class_volumes(lines, job.screener.classes)
    line |= {"mask": "; ".join(named), "notes": "; ".join(notes)}
    return ScreenedScan(line, lines, notes, found.skipped)


def read_kept(kind: type[K], job: Job, record: Path, state: list[list[Any]]) -> K | None:
    """Returns what `write_kept` kept; None if files have changed since, or the record has.

    What could not be used then is passed over again.
    """
    found = read_record_or_empty(record, dict[str, Any])
    values = found.get("values")
    names = {one.name for one in fields(kind)}
    if found != _sealed(values, state) or not isinstance(values, dict) or values.keys() != names:
        return None
    kept = kind(**values)
    for reason in kept.skipped:
        job.skip(InputError(reason))
    return kept


def write_kept(record: Path, found: ScreenedScan | _Part, state: list[list[Any]]) -> None:
    """Keeps what is found, for a further call if this one is stopped."""
    write_json(record, _sealed(asdict(found), state))


def _sealed(values: Any, state: list[list[Any]]) -> dict[str, Any]:
    """Returns a record with a digest: one that was damaged is not used."""
    content = json.dumps([values, state])
    digest = hashlib.sha256(content.encode()).hexdigest()
    return {"values": values, "stamps": state, "sha256": digest}


def stamps(files: Iterable[Path]) -> list[list[Any]]:
    """Returns what tells whether files are as they were. Raises OSError."""
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _units(
    job: Job, scan: Scan, window: Window, lungs: Lungs | None, targets: "_MaskTargets", bar: tqdm
) -> Iterator[_Part]:
    """Yields what is found in the pictures of a folder, unit by unit, and keeps it in units/.

    A unit is what the networks take together, so that it does not matter where a call stopped.
    """
    size = CHUNK * job.screener.batch_size
    for start in range(0, len(scan), size):
        indices = range(start, min(start + size, len(scan)))
        record = job.output / UNITS / scan.name / f"{start}.json"
        state = stamps(scan.files[start : indices.stop])
        unit = read_kept(_Part, job, record, state)
        if unit is not None:
            bar.update(len(indices))
        else:
            unit = _Part()
            for _ in _masks(job, scan, window, lungs, targets, indices, unit, bar):
                pass  # each is written as it comes
            unit.notes = list(scan.notes)
            write_kept(record, unit, state)
        yield unit
        report_event("pictures", scan=scan.name, slices=indices.stop, of=len(scan))


def _masks(
    job: Job, scan: Scan, window: Window, lungs: Lungs | None, targets: "_MaskTargets",
    indices: range, found: _Part, bar: tqdm,
) -> Iterator[np.ndarray]:  # fmt: skip
    """Yields the masks of some slices, writes what belongs to each, and adds it to `found`."""
    classes = job.screener.classes
    for index, image, one in _slices(job, scan, window, indices, found.skipped):
        for note in one.notes:
            found.noted[note] = found.noted.get(note, 0) + 1
        line = slice_line(scan, index, one)
        found.lines.append(line)
        drawn = image
        if lungs is not None and one.mask is not None:
            counted, counts = lungs.divide(index, image, one.mask)
            line |= mask_columns(scan, counted, counts)
            line |= class_areas(counted, classes, scan.spacing)
            line["mask"] = targets.files[index]
            for name, count in counts.items():
                found.sums[name] += count * voxel_size(scan, index)
            if scan.volume is None:
                _save(mask_picture(one.mask, bool(classes)), job.output / targets.files[index])
            drawn = overlay(image, one.mask)
        _save(Image.fromarray(drawn), job.output / "overlays" / f"{scan.ids[index]}.png")
        bar.update()
        if one.mask is not None:
            yield one.mask


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
    """Writes the masks of a volume as they come, as one file."""
    if scan.volume is None or not targets.files:
        for _ in masks:
            pass
    elif targets.sources:
        classes = job.screener.classes or ("infection",)
        path = job.output / targets.files[0]
        write_segmentation(path, masks, scan.volume, targets.sources, job.run, classes)
    else:
        write_mask(job.output / f"masks/{scan.name}.nii.gz", masks, scan.volume)


def _slices(
    job: Job, scan: Scan, window: Window, indices: range, skipped: list[str]
) -> Iterator[tuple[int, np.ndarray, ScreenedSlice]]:
    """Yields (index, slice uint8 [H, W], what is found).

    One that cannot be read ends a volume, not a folder; of a folder, `skipped` takes the reason.
    """
    held: list[tuple[int, np.ndarray]] = []

    def reading() -> Iterator[np.ndarray]:
        for index in indices:
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

    name = f"{scan.path} from {scan.ids[indices.start]} on" if indices.start else scan.path
    for found in job.screener.screen(reading(), scan.spacing, name):
        index, image = held.pop(0)
        yield index, image, found


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
