"""Screening whatever lies below a path, scan by scan, resumed where it was stopped."""

import hashlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from covjax import __version__
from covjax.colours import COLOURS
from covjax.data.formats.dicom_seg import check_installed
from covjax.data.intensity import choose_window
from covjax.data.listing import LEFT_OUT, LeftOut, left_out_table, of_error
from covjax.data.sources.source import fingerprint
from covjax.errors import InputError, unknown
from covjax.evaluation.options import PLAIN, Options
from covjax.files import (
    check_new_folder,
    clear_folder,
    move_folder,
    write_json,
    write_whole,
)
from covjax.locks import held
from covjax.progress import report_event
from covjax.records import read_record_or_empty
from covjax.runs.intensity import read_intensity
from covjax.screening.choices import MASKS
from covjax.screening.extent import (
    SCAN_COLUMNS,
    SLICE_COLUMNS,
    Line,
    Window,
)
from covjax.screening.inputs import Opener, Scan, find_screened
from covjax.screening.overlays import (
    scan_columns,
    slice_columns,
)
from covjax.screening.scan import (
    UNITS,
    Job,
    ScreenedScan,
    read_kept,
    screen_scan,
    stamps,
    write_kept,
)
from covjax.screening.screener import Screener
from covjax.settings import RunSettings, load_settings, settings_dict
from covjax.tables import write_table

SKIP_THEM = " (or pass over such files: --on_error=skip)"


def screen(
    workdir: Path,
    path: Path,
    output: Path,
    batch_size: int | None = None,
    options: Options = PLAIN,
    *,
    window: str = "",
    intensity: str = "auto",
    bits: int = 0,
    on_error: str = "stop",
    masks: str = "nifti",
) -> str:
    """Screens a scan, a picture, or every scan and picture below a folder, into `output`.

    Writes predictions.csv (a line per slice), scans.csv (a line per scan), masks (in the scan's own
    geometry, PNG for pictures; 1, 2, .. where classes are kept apart), overlays/ID.png, and
    screening.json: with which run and options, what was skipped, and what is uncertain (notes, by
    scan). Everything is written to OUTPUT.partial first and moved at the end; when it stops,
    scans that are done are kept there, and the same call continues. Returns a few lines
    that say what was found.

    Args:
      workdir: of a finished run.
      path: a file or folder.
      output: a folder that is empty or not there.
      batch_size: slices per batch; as in training by default.
      options: test-time augmentation and the like.
      window: what brings values unlike those trained on to 0..255
        (covjax.data.intensity.choose_window).
      intensity: what the values of volumes and 16-bit pictures are
        (covjax.data.formats.hounsfield.INTENSITIES).
      bits: of grey levels in 16-bit pictures (covjax.data.formats.deep_pictures.BITS); 12 where the
        run was trained on 12.
      on_error: one of ON_ERROR.
      masks: one of MASKS; dicom_seg copies the patient's name and number from a DICOM scan into its
        mask.

    Raises:
      InputError: a file cannot be used; nothing can; `output` holds something else; the run is
        unfinished, or has no segmenter to ask for masks; or what `masks` needs is not installed.
    """
    check_new_folder(output)
    config = load_settings(workdir)
    skipped = []

    def skip(error: InputError) -> None:
        if on_error == "stop":
            raise error if str(error).endswith(SKIP_THEM) else InputError(f"{error}{SKIP_THEM}")
        tqdm.write(f"skipped: {error}")
        skipped.append(error)

    def window_of(scan: Scan) -> Window:
        return choose_window(scan.path, scan.intensity, trained_on, config.data.window, window)

    _check_masks(masks, config)
    trained_on = read_intensity(workdir)
    found, left_out = find_screened(
        path, intensity, bits or (12 if config.data.bits == 12 else 0), skip
    )
    record = _call_record(workdir, path, options, window, intensity, masks) | {"bits": bits}
    partial = output.with_name(output.name + ".partial")
    run = fingerprint([settings_dict(config), record["trained"]])
    screener = Screener.from_workdir(workdir, batch_size, options)
    job = Job(screener, window_of, partial, skip, masks == "dicom_seg", run)
    if screener.classes:
        record["classes"] = dict(zip(screener.classes, COLOURS, strict=False))
    with held(partial):
        check_new_folder(output)  # another process may have filled it since
        _begin(partial, record)
        try:
            opened = [_screened(job, name, opener, len(found)) for name, opener in found.items()]
            done = [scan for scan in opened if scan is not None]
            if not any(scan.slices for scan in done):
                raise InputError(
                    f"--input: nothing of {path} can be used, the first reason: {skipped[0]}"
                )
        except InputError as error:
            _stop(partial, error)
        root = path if path.is_dir() else path.parent
        unused = sorted((*left_out, *(of_error(error, root) for error in skipped)))
        record["left_out"] = [one._asdict() for one in unused]
        record["skipped"] = [*map(str, skipped)]
        record["notes"] = {scan.scan["scan"]: scan.notes for scan in done if scan.notes}
        _finish(partial, output, done, record)
    return _summary(done, len(skipped), len(left_out))


def _stop(partial: Path, error: InputError) -> NoReturn:
    """Raises an error that says how to continue; removes unfinished results if no scan is done."""
    kept = sum(path.is_file() for path in (partial / "done").rglob("*.json"))
    if not kept and not (partial / UNITS).exists():
        clear_folder(partial)
        raise error
    what = f"{kept} scans" if kept else "pictures"
    raise InputError(
        f"{error} ({what} are done and kept: mend it and run the same command again)"
    ) from error


def _check_masks(masks: str, config: RunSettings) -> None:
    if masks not in MASKS:
        raise unknown("--masks", masks, MASKS)
    if masks == "dicom_seg":
        if "segmenter" not in config.stages:
            raise InputError("--masks: this run has no segmenter, leave the flag out")
        check_installed()


def _call_record(
    workdir: Path, path: Path, options: Options, window: str, intensity: str, masks: str
) -> dict[str, Any]:
    """What results depend on: those of a stopped call are used only if all of it is the same."""
    metrics = workdir / "metrics.jsonl"
    return {
        "covjax": __version__,
        "run": str(workdir.resolve()),
        "trained": hashlib.sha256(metrics.read_bytes()).hexdigest() if metrics.is_file() else None,
        "input": str(path.resolve()),
        "options": options.in_force(),
        "window": window,
        "intensity": intensity,
        "masks": masks,
    }


def _begin(partial: Path, record: dict[str, Any]) -> None:
    """Makes the folder of unfinished results, or keeps it if it is of the same call."""
    if read_record_or_empty(partial / "screening.json", dict[str, Any]) != record:
        clear_folder(partial)
    write_json(partial / "screening.json", record)
    (partial / "done").mkdir(exist_ok=True)


def _screened(job: Job, name: str, opener: Opener, scans: int) -> ScreenedScan | None:
    """Returns what is known of one of `scans` scans, None if it is skipped.

    From a stopped call if its files are as they were.
    """
    start = time.perf_counter()
    record = job.output / "done" / f"{name}.json"
    try:
        scan = opener()
        state = stamps(scan.files)
        kept = read_kept(ScreenedScan, job, record, state)
        if kept is not None:
            return kept
        found = screen_scan(job, scan)
    except InputError as error:
        record.unlink(missing_ok=True)
        job.skip(error)
        return None
    write_kept(record, found, state)
    report_event(
        "scan",
        scan=name,
        scans=scans,
        slices=len(found.slices),
        called_infected=found.scan["called_infected"],
        seconds=round(time.perf_counter() - start, 3),
    )
    return found


def _remove_strays(partial: Path, done: Sequence[ScreenedScan]) -> None:
    """Removes masks and overlays that a stopped call wrote of what is not part of the results."""
    lines = [line for scan in done for line in scan.slices]
    named = {f"overlays/{line['id']}.png" for line in lines} | {line.get("mask") for line in lines}
    for path in [*partial.glob("overlays/**/*"), *partial.glob("masks/**/*")]:
        if path.is_file() and path.relative_to(partial).as_posix() not in named:
            path.unlink()


def _finish(
    partial: Path, output: Path, done: Sequence[ScreenedScan], record: dict[str, Any]
) -> None:
    """Writes the tables and moves everything to its place."""
    _remove_strays(partial, done)

    def write(name: str, columns: Sequence[str], lines: Sequence[Line]) -> None:
        rows = [
            ["" if line.get(column) is None else line[column] for column in columns]
            for line in lines
        ]
        write_table(partial / name, columns, rows)

    of_slices, of_scans = (
        columns(record.get("classes", ())) for columns in (slice_columns, scan_columns)
    )
    write(
        "predictions.csv",
        SLICE_COLUMNS + of_slices,
        [line for scan in done for line in scan.slices],
    )
    write("scans.csv", SCAN_COLUMNS + of_scans, [scan.scan for scan in done if scan.slices])
    write_whole(partial / LEFT_OUT, left_out_table([LeftOut(**one) for one in record["left_out"]]))
    write_json(partial / "screening.json", record)
    shutil.rmtree(partial / "done")
    shutil.rmtree(partial / UNITS, ignore_errors=True)
    move_folder(partial, output)


def _summary(done: Sequence[ScreenedScan], skipped: int, others: int) -> str:
    slices = [line for scan in done for line in scan.slices]
    infected = sum(line["called_infected"] for line in slices)
    lines = [f"screened {len(slices)} slices of {len(done)} scans, {infected} called infected"]
    lines += (
        [f"skipped {skipped} that could not be used, listed in left_out.csv and on the page"]
        if skipped
        else []
    )
    lines += (
        [f"left out {others} that are no axial CT or cannot be read, listed there too"]
        if others
        else []
    )
    noted = sum(bool(scan.notes) for scan in done)
    lines += (
        [f"{noted} scans have notes on what is uncertain, in scans.csv and on the page"]
        if noted
        else []
    )
    return "\n".join(lines)
