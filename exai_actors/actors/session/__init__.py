"""The actor of one session: windows, conversations and the one outcome of each request."""
