"""Prints the page of all commands: python docs/make_commands.py > docs/reference/commands.md."""

import subprocess
import sys

from covjax.commands.__main__ import COMMANDS

HEAD = """# Commands

Made by `python docs/make_commands.py` from what every command says for `--help`.

`covjax NAME` runs a command; `python -m covjax NAME` is the same, in a clone also without an
installation. `train.py` and `eval.py` of a clone are doors to the same commands:

| door | command |
|---|---|
| `train.py --config .. --workdir ..` | `covjax train`, or `covjax study` where the configuration is a study |
| `train.py --show_augmentation=OUT.png` | `covjax preview --output=OUT.png` |
| `eval.py --workdir ..` | `covjax evaluate` |
| `eval.py --workdir .. --input ..` | `covjax screen` |
| `eval.py --compare ..`, `--pool ..`, `--audit ..` | `covjax compare`, `covjax pool`, `covjax audit` |
| `eval.py --protocols OUT ..` | `covjax protocols --output OUT` |

`--config` names one of the configurations that ship, with its arguments after a colon, or, with `/` or
`.py`, a file. A flag is `--NAME=VALUE` or `--NAME VALUE`. Exit status: 0 done, 1 bad input, 2 a bad flag,
others in [Runs under a job queue](job-queues.md). An error is one line that names the file or field;
`--debug` shows its traceback.
"""


def page(help_of) -> str:
    """Returns the page in Markdown; `help_of` returns what a command says for --help."""
    parts = [HEAD]
    for name, summary in COMMANDS.items():
        parts.append(f"## {name}\n\n{summary[0].upper()}{summary[1:]}.\n")
        parts.append(f"```text\n{help_of(name).strip()}\n```\n")
    return "\n".join(parts)


def _help_of(name: str) -> str:
    command = [sys.executable, "-m", "covjax", name, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    print(page(_help_of), end="")
