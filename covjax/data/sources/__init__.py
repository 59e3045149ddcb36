"""Sources of slices: folders, scans, public sets, the phantom."""
