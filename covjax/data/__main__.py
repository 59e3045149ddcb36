"""Prints where to get the public sets that covjax reads: `python -m covjax.data`."""

from covjax.data.public import public_table

print(public_table())
