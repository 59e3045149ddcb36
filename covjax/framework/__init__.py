"""The paper's framework end to end: train and evaluate a run in its workdir, and screen new slices
with it.
"""

from covjax.framework.audit import audit_run, audit_source
from covjax.framework.evaluate import evaluate_run
from covjax.framework.pool import pool_runs
from covjax.framework.preview import preview_augmentation
from covjax.framework.protocols import run_protocols
from covjax.framework.run import train_run
from covjax.framework.screener import Screened, Screener
from covjax.framework.screening import screen

__all__ = [
    "Screened",
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
