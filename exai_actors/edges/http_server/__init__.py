"""The HTTP side of the broker's port."""
