"""Decides what one session may have in flight, and keeps its outcomes and conversations."""
