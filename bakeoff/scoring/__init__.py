"""Completions to rewards."""
