"""Tests and benchmarks; a package so that they can share the seeded weights and the PyTorch
networks.
"""
