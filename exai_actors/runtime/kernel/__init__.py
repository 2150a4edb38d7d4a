"""Actors on one event loop, without pykka.

Read in this order, each module knowing only those before it:

* ``driver``, ``manual_driver``: the event loop as the kernel sees it, and one that a test moves.
* ``signals``, ``events``, ``dead_letters``: reports to supervisors, watchers and observers.
* ``mailbox``, ``pace``, ``cell``, ``ref``: one incarnation of an actor, and sending to it.
* ``watching``, ``suspension``, ``tracing``, ``lifecycle``, ``requests``, ``timers``: its start, end
  and special messages.
* ``scheduler``: which actor runs next, and for how long.
* ``paths``, ``statistics``, ``shutdown``, ``system``, ``path_ref``: all actors.
"""
