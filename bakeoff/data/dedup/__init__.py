"""Which prompts are the same, nearly the same, or one passage's."""
