"""The actors: connections, sessions, providers, and the broker actor that supervises them."""
