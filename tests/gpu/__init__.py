"""Checks on a GPU: right, fast, whole runs, resumed runs. Run them by `python -m tests.gpu`."""
