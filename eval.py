"""Evaluates a trained run, screens new slices with it, or compares runs.

python eval.py --workdir runs/NAME [--split val]                  scores on one part of the run's own data
python eval.py --workdir runs/NAME --input FOLDER --output OUT    probabilities, masks and overlays of new slices
python eval.py --compare runs/A runs/B .. --output OUT            evaluated runs side by side
"""

from pathlib import Path

from absl import flags

from covjax import cli
from covjax.config import read_config
from covjax.evaluation.paired import paired_differences
from covjax.framework import evaluate_run, screen_folder
from covjax.report import build_comparison, build_report, comparison_table, summary_table
from covjax.runtime import use_xla_flags

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.")
_SPLIT = flags.DEFINE_string("split", "test", "Part of the data to evaluate or compare: train, val or test.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Slices per batch; default: as in training.", lower_bound=1)
_INPUT = flags.DEFINE_string("input", None, "Folder of new slices to screen.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write screening results or a comparison to.")
_COMPARE = flags.DEFINE_multi_string("compare", None, "Folders of evaluated runs; the others are set beside the first.")

# The flags that ask for each job, and those that may go with them.
JOBS = {
    ("workdir",): ("split", "batch_size"),
    ("workdir", "input", "output"): ("batch_size",),
    ("compare", "output"): ("split",),
}


def main() -> None:
    cli.check_flags(JOBS)
    if _COMPARE.value:
        compare([Path(run) for run in _COMPARE.value])
        return
    workdir = Path(_WORKDIR.value)
    use_xla_flags(read_config(workdir).get("xla_flags", "none"))
    if _INPUT.value is not None:
        print(screen_folder(workdir, Path(_INPUT.value), Path(_OUTPUT.value), _BATCH_SIZE.value))
        return
    evaluate_run(workdir, _SPLIT.value, _BATCH_SIZE.value)
    print(summary_table(workdir))
    print(f"report: {build_report(workdir)}")


def compare(runs: list[Path]) -> None:
    table = comparison_table(runs, _SPLIT.value)
    page = build_comparison(runs, _SPLIT.value, Path(_OUTPUT.value), paired_differences(runs, _SPLIT.value))
    print(f"{table}\ncomparison: {page}")


if __name__ == "__main__":
    cli.run(main, more="compare")
