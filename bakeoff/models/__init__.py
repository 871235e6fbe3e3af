"""Loading models, and reading a prompt packed with its completions."""
