"""pykka's API on top of the kernel: the only place in the package that knows pykka.

``registry``, ``lazy_event``, ``copied_error`` and ``future`` stand alone; ``ref`` builds on them,
and ``actors`` on all.
"""
