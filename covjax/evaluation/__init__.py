"""Batched prediction on all devices, and tables of per-slice results."""
