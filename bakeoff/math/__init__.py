"""Pure functions of arrays and tensors: best-of-N, losses, statistics."""
