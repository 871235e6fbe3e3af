"""Logs to prompts."""
