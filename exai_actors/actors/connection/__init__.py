"""The actor of one client connection."""
