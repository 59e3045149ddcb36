"""The page and the short text table of a run."""
