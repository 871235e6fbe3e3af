"""Rewards to a policy. Others use `rounds.bake`, `rounds.control`, `methods.METHODS`, `stage.packed` and `figures`."""
