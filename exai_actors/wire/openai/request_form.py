"""The form of a request, which services disagree about, and how a refusal changes it.

OpenAI's newer models want ``max_completion_tokens`` in place of ``max_tokens``; some services
refuse ``stream_options``, some do not stream a model, or stream it for verified accounts only. Such
a refusal names the argument, and proves that nothing was run: the request is sent once more in
another form, and later requests have that form from the beginning.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from exai_actors.core.calls import FailureKind
from exai_actors.wire.openai.error_fields import parse_error_body, read_error

MaxTokensName = Literal["max_tokens", "max_completion_tokens"]

MAX_CHARS = 600
"""Where in an error's text its argument is looked for: the end may quote the request."""


class RequestForm(msgspec.Struct, frozen=True):
    """``streams``: the service can be asked for a stream, ``includes_usage``: and for its usage."""

    streams: bool = True
    includes_usage: bool = True
    max_tokens_name: MaxTokensName = "max_tokens"


USUAL_FORM = RequestForm()

MAY_BE_ABOUT_THE_FORM = frozenset(
    {
        FailureKind.REJECTED,
        FailureKind.NOT_FOUND,
        FailureKind.UNAUTHORIZED,
        FailureKind.SERVER_ERROR,
    }
)
"""The kinds of refusals for which ``adapted_form`` may find another form."""

_STATUSES = frozenset({400, 403, 404, 405, 415, 422, 500, 501})
_UNKNOWN = re.compile(
    r"unsupported|not supported|n[o']t support|unknown|unrecogni[sz]ed|unexpected|extra_?(?: |forb)"
    r"|not (?:allowed|permitted|available|accepted|recogni[sz]ed)|deprecated|no such|forbidden"
    r"|不支持|未知",
    re.IGNORECASE,
)
_NO_STREAM = re.compile(
    r"must be (?:false|verified)|disabled|not (?:enabled|implemented|possible)|cannot|can't|only"
    r"|invalid|false",
    re.IGNORECASE,
)
_STREAM = re.compile(r"(?<![\w-])stream(?:ing|ed|s)?(?![\w-])|流式", re.IGNORECASE)


# Quotations of more than a name, such as of the prompt.
_QUOTED_WORDS = re.compile(
    r"\"[^\"]{0,600}\"|(?<!\w)'[^']{0,600}'(?!\w)|`[^`]{0,600}`|\u201c[^\u201c\u201d]{0,600}\u201d"
)


def adapted_form(
    form: RequestForm, status: int, body: bytes, *, streamed: bool, limits_tokens: bool
) -> RequestForm | None:
    """The form in which a refused request is to be sent again; None if the refusal is about more.

    ``streamed``: the request asked for a stream, ``limits_tokens``: it limited the answer's tokens.
    """
    if status not in _STATUSES:
        return None
    parsed = parse_error_body(body[:65536])
    if parsed is None:
        text, named = body[:MAX_CHARS].decode("utf-8", "replace"), ""
    else:
        words = read_error(parsed)
        text = " ".join([words.text[:MAX_CHARS], *words.codes])
        named = " ".join(_arguments_in(parsed, 4))
    text = _QUOTED_WORDS.sub(lambda found: found[0] if len(found[0].split()) == 1 else " ", text)
    both = f"{named} {text}"
    if streamed and form.includes_usage and re.search(r"stream_options|include_usage", both):
        return replace(form, includes_usage=False)
    if limits_tokens and (other := _other_name(form.max_tokens_name, text, named)):
        return replace(form, max_tokens_name=other)
    if streamed and form.streams:
        refused = _UNKNOWN.search(text) or _NO_STREAM.search(text)
        if refused and ("stream" in named.split() or _STREAM.search(text)):
            return replace(form, streams=False)
    return None


def _other_name(sent: MaxTokensName, text: str, named: str) -> MaxTokensName | None:
    other: MaxTokensName = "max_completion_tokens" if sent == "max_tokens" else "max_tokens"
    is_named = re.search(rf"(?<!\w){sent}(?!\w)", f"{named} {text}")
    wants_other = re.search(rf"(?i:use|try|with|rename\w*|replaced by)\W+{other}(?!\w)", text)
    return other if is_named and (wants_other or _UNKNOWN.search(text)) else None


def _arguments_in(value: Any, depth: int) -> list[str]:
    """The arguments that an error names in ``param``, or as FastAPI does, in ``loc``."""
    if depth == 0:
        return []
    if isinstance(value, list):
        return [name for each in value[:8] for name in _arguments_in(each, depth - 1)]
    if not isinstance(value, dict):
        return []
    names = [value[key] for key in ("param", "parameter") if isinstance(value.get(key), str)]
    loc = value.get("loc")
    if isinstance(loc, list):
        names += [part for part in loc[:4] if isinstance(part, str)]
    for key in ("error", "detail", "errors"):
        names += _arguments_in(value.get(key), depth - 1)
    return [name[:100] for name in names]
