"""New scans and pictures through a trained run."""
