"""Rows of any schema to conversations."""
