"""One failure read by many: each reader gets an exception of its own."""

from __future__ import annotations

import copy


def copy_error(error: BaseException) -> BaseException:
    """Copy an exception, so that its readers do not share (and grow) one traceback.

    An exception that cannot be copied is returned itself.
    """
    for make in (copy.copy, _rebuild):
        try:
            twin = make(error)
            return error if twin.__class__ is not error.__class__ else _in_place_of(error, twin)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001, S112 - whatever a foreign exception's methods may raise
            continue
    return error


def _rebuild(error: BaseException) -> BaseException:
    twin = error.__class__.__new__(error.__class__, *error.args)
    twin.__dict__.update(error.__dict__)
    return twin


def _in_place_of(error: BaseException, twin: BaseException) -> BaseException:
    twin.__cause__ = error.__cause__
    twin.__context__ = error.__context__
    twin.__suppress_context__ = error.__suppress_context__
    return twin.with_traceback(error.__traceback__)
