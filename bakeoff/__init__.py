"""bakeoff: make a language model better at a task without labels, by baking best-of-N into its first answer."""

__version__ = "0.1.0"
