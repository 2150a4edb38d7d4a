"""Health pages, health file and monitor page of the EX-AI daemon, with this broker's figures.

Only ``daemon.wiring`` imports this package, through ``start_compat``.
"""
