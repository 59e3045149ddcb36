"""Divisions of the slices into train, val and test."""
