"""CT slices: their file formats, sources, prepared copies, splits and batches."""
