"""Networks that classify slices, one file a family."""
