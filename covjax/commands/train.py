"""Trains a run and evaluates it on the test part of its data.

  covjax train --config configs/framework.py --workdir runs/NAME
      [--config.SECTION.FIELD=VALUE ..]

Run the same command again to resume an interrupted run; a finished one is
evaluated again. A configuration with a grid of variants, as
configs/study.py:pooling, is a study: see covjax study.
"""

from pathlib import Path

from covjax.commands import cli, study
from covjax.commands.config_flag import define_config, use_config_flags
from covjax.commands.evaluate import show
from covjax.commands.shared_flags import define_workdir
from covjax.runs.train import train_run

FLAGS = cli.new_flags()
_CONFIG = define_config(FLAGS)
_WORKDIR = define_workdir(FLAGS, "Folder of this run: checkpoints, results, report.")


def train() -> None:
    config = _CONFIG.value
    workdir = Path(_WORKDIR.value)
    if "study" in config:
        study.train_variants(config, workdir)
        return
    use_config_flags(config)
    train_run(config, workdir)
    show(workdir)


def main() -> None:
    cli.run(train, FLAGS, __doc__, required=("config", "workdir"))


if __name__ == "__main__":
    main()
