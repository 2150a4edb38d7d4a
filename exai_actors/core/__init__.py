"""Decisions as pure code: state and a message in, a decision out; time is an argument."""
