"""Health pages, health file and monitor page of the EX-AI daemon.

Nothing else depends on this package.
"""
