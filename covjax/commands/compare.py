"""Sets evaluated runs side by side; the others are compared with the first.

covjax compare runs/A runs/B .. --output OUT [--split val]
"""

from covjax.commands import cli
from covjax.commands.shared_flags import define_output, define_split, read_paths

FLAGS = cli.new_flags()
_OUTPUT = define_output(FLAGS, "Folder for the comparison's page and figures.")
_SPLIT = define_split(FLAGS)


def compare(*folders: str) -> None:
    from covjax.evaluation.paired import paired_differences
    from covjax.report import build_comparison, comparison_table

    runs = read_paths(folders)
    table = comparison_table(runs, _SPLIT.value)
    paired = paired_differences(runs, _SPLIT.value)
    page = build_comparison(runs, _SPLIT.value, cli.given(_OUTPUT), paired)
    print(f"{table}\ncomparison: {page}")


def main() -> None:
    cli.run(compare, FLAGS, __doc__, required=("output",), operands=None)
