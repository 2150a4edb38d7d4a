"""The test kit for projects that use the broker.

Import from its modules, so that the pytest plugin costs nothing in suites that do not use it:

- ``plugin``: the fixtures ``exai_broker``, ``exai_broker_factory``, ``exai_client``,
  ``scripted_upstream`` and ``leak_check``
- ``broker``: ``running_broker`` on the test's own loop, ``broker_in_thread`` beside it
- ``scripted_upstream``, ``scripted_replies``: a service that answers as the test says
- ``probe``, ``outbox_probe``, ``manual_upstream``, ``clock``: the surroundings of a single actor
"""
