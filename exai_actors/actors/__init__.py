"""Who says it: connection, session, provider and the guardian that spawns them."""
