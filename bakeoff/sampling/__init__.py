"""Prompts to completions. These names are what other stages use."""

from bakeoff.sampling.engine import Engine, Failed, Sampling, refuse, seed_of

__all__ = ["Engine", "Failed", "Sampling", "refuse", "seed_of"]
