"""Evaluates a trained run, screens new slices with it, compares or pools runs, audits data, or
trains by protocols.

python eval.py --workdir runs/NAME [--split val]                  scores on one part of the run's own data
python eval.py --workdir runs/NAME --input PATH --output OUT      masks, extent and pages of new scans and pictures
python eval.py --compare runs/A runs/B .. --output OUT            evaluated runs side by side
python eval.py --pool runs/FOLD0 runs/FOLD1 .. --output OUT       their predictions together, scored once
python eval.py --audit --config configs/NAME.py [--output OUT]    what is wrong with a data source
python eval.py --audit --workdir runs/NAME [--output OUT]         what is wrong with the data of a run
python eval.py --protocols OUT --config configs/NAME.py           the paper's protocol and honest ones (or --workdir)

An audit ends with status 3 if it found something serious, 0 if not. Bad input ends with 1, a bad
flag with 2.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from covjax import report
from covjax.commands import cli
from covjax.data.formats.deep_pictures import BITS
from covjax.data.formats.hounsfield import INTENSITIES
from covjax.evaluation.options import Options, make_options
from covjax.evaluation.paired import paired_differences
from covjax.runs.audit import audit_run, audit_source
from covjax.runs.evaluate import evaluate_run
from covjax.runs.pool import pool_runs
from covjax.runs.protocols import run_protocols
from covjax.runtime import use_xla_flags
from covjax.screening.screen import MASKS, ON_ERROR, screen
from covjax.settings.config import read_config

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.")
_SPLIT = flags.DEFINE_string(
    "split", "test", "Part of the data to evaluate or compare: train, val or test."
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", None, "Slices per batch; default: as in training.", lower_bound=1
)
_INPUT = flags.DEFINE_string(
    "input", None, "A scan (NIfTI, DICOM, DICOMDIR), a picture, or a folder of any of them."
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder to write screening, comparison, pooled results or audit to."
)
_WINDOW = flags.DEFINE_string(
    "window",
    "",
    "Of slices unlike those trained on: lung, mediastinum or CENTRE,WIDTH for HU, as_is for 8-bit ones.",
)
_INTENSITY = flags.DEFINE_enum(
    "intensity",
    "auto",
    list(INTENSITIES),
    "Of scans and 16-bit pictures to screen: what their values are.",
)
_BITS = flags.DEFINE_enum(
    "bits", "0", [str(bits) for bits in BITS], "Of grey levels in 16-bit pictures to screen."
)
_ON_ERROR = flags.DEFINE_enum(
    "on_error", "stop", list(ON_ERROR), "At a file that cannot be used: stop, or skip it."
)
_MASKS = flags.DEFINE_enum(
    "masks",
    "nifti",
    list(MASKS),
    "Of scans: nifti; dicom_seg, of DICOM scans, holds the patient's name as they do.",
)
_TTA = flags.DEFINE_list(
    "tta", [], "Average over mirror images (flips), sizes (scales) or both (flips,scales)."
)
_MIN_SIZE = flags.DEFINE_integer(
    "min_size", 0, "Drop components of a mask of fewer pixels of the slice."
)
_SAVE_PREDICTIONS = flags.DEFINE_string(
    "save_predictions", None, "Write masks: png, or npz (with probability)."
)
_EXPLAIN = flags.DEFINE_bool(
    "explain", False, "Show in the report what the classifier looks at (Grad-CAM)."
)
_COMPARE = flags.DEFINE_multi_string(
    "compare", None, "Folders of evaluated runs; the others are set beside the first."
)
_POOL = flags.DEFINE_multi_string(
    "pool", None, "Folders of evaluated runs, one per fold, to score as one."
)
_AUDIT = flags.DEFINE_bool(
    "audit", False, "Audit data: exit status 3 if something serious was found."
)
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "What to audit or train, see configs/.", lock_config=True
)
_PROTOCOLS = flags.DEFINE_string(
    "protocols", None, "Folder to train and score the paper's and honest protocols in."
)

SERIOUS = 3  # exit status of an audit that found something serious
# The flags that ask for each job, and those that may go with them.
JOBS = {
    ("workdir",): ("split", "batch_size", "tta", "min_size", "save_predictions", "explain"),
    ("workdir", "input", "output"): (
        "batch_size",
        "window",
        "intensity",
        "bits",
        "on_error",
        "masks",
        "tta",
        "min_size",
    ),  # fmt: skip
    ("compare", "output"): ("split",),
    ("pool", "output"): ("split",),
    ("audit", "workdir"): ("output",),
    ("audit", "config"): ("output",),
    ("protocols", "config"): (),
    ("protocols", "workdir"): (),
}


def main() -> int | None:
    cli.check_flags(JOBS)
    if _COMPARE.value:
        return compare([Path(run) for run in _COMPARE.value])
    if _POOL.value:
        pool_runs([Path(run) for run in _POOL.value], Path(_OUTPUT.value), _SPLIT.value)
        return show(Path(_OUTPUT.value))
    if _AUDIT.value:
        return audit()
    if _PROTOCOLS.value:
        return protocols(Path(_PROTOCOLS.value))
    workdir = Path(_WORKDIR.value)
    options = make_options(_TTA.value, _MIN_SIZE.value)
    use_xla_flags(read_config(workdir).get("xla_flags", "none"))
    if _INPUT.value is not None:
        return screening(workdir, Path(_INPUT.value), Path(_OUTPUT.value), options)
    asked = {"save_predictions": _SAVE_PREDICTIONS.value, "explain": _EXPLAIN.value}
    evaluate_run(workdir, _SPLIT.value, _BATCH_SIZE.value, options=options, **asked)
    return show(workdir)


def show(workdir: Path) -> None:
    print(report.summary_table(workdir))
    print(f"report: {report.build_report(workdir)}")


def screening(workdir: Path, path: Path, output: Path, options: Options) -> None:
    told = {"window": _WINDOW, "intensity": _INTENSITY, "on_error": _ON_ERROR, "masks": _MASKS}
    told = {name: flag.value for name, flag in told.items()} | {"bits": int(_BITS.value)}
    print(screen(workdir, path, output, _BATCH_SIZE.value, options, **told))
    print(f"page: {report.build_screening(output)}")


def compare(runs: list[Path]) -> None:
    table = report.comparison_table(runs, _SPLIT.value)
    page = report.build_comparison(
        runs, _SPLIT.value, Path(_OUTPUT.value), paired_differences(runs, _SPLIT.value)
    )
    print(f"{table}\ncomparison: {page}")


def audit() -> int:
    config = _CONFIG.value
    run = _WORKDIR.value
    output = Path(_OUTPUT.value or (f"{run}/audit" if run else f"runs/audit_{config.data.source}"))
    serious = audit_run(Path(run), output) if run else audit_source(config, output)
    print(report.audit_table(output))
    print(f"audit: {report.build_audit_page(output)}")
    return SERIOUS if serious else 0


def protocols(output: Path) -> None:
    config = _CONFIG.value or read_config(Path(_WORKDIR.value))
    use_xla_flags(config.get("xla_flags", "none"))
    run_protocols(config, output)
    print(report.protocols_table(output))
    print(f"protocols: {report.build_protocols_page(output)}")


if __name__ == "__main__":
    cli.run(main, more=("compare", "pool"))
