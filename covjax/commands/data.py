"""Prints the sources of slices, and where to get the public ones."""

from covjax.commands import cli
from covjax.data.sources.registry import SOURCES

FLAGS = cli.new_flags()


def data() -> None:
    print("\n\n".join(map(str, SOURCES.values())))


def main() -> None:
    cli.run(data, FLAGS, __doc__)
