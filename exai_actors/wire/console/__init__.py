"""The protocol between the broker and its consoles: JSON messages over a WebSocket at /admin."""
