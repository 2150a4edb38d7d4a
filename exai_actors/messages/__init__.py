"""The messages between actors: one module and one closed union for each receiver.

Messages are frozen, and untracked by the garbage collector (``gc=False``): they are created at a
high rate and are never part of a reference cycle.
"""
