"""Trials drawn from a seed, of everything a user can reach: see `fuzz.harness`, and `run.py` to run them."""
