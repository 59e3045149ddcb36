"""Audits data: what is wrong with a data source, or with the data of a run.

  covjax audit --config NAME [--output OUT]
  covjax audit --workdir runs/NAME [--data_path PLACE] [--output OUT]

Exit status 3 if something serious was found, 0 if not.
"""

from pathlib import Path

from covjax.commands import cli
from covjax.commands.config_flag import define_config
from covjax.commands.shared_flags import define_data_path, define_output, define_workdir

SERIOUS = 3  # exit status

FLAGS = cli.new_flags()
_CONFIG = define_config(FLAGS)
_WORKDIR = define_workdir(FLAGS)
_DATA_PATH = define_data_path(FLAGS)
_OUTPUT = define_output(FLAGS, "Folder for the audit; RUN/audit or runs/audit_SOURCE if not given.")


def audit() -> int:
    from covjax.report import audit_table, build_audit_page
    from covjax.runs.audit import audit_run, audit_source
    from covjax.settings import read_settings

    cli.check_one_of(FLAGS, "workdir", "config")
    cli.check_goes_with(FLAGS, "data_path", "workdir")
    if _WORKDIR.value is not None:
        workdir = _WORKDIR.value
        output = _OUTPUT.value or workdir / "audit"
        serious = audit_run(workdir, output, _DATA_PATH.value)
    else:
        settings = read_settings(cli.given(_CONFIG))
        output = _OUTPUT.value or Path(f"runs/audit_{settings.data.source}")
        serious = audit_source(settings, output)
    print(audit_table(output))
    print(f"audit: {build_audit_page(output)}")
    return SERIOUS if serious else 0


def main() -> None:
    cli.run(audit, FLAGS, __doc__)
