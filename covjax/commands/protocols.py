"""Trains and scores the paper's evaluation protocol and honest ones.

covjax protocols --output OUT --config NAME
covjax protocols --output OUT --workdir runs/NAME [--data_path PLACE]
"""

from dataclasses import replace

from covjax.commands import cli
from covjax.commands.config_flag import define_config
from covjax.commands.shared_flags import define_data_path, define_output, define_workdir

FLAGS = cli.new_flags()
_OUTPUT = define_output(FLAGS, "Folder for the runs of all protocols and their page.")
_CONFIG = define_config(FLAGS)
_WORKDIR = define_workdir(FLAGS, "Folder of a run whose configuration is taken.")
_DATA_PATH = define_data_path(FLAGS)


def protocols() -> None:
    from covjax.report import build_protocols_page, protocols_table
    from covjax.runs.protocols import run_protocols
    from covjax.runtime import use_xla_flags
    from covjax.settings import load_settings, read_settings

    cli.check_one_of(FLAGS, "config", "workdir")
    cli.check_goes_with(FLAGS, "data_path", "workdir")
    output = cli.given(_OUTPUT)
    config = _CONFIG.value
    settings = read_settings(config) if config else load_settings(cli.given(_WORKDIR))
    if _DATA_PATH.value:
        settings = replace(settings, data=replace(settings.data, path=str(_DATA_PATH.value)))
    use_xla_flags(settings.xla_flags)
    run_protocols(settings, output)
    print(protocols_table(output))
    print(f"protocols: {build_protocols_page(output)}")


def main() -> None:
    cli.run(protocols, FLAGS, __doc__, required=("output",))
