"""Prints where to get the public sets that covjax reads: `python -m covjax.commands.data`."""

from covjax.data.sources.public import public_table

if __name__ == "__main__":
    print(public_table())
