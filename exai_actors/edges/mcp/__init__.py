"""MCP over HTTP: each client gets a connection of the broker, as if it had opened a WebSocket."""
