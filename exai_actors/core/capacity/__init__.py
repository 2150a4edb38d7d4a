"""Decides which request gets a permit of its provider, and when."""
