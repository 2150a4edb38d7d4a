"""The limits on the memory of the whole process."""
