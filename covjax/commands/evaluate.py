"""Evaluates a trained run on one split of its own data.

covjax evaluate --workdir runs/NAME [--split val] [--tta flips,scales]
"""

from pathlib import Path

from absl import flags

from covjax.commands import cli
from covjax.commands.shared_flags import (
    define_batch_size,
    define_min_size,
    define_path,
    define_progress,
    define_split,
    define_tta,
    define_workdir,
)
from covjax.evaluation.options import make_options

FLAGS = cli.new_flags()
_WORKDIR = define_workdir(FLAGS)
_SPLIT = define_split(FLAGS)
_BATCH_SIZE = define_batch_size(FLAGS)
_TTA = define_tta(FLAGS)
_MIN_SIZE = define_min_size(FLAGS)
_SAVE_PREDICTIONS = flags.DEFINE_string(
    "save_predictions",
    None,
    "Write masks to results/SPLIT/predictions: png, or npz (with probability).",
    flag_values=FLAGS,
)
_EXPLAIN = flags.DEFINE_bool(
    "explain",
    False,
    "Show in the report what the classifier looks at (Grad-CAM).",
    flag_values=FLAGS,
)
_DATA_PATH = define_path(
    FLAGS, "data_path", "Folder of the run's slices, if it is no longer that of data.path."
)
define_progress(FLAGS)


def evaluate() -> None:
    from covjax.runs.evaluate import evaluate_run
    from covjax.runtime import use_xla_flags
    from covjax.settings import load_settings

    workdir = cli.given(_WORKDIR)
    options = make_options(_TTA.value, _MIN_SIZE.value)
    use_xla_flags(load_settings(workdir).xla_flags)
    evaluate_run(
        workdir,
        _SPLIT.value,
        _BATCH_SIZE.value,
        options=options,
        save_predictions=_SAVE_PREDICTIONS.value,
        explain=_EXPLAIN.value,
        data_path=_DATA_PATH.value,
    )
    show(workdir)


def show(workdir: Path) -> None:
    """Prints the scores of an evaluated run and writes its report."""
    from covjax.report import build_report, summary_table

    print(summary_table(workdir))
    print(f"report: {build_report(workdir)}")


def main() -> None:
    cli.run(evaluate, FLAGS, __doc__, required=("workdir",))
