"""`covjax NAME ..` and `python -m covjax.commands NAME ..`: one of the commands."""

import sys

from covjax.commands import cli
from covjax.errors import unknown

COMMANDS = {
    "train": "train a run and evaluate it",
    "evaluate": "scores of a trained run on a split of its own data",
    "screen": "new scans through a trained run: masks, extent, pages",
    "compare": "evaluated runs side by side",
    "pool": "predictions of several folds, scored as one",
    "score": "masks or probabilities of any tool against the truth",
    "study": "train the variants of a configuration and compare them",
    "operators": "poolings and unpoolings, those of plug-ins too, and a check of one",
    "audit": "what is wrong with a data source or the data of a run",
    "protocols": "the paper's evaluation protocol next to honest ones",
    "preview": "a picture of what augmentation does to training slices",
    "enhance": "a picture of what the enhancement makes of a slice",
    "data": "the sources of slices, and where to get the public ones",
    "doctor": "whether this installation works: versions, devices, folders, extras",
}
ABOUT = "covjax COMMAND [--FLAG=VALUE ..], covjax COMMAND --help for its flags:"


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h", "help"):
        print("\n".join([ABOUT, *(f"  {name:10} {what}" for name, what in COMMANDS.items())]))
        return
    if name not in COMMANDS:
        sys.exit(cli.fail(str(unknown("covjax", name, COMMANDS)), 2))
    cli.run_command(name, [f"covjax {name}", *sys.argv[2:]])


if __name__ == "__main__":
    main()
