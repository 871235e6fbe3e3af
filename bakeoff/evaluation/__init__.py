"""A policy to numbers."""
