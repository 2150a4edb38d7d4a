"""Wrong tokens of operators, at consoles and on the page that asks for one."""

from __future__ import annotations

import structlog

from exai_actors.core.wrong_tokens import WrongTokens

log = structlog.get_logger()


def note_wrong_token(wrong_tokens: WrongTokens, address: str, now: float) -> float:
    """Count and report a guess; return how long its answer takes."""
    wrong = wrong_tokens.note(address, now)
    if wrong.is_reported:
        log.warning(
            "access.tokens_guessed", address=address, wrong_tokens=wrong.count, suppressed=0
        )
    return wrong.delay_s
