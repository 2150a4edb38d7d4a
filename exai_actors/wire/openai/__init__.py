"""The protocol between the broker and OpenAI-compatible services."""
