"""The console in a terminal: it shows the feed of a broker, or a recording of one."""
