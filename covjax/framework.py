"""The paper's framework in Python: train and evaluate a run in its workdir, screen new slices."""

from covjax.runs.audit import audit_run, audit_source
from covjax.runs.evaluate import evaluate_run
from covjax.runs.pool import pool_runs
from covjax.runs.preview import preview_augmentation
from covjax.runs.protocols import run_protocols
from covjax.runs.train import train_run
from covjax.screening.screen import screen
from covjax.screening.screener import ScreenedSlice, Screener

__all__ = [
    "ScreenedSlice",
    "Screener",
    "audit_run",
    "audit_source",
    "evaluate_run",
    "pool_runs",
    "preview_augmentation",
    "run_protocols",
    "screen",
    "train_run",
]
