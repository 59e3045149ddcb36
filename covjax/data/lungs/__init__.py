"""Where the lungs are, in a slice and in a scan."""
