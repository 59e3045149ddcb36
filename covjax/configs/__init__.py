"""The configurations that ship: `--config NAME` is the module of that name here.

`--config NAME:ARGUMENTS` passes arguments on to its get_config(). A file of your own begins with
`from covjax.configs import framework` and changes fields of what `framework.get_config()` returns.
"""
