"""The commands: one job each, its flags, and what they print."""
