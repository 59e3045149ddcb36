"""Finds what makes a data set or a split untrustworthy: leaks, labels in the margin, masks that
disagree, outliers.
"""

from covjax.audit.findings import Finding, find
from covjax.audit.measure import Measured, measure
from covjax.audit.similar import nearest, standardised
from covjax.audit.write import write_audit

__all__ = ["Finding", "Measured", "find", "measure", "nearest", "standardised", "write_audit"]
