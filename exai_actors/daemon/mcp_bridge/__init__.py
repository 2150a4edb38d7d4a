"""`exai mcp`: MCP over stdin and stdout, for a host that starts it, by way of a running broker."""
