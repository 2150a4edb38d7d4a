"""The facts that a request over HTTP states about itself: its family, model, session and deadline.

Bodies are looked into and never rebuilt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from exai_actors.core.families import Family
from exai_actors.core.relay import UPSTREAM_PATHS, may_pass
from exai_actors.core.surrogates import tolerant

PATHS: Mapping[str, Family] = {
    "/v1/chat/completions": "chat",
    "/v1/messages": "messages",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
}
"""The paths whose requests are relayed."""

COUNT_TOKENS = "/v1/messages/count_tokens"
_MAX_NAME = 128
_MAX_KEY = 200
_OWN_NAMES = {
    "x-exai-session": _MAX_NAME,
    "x-exai-agent": _MAX_NAME,
    "idempotency-key": _MAX_KEY,
    "x-idempotency-key": _MAX_KEY,
}
_SPARED_S = 2.0
"""How much earlier than its client's own limit a request ends, so that it gets the reason."""
_MAX_DEADLINE_S = 86_400.0
_OLD_USER = re.compile(r"_session_([0-9A-Za-z-]{8,})$")

Fields = tuple[tuple[str, str], ...]
Field = Callable[[str], str | None]
"""The value of a header by its name in small letters."""


class Body(msgspec.Struct, frozen=True, gc=False):
    """The members of a request's body that matter here, unchecked."""

    model: Any = None
    stream: Any = None
    n: Any = None
    max_tokens: Any = None
    max_output_tokens: Any = None
    max_completion_tokens: Any = None
    metadata: Any = None
    prompt_cache_key: Any = None
    user: Any = None
    safety_identifier: Any = None

    @property
    def limit(self) -> int | None:
        """The most tokens that the answer may have."""
        values = (self.max_tokens, self.max_completion_tokens, self.max_output_tokens)
        named = [value for value in values if type(value) is int and value > 0]
        return min(named, default=None)


_body = tolerant(msgspec.json.Decoder(Body).decode)


def read_body(body: bytes) -> Body | str:
    """The members that matter, or why the body cannot be used."""
    try:
        if not body.isascii():
            # The parser does not look at the texts that it skips.
            body.decode()
        found = _body(body)
    except msgspec.ValidationError as error:
        if body.lstrip()[:1] == b"{":
            return f"the body of this request cannot be used: {error}"
        return "the body of a request is a JSON object"
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"the body of this request is no valid JSON: {error}"
    except RecursionError:
        return "the body of this request is nested too deeply"
    if not isinstance(found.model, str) or not found.model:
        return "the member 'model' is required, and is a text"
    return found


def upstream_path(family: Family, query: str) -> str:
    """The path behind the service's address for the family, with the client's query."""
    path = UPSTREAM_PATHS[family]
    return f"{path}?{query}" if query else path


def forwarded_headers(fields: tuple[tuple[bytes, bytes], ...]) -> Fields:
    """Those headers of a client that the service may see, unchanged and in their order."""
    found = []
    for name, value in fields:
        shown = _SHOWN.get(name)
        if shown is None:
            shown = _shown(name)
        if shown:
            found.append((shown, value.decode("latin-1")))
    return tuple(found)


_MAX_NAMES = 1_000
_SHOWN: dict[bytes, str] = {}
"""The names of headers that clients have used; empty for those that stay here."""


def _shown(raw_name: bytes) -> str:
    name = raw_name.decode("latin-1")
    shown = name if may_pass(name) else ""
    if len(_SHOWN) < _MAX_NAMES and len(raw_name) <= _MAX_NAME:
        _SHOWN[raw_name] = shown
    return shown


def token_of(field: Field) -> str | None:
    """The access token that a client presents, as Bearer or in ``x-api-key``."""
    scheme, _, token = (field("authorization") or "").partition(" ")
    if scheme.lower() == "bearer" and (token := token.strip()):
        return token
    return field("x-api-key") or None


class Claim(msgspec.Struct, frozen=True, gc=False):
    """The owner of a request within its tenant.

    ``session`` is the client's own name of its session, with its source. ``agent`` names one of
    several agents in that session; one that another agent has started ``is_sub_agent``.
    """

    session: str
    agent: str = ""
    is_sub_agent: bool = False


def claim_of(field: Field, body: Body, address: str) -> Claim:
    """The session and agent, by the first sign that there is one."""
    return claim_of_head(field) or _claim_of_body(field, body, address)


def claim_of_head(field: Field) -> Claim | None:
    """The session and agent by the headers that take precedence over the body."""
    if own := _name(field("x-exai-session")):
        agent = _name(field("x-exai-agent"))
        return Claim(f"exai {own}", agent, bool(agent))
    if claude := _name(field("x-claude-code-session-id")):
        agent = _name(field("x-claude-code-agent-id"))
        return Claim(f"claude {claude}", agent, bool(agent))
    if codex := _name(field("session-id") or field("session_id")):
        return _codex(codex, field)
    if thread := _name(field("thread-id")):
        return _codex(thread, field)
    if session := _name(field("x-session-id") or field("x-session-affinity")):
        return Claim(f"session {session}")
    return None


def _claim_of_body(field: Field, body: Body, address: str) -> Claim:
    """Whose request it is if ``claim_of_head`` does not say so. No sub-agent's."""
    if user := _user_session(body.metadata):
        return Claim(f"claude {user}")
    if key := _name(body.prompt_cache_key):
        return Claim(f"cache {key}")
    if chat := _name(field("x-openwebui-chat-id") or field("x-openwebui-user-id")):
        return Claim(f"openwebui {chat}")
    if user := _name(body.user) or _name(body.safety_identifier):
        return Claim(f"user {user}")
    product = (field("user-agent") or "").partition("/")[0].partition(" ")[0]
    return Claim(f"peer {address} {product[:_MAX_NAME]}")


def _codex(session: str, field: Field) -> Claim:
    thread = _name(field("thread-id"))
    turn = _object(field("x-codex-turn-metadata"))
    is_sub = str(turn.get("thread_source", "")).startswith("subagent") or bool(
        thread and thread != session
    )
    return Claim(f"codex {session}", thread if is_sub else "", is_sub)


def deadline_ms(field: Field, *, streams: bool) -> float | None:
    """The milliseconds that a request may take, by its headers; None without a limit.

    An SDK's timeout is one for each read of a stream, so it limits other requests only, and these a
    little earlier, so that they get the reason.
    """
    own = _number(field("x-exai-deadline-ms"))
    if own is not None:
        return min(own, _MAX_DEADLINE_S * 1000)
    if streams:
        return None
    limit_s = _number(field("x-stainless-timeout") or field("x-stainless-read-timeout"))
    if limit_s is None:
        return None
    return max(min(limit_s, _MAX_DEADLINE_S) - _SPARED_S, limit_s / 2) * 1000


def idempotency_key(field: Field) -> str | None:
    """The client's key for repeats of this request."""
    key = field("idempotency-key") or field("x-idempotency-key")
    return key if key is not None and 1 <= len(key) <= _MAX_KEY else None


def problem_of_head(field: Field) -> str | None:
    """Why a header that is meant for the broker cannot be used.

    To ignore it would break its promise; those that other programs send are ignored.
    """
    for name, limit in _OWN_NAMES.items():
        value = field(name) or ""
        if len(value) > limit:
            return f"the header {name} has at most {limit} characters, not {len(value)}"
    deadline = field("x-exai-deadline-ms")
    if deadline is not None and _number(deadline) is None:
        shown = deadline if len(deadline) <= _MAX_NAME else f"{deadline[:_MAX_NAME]}…"
        return f"the header x-exai-deadline-ms is a number of milliseconds above 0, not '{shown}'"
    return None


def estimated_tokens(body: bytes) -> int:
    """About how many tokens a request has."""
    return max(1, len(body) // 4)


def _name(value: Any) -> str:
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_NAME else ""


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else 0.0
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _user_session(metadata: Any) -> str:
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    if not isinstance(user, str):
        return ""
    session = _name(_object(user).get("session_id")) if user.startswith("{") else ""
    if not session and (old := _OLD_USER.search(user)) is not None:
        session = _name(old[1])
    return session
