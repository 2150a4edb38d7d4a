"""The actors: connections, sessions, providers, the guardian, and the tree that they form."""
