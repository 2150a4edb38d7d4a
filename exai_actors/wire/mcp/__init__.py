"""MCP, as hosts of models speak it, over any transport: messages in, frames out."""
