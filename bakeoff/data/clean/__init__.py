"""Conversations to clean prompts, or a reason why not."""
