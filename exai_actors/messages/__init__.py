"""What actors say to each other: one closed union per receiver.

All messages are frozen and kept out of the garbage collector's sight (``gc=False``): they are made
by the hundred thousand, hold no cycle of their own, and are let go when they have been handled.
"""
