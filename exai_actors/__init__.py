"""A request broker between many WebSocket clients and few, scarce AI providers."""

__version__ = "0.1.0"
