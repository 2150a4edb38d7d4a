"""The synthetic provider: answers calls without a service."""
