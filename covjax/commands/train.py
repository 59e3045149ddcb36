"""Trains a run and evaluates it on the test split of its data.

  covjax train --config framework --workdir runs/NAME
      [--config.SECTION.FIELD=VALUE ..]

Run the same command again to resume an interrupted run; a finished one is
evaluated again. A configuration with a grid of variants, as
study:pooling, is a study: see covjax study.
"""

from covjax.commands import cli, study
from covjax.commands.config_flag import define_config
from covjax.commands.evaluate import show
from covjax.commands.shared_flags import define_max_minutes, define_progress, define_workdir

FLAGS = cli.new_flags()
_CONFIG = define_config(FLAGS)
_WORKDIR = define_workdir(FLAGS, "Folder of this run: checkpoints, results, report.")
define_max_minutes(FLAGS)
define_progress(FLAGS)


def train() -> None:
    from covjax.runs.train import train_run
    from covjax.runtime import use_xla_flags
    from covjax.settings import read_settings

    settings = read_settings(cli.given(_CONFIG))
    workdir = cli.given(_WORKDIR)
    if settings.study is not None:
        study.train_variants(settings, workdir)
        return
    use_xla_flags(settings.xla_flags)
    train_run(settings, workdir)
    show(workdir)


def main() -> None:
    cli.run(train, FLAGS, __doc__, required=("config", "workdir"))
