"""Trains a run: `python train.py --config configs/framework.py --workdir runs/NAME
[--config.a.b=value ...]`.

Run the same command again to resume an interrupted run; a finished one is evaluated again. A
configuration with a grid of variants, as configs/study.py:pooling, trains them all and compares
them.

python train.py --config configs/framework.py --show_augmentation=OUT.png   what augmentation does to training slices
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from covjax.commands import cli
from covjax.errors import InputError
from covjax.files import write_whole
from covjax.report import (
    augmentation_grid,
    build_report,
    build_study_page,
    study_table,
    summary_table,
)
from covjax.runs.preview import preview_augmentation
from covjax.runs.train import train_run
from covjax.runtime import use_xla_flags
from covjax.study import run_study

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file, see configs/.", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run: checkpoints, results, report.")
_SHOW = flags.DEFINE_string(
    "show_augmentation", None, "PNG to draw instead: training slices, augmented."
)

JOBS = {("config", "workdir"): (), ("config", "show_augmentation"): ()}


def main() -> None:
    cli.check_flags(JOBS)
    if _SHOW.value is not None:
        return show_augmentation(Path(_SHOW.value))
    workdir = Path(_WORKDIR.value)
    use_xla_flags(_CONFIG.value.get("xla_flags", "none"))
    if "study" in _CONFIG.value:
        run_study(_CONFIG.value, workdir)
        print(study_table(workdir))
        print(f"study: {build_study_page(workdir)}")
        return
    train_run(_CONFIG.value, workdir)
    print(summary_table(workdir))
    print(f"report: {build_report(workdir)}")


def show_augmentation(output: Path) -> None:
    if output.suffix.lower() != ".png":
        raise InputError(f"--show_augmentation: {output} must end in .png")
    write_whole(output, augmentation_grid(preview_augmentation(_CONFIG.value)))
    print(output)


if __name__ == "__main__":
    cli.run(main)
