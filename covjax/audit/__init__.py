"""Finds what makes data or a split untrustworthy: leaks, wrong labels and masks, outliers."""

from covjax.audit.finding import Finding
from covjax.audit.findings import find
from covjax.audit.measure import Measured, measure
from covjax.audit.similar import nearest, standardised
from covjax.audit.write import write_audit

__all__ = ["Finding", "Measured", "find", "measure", "nearest", "standardised", "write_audit"]
