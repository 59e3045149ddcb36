"""Trains all variants of a study and compares them.

  covjax study --config study:pooling --workdir runs/NAME
      [--config.SECTION.FIELD=VALUE ..]

Run the same command again to go on; runs that are finished are kept.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from covjax.commands import cli
from covjax.commands.config_flag import define_config
from covjax.commands.shared_flags import define_max_minutes, define_progress, define_workdir
from covjax.errors import InputError

if TYPE_CHECKING:
    from covjax.settings import RunSettings

FLAGS = cli.new_flags()
_CONFIG = define_config(FLAGS)
_WORKDIR = define_workdir(FLAGS, "Folder of the study: its runs, comparison, page.")
define_max_minutes(FLAGS)
define_progress(FLAGS)


def study() -> None:
    from covjax.settings import read_settings

    settings = read_settings(cli.given(_CONFIG))
    if settings.study is None:
        raise InputError("--config: has no study, name one, e.g. study:pooling")
    train_variants(settings, cli.given(_WORKDIR))


def train_variants(settings: "RunSettings", workdir: Path) -> None:
    """Trains and compares the variants of a configuration with a study; prints what came out."""
    from covjax.report import build_study_page, study_table
    from covjax.runtime import use_xla_flags
    from covjax.study import run_study

    use_xla_flags(settings.xla_flags)
    run_study(settings, workdir)
    print(study_table(workdir))
    print(f"study: {build_study_page(workdir)}")


def main() -> None:
    cli.run(study, FLAGS, __doc__, required=("config", "workdir"))
