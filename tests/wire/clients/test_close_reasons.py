from __future__ import annotations

import pytest

from exai_actors.core.handshake_policy import HandshakePolicy, check_connection_limits
from exai_actors.wire.clients.close_reasons import CloseReason


@pytest.mark.parametrize("reason", CloseReason)
def test_a_close_reason_fits_a_close_frame(reason: CloseReason) -> None:
    assert len(reason.reason.encode()) <= 123
    assert 1000 <= reason.code < 5000


def test_refusals_of_connections_are_close_reasons() -> None:
    policy = HandshakePolicy(max_connections=3, max_connections_per_address=2)
    full = check_connection_limits(policy, open_connections=3, from_same_address=0)
    crowded = check_connection_limits(policy, open_connections=2, from_same_address=2)
    assert full is not None
    assert crowded is not None
    assert (full.code, full.reason) == CloseReason.OVERLOADED.value
    assert crowded.code == CloseReason.TOO_MANY_FROM_ADDRESS.code
    assert crowded.reason == f"{CloseReason.TOO_MANY_FROM_ADDRESS.reason} (2/2)"
