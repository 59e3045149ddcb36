"""The commands, a module each: `python -m covjax.commands.NAME`, or `covjax NAME`."""
