"""Trains a run: `python train.py --config configs/framework.py --workdir runs/NAME [--config.a.b=value ...]`.

Run the same command again to resume an interrupted run; a finished one is evaluated again.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from covjax import cli
from covjax.framework import train_run
from covjax.report import build_report, summary_table
from covjax.runtime import use_xla_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file, see configs/.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run: checkpoints, results, report.")
flags.mark_flags_as_required(["config", "workdir"])


def main() -> None:
    workdir = Path(_WORKDIR.value)
    use_xla_flags(_CONFIG.value.get("xla_flags", "none"))
    train_run(_CONFIG.value, workdir)
    print(summary_table(workdir))
    print(f"report: {build_report(workdir)}")


if __name__ == "__main__":
    cli.run(main)
