"""The shipped test kit.

What it holds, each to be imported from its module, so that the pytest plugin costs nothing in
suites that do not use it:

- ``plugin``: the fixtures ``exai_broker``, ``exai_broker_factory``, ``exai_client``,
  ``scripted_upstream`` and ``leak_check``
- ``broker``: ``running_broker`` on the test's own loop, ``broker_in_thread`` beside it
- ``scripted_upstream``, ``scripted_replies``: a provider's service that answers as told
- ``probe``, ``outbox_probe``, ``manual_upstream``, ``clock``: what surrounds a single actor
"""
