"""Networks that segment slices, one file a family."""
