"""The WebSocket server that clients connect to."""
