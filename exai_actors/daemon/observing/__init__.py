"""Metrics, alarms and traces of the running broker."""
