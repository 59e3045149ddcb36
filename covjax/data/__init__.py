"""Sources, splits, transforms and loaders of CT slices."""
