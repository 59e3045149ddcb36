"""Evaluates a trained run on a split of its own data, or on another set.

  covjax evaluate --workdir runs/NAME [--split val] [--tta flips,scales]
  covjax evaluate --workdir runs/NAME --output OUT \\
      --config.data.source=folder --config.data.path=OTHER_SLICES

The second scores every slice of the set, seen as in the training, with the
threshold of the run; slices that the run learned from are refused.
"""

import sys
from pathlib import Path
from typing import Any

from absl import flags

from covjax.commands import cli
from covjax.commands.config_flag import define_config, named_by_fields, section_overrides
from covjax.commands.shared_flags import (
    define_batch_size,
    define_data_path,
    define_min_size,
    define_output,
    define_progress,
    define_split,
    define_tta,
    define_window,
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
_DATA_PATH = define_data_path(FLAGS)
_CONFIG = define_config(FLAGS, "--config.data.FIELD=VALUE names another set and how it is read.")
_OUTPUT = define_output(FLAGS, "Folder for the scores on another set, empty or not there.")
_WINDOW = define_window(FLAGS)
define_progress(FLAGS)


def evaluate() -> None:
    from covjax.runs.evaluate import evaluate_run
    from covjax.runs.external import evaluate_on
    from covjax.runtime import use_xla_flags
    from covjax.settings import load_settings

    workdir = cli.given(_WORKDIR)
    fields = section_overrides(FLAGS, "data")
    _check_together(bool(fields))
    how: dict[str, Any] = {
        "options": make_options(_TTA.value, _MIN_SIZE.value),
        "save_predictions": _SAVE_PREDICTIONS.value,
        "explain": _EXPLAIN.value,
        "data_path": _DATA_PATH.value,
    }
    use_xla_flags(load_settings(workdir).xla_flags)
    if not fields:
        evaluate_run(workdir, _SPLIT.value, _BATCH_SIZE.value, **how)
        show(workdir)
        return
    output = cli.given(_OUTPUT)
    evaluate_on(workdir, fields, output, _BATCH_SIZE.value, window=_WINDOW.value, **how)
    show(output)


def _check_together(on_another_set: bool) -> None:
    """Raises flags.Error for flags that do not go with what is evaluated."""
    if on_another_set and _OUTPUT.value is None:
        raise flags.Error("--output is required with --config.data, see --help")
    if on_another_set and FLAGS["split"].present:
        raise flags.Error("--split is of the run's own data, leave it out with --config.data")
    for name in ("output", "window"):
        if not on_another_set and FLAGS[name].present:
            raise flags.Error(f"--{name} goes with --config.data.FIELD=VALUE, see --help")


def show(workdir: Path) -> None:
    """Prints the scores of an evaluated run and writes its report."""
    from covjax.report import build_report, summary_table

    print(summary_table(workdir))
    print(f"report: {build_report(workdir)}")


def main() -> None:
    sys.argv = named_by_fields(sys.argv)
    cli.run(evaluate, FLAGS, __doc__, required=("workdir",))
