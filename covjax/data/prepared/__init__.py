"""Slices decoded once, kept as records and read by random access."""
