"""The process: command line, configuration, wiring, start and stop order."""
