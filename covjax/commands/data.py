"""Prints the sources of slices and where to get the public ones: `python -m covjax.commands.data`."""

from covjax.data.sources.registry import SOURCES

if __name__ == "__main__":
    print("\n\n".join(map(str, SOURCES.values())))
