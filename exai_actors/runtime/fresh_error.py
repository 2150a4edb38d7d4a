"""One failure read by many: each reader gets an exception of its own."""

from __future__ import annotations

import copy


def fresh(error: BaseException) -> BaseException:
    """Copy an exception so that readers of one failure do not share (and grow) one traceback.

    An exception that cannot be copied is returned itself.
    """
    try:
        twin = copy.copy(error)
    except Exception:  # noqa: BLE001 - whatever a foreign exception's constructor may raise
        twin = error.__class__.__new__(error.__class__, *error.args)
        twin.__dict__.update(error.__dict__)
    if twin.__class__ is not error.__class__:
        return error
    twin.__cause__ = error.__cause__
    twin.__context__ = error.__context__
    twin.__suppress_context__ = error.__suppress_context__
    return twin.with_traceback(error.__traceback__)
