"""The effects of actions on requests, by the state that the request is in."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from exai_actors.core.capacity.changes import Arrangement
from exai_actors.core.observe.parts import RequestState
from exai_actors.core.operations.action import ActionError
from exai_actors.core.operations.client_effects import arranged


@pytest.mark.parametrize("how", get_args(Arrangement))
@pytest.mark.parametrize(
    ("state", "place"),
    [
        ("waiting", "it waits in its session and is not yet at kimi"),
        ("sent", "it is on its way to kimi"),
        ("running", "it runs at kimi"),
        ("retrying", "it waits at kimi for its next attempt"),
    ],
)
def test_a_request_that_is_in_no_queue_is_refused_with_its_place(
    how: Arrangement, state: str, place: str
) -> None:
    request = RequestState("1/2", "r", "desk", "s", "conn-1", "moon", "kimi", state, 3.0)
    with pytest.raises(ActionError, match=f"^{re.escape(place)}; only a request in a provider's"):
        arranged(how, request)
