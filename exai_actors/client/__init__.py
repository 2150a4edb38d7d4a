"""A Python client for the broker, asynchronous and synchronous."""
