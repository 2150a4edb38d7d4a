"""The configuration: from file, environment and flags to checked values."""
