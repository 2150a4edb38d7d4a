"""The HTTP APIs that clients use: their families, errors, lists of models, and ends of answers."""
