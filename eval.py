"""Evaluates a trained run, or screens new slices with it.

python eval.py --workdir runs/NAME [--split val]                  scores on one part of the run's own data
python eval.py --workdir runs/NAME --input FOLDER --output OUT    probabilities, masks and overlays of new slices
"""

from pathlib import Path

from absl import flags

from covjax import cli
from covjax.config import read_config
from covjax.errors import InputError
from covjax.framework import evaluate_run, screen_folder
from covjax.report import build_report, summary_table
from covjax.runtime import use_xla_flags

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.")
_SPLIT = flags.DEFINE_string("split", "test", "Part of the run's data to evaluate: train, val or test.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Slices per batch; default: as in training.", lower_bound=1)
_INPUT = flags.DEFINE_string("input", None, "Folder of new slices to screen.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write screening results to.")
flags.mark_flag_as_required("workdir")


def main() -> None:
    workdir = Path(_WORKDIR.value)
    if (_INPUT.value is None) != (_OUTPUT.value is None):
        raise InputError("--input and --output belong together, give both")
    use_xla_flags(read_config(workdir).get("xla_flags", "none"))
    if _INPUT.value is not None:
        print(screen_folder(workdir, Path(_INPUT.value), Path(_OUTPUT.value), _BATCH_SIZE.value))
        return
    evaluate_run(workdir, _SPLIT.value, _BATCH_SIZE.value)
    print(summary_table(workdir))
    print(f"report: {build_report(workdir)}")


if __name__ == "__main__":
    cli.run(main)
