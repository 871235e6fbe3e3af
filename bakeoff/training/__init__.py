"""Rewards to a policy."""
