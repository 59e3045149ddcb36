"""The figures of all pages: each function takes plain arrays and returns a PNG."""
