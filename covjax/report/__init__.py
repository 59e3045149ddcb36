"""The pages and short text tables of results: self-contained HTML, made from result files only.

Nothing here imports jax: a page can be drawn on any machine that has numpy, matplotlib and Jinja2.
"""

from covjax.report.audit import audit_table, build_audit_page
from covjax.report.charts.slices import augmentation_grid
from covjax.report.comparison import build_comparison, comparison_table
from covjax.report.protocols import build_protocols_page, protocols_table
from covjax.report.run.page import build_report
from covjax.report.run.summary import summary_table
from covjax.report.screening import build_screening
from covjax.report.study import build_study_page
from covjax.report.study_tables import study_table

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
