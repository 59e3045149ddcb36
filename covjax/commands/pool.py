"""Scores the predictions of evaluated runs, one per fold, together as one.

covjax pool runs/FOLD0 runs/FOLD1 .. --output OUT [--split val]
"""

from covjax.commands import cli
from covjax.commands.evaluate import show
from covjax.commands.shared_flags import define_output, define_split, read_paths

FLAGS = cli.new_flags()
_OUTPUT = define_output(FLAGS, "Folder for the pooled results, empty or not there.")
_SPLIT = define_split(FLAGS)


def pool(*folders: str) -> None:
    from covjax.runs.pool import pool_runs

    output = cli.given(_OUTPUT)
    pool_runs(read_paths(folders), output, _SPLIT.value)
    show(output)


def main() -> None:
    cli.run(pool, FLAGS, __doc__, required=("output",), operands=None)
