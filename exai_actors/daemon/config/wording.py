"""Phrases for problems: the values that a key accepts, a value as written, a likely correction."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args, get_origin

from msgspec import inspect


def accepted(annotation: Any) -> str:
    """The values that the annotated type accepts: ``a whole number from 0 to 65535``."""
    bare = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if get_origin(bare) is Literal:
        return either(get_args(bare))  # in the declared order, unlike type_info
    return _phrase(inspect.type_info(annotation))


def _phrase(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata():
            return _phrase(kind.type)
        case inspect.UnionType():
            return " or ".join(map(_phrase, kind.types))
        case inspect.LiteralType():
            return either(map(str, kind.values))
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number {_range(kind)}".rstrip()
        case inspect.FloatType():
            return f"a number {_range(kind)}".rstrip()
        case inspect.VarTupleType(item_type=inspect.LiteralType() as item):
            return f"a list of {either(map(str, item.values))}"
        case inspect.VarTupleType():
            return f"a list of texts, each {_phrase(kind.item_type)}{_length(kind)}"
        case inspect.DictType():
            return f"a table, each value {_phrase(kind.value_type)}{_length(kind)}"
        case inspect.StrType():
            return _text(kind)
        case _:
            return "another type"


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    low = f"from {kind.ge}" if kind.ge is not None else ""
    if kind.gt is not None:
        return f"above {kind.gt}" + (f", at most {kind.le}" if kind.le is not None else "")
    return f"{low} to {kind.le}" if kind.le is not None else low


def _length(kind: inspect.VarTupleType | inspect.DictType) -> str:
    least = f", at least {kind.min_length}" if kind.min_length else ""
    return f"{least}, at most {kind.max_length}" if kind.max_length else least


def _text(kind: inspect.StrType) -> str:
    if kind.pattern:
        least = "1 to" if kind.min_length else "up to"
        return f"{least} {kind.max_length} letters, digits, `_`, `.` or `-`, in quotes"
    if kind.max_length:
        return f"text of {kind.min_length or 0} to {kind.max_length} characters, in quotes"
    return "text, in quotes"


def either(values: Iterable[str]) -> str:
    """The words quoted and joined: ``"a", "b" or "c"``."""
    *rest, last = [f'"{value}"' for value in values]
    return f"{', '.join(rest)} or {last}" if rest else last


def shown(value: Any) -> str:
    """A value as the file has it, shortened; of a container only the type."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value[:40]}..."' if len(value) > 40 else f'"{value}"'
        case int() | float():
            return str(value)
        case list():
            return "a list" if value else "an empty list"
        case dict():
            return "a table"
        case _:
            return f"a {type(value).__name__}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean "port"?`` if a known word is similar, otherwise an empty string."""
    near = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


def suggestion(word: str, known: Iterable[str]) -> str:
    """As ``did_you_mean``, or ``; choose from a, b`` if nothing known is similar."""
    known = list(dict.fromkeys(known))
    return did_you_mean(word, known) or f"; choose from {', '.join(known)}"
