"""Calls to OpenAI-compatible services over HTTP."""
