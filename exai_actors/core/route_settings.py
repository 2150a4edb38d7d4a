"""What is configured of one route, as plain values."""

from __future__ import annotations

import msgspec


class RouteSettings(msgspec.Struct, frozen=True):
    """A model name of our own that stands for several models, asked in order.

    ``to`` are models as a client may name them (``provider/model`` or ``model``); the next is asked
    when one fails for a reason that ``on`` names.
    """

    model: str
    to: tuple[str, ...]
    on: tuple[str, ...]
