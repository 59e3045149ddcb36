"""Prints the lower bounds of pyproject.toml as constraints for pip: `bounds.py [EXTRA ..]`."""

import sys
import tomllib
from pathlib import Path


def main(extras: list[str]) -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    for requirement in wanted:
        print(requirement.replace(">=", "=="))


if __name__ == "__main__":
    main(sys.argv[1:])
