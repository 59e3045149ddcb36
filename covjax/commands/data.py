"""Prints the sources of slices, and where to get the public ones."""

from covjax.commands import cli

FLAGS = cli.new_flags()


def data() -> None:
    from covjax.data.sources.registry import SOURCES

    print("\n\n".join(map(str, SOURCES.values())))


def main() -> None:
    cli.run(data, FLAGS, __doc__, computes=False)
