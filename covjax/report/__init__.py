"""The report of a run: one self-contained HTML page and a short text table, made from result files
only.

Nothing here imports jax: a report can be drawn on any machine that has numpy and matplotlib.
"""

from covjax.report.audit import audit_table, build_audit_page
from covjax.report.comparison import build_comparison, comparison_table
from covjax.report.pictures import augmentation_grid
from covjax.report.protocols import build_protocols_page, protocols_table
from covjax.report.run import build_report
from covjax.report.screening import build_screening
from covjax.report.study import build_study_page, study_table
from covjax.report.summary import summary_table

__all__ = [
    "audit_table",
    "augmentation_grid",
    "build_audit_page",
    "build_comparison",
    "build_protocols_page",
    "build_report",
    "build_screening",
    "build_study_page",
    "comparison_table",
    "protocols_table",
    "study_table",
    "summary_table",
]
