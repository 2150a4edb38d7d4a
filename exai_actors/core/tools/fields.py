"""The kinds of tool arguments. Each is a check and the JSON Schema of the same rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_SHOWN_CHARACTERS = 100
_MAX_LIST = 100
# JSON numbers beyond this are not the same in every language.
_SHOWN_NUMBER = 2**53


class FieldError(Exception):
    """A value that its field does not allow; ``value`` is short enough for an error message."""

    def __init__(self, field: str, problem: str, value: Any = None) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem
        self.value = value


class Field(NamedTuple):
    """``check(name, value)`` returns the value to use or raises FieldError."""

    schema: dict[str, Any]
    check: Callable[[str, Any], Any]


def text(shortest: int, longest: int, description: str, *, blank: bool = True) -> Field:
    """A string of ``shortest`` to ``longest`` characters, not only white space unless ``blank``."""
    schema = {"type": "string", "description": description, "maxLength": longest}
    if shortest:
        schema["minLength"] = shortest
        if not blank:
            schema["pattern"] = r"\S"

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise _wrong_type(name, "string", value)
        if (not value and shortest) or (not blank and value.isspace()):
            raise FieldError(name, "must not be empty")
        if shortest <= len(value) <= longest:
            return value
        raise FieldError(name, f"must have {shortest} to {longest} characters, got {len(value)}")

    return Field(schema, check)


def number(lowest: float, highest: float, description: str) -> Field:
    """A number from ``lowest`` to ``highest``; true and false are not numbers."""
    schema = {
        "type": "number",
        "description": description,
        "minimum": lowest,
        "maximum": highest,
    }

    def check(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong_type(name, "number", value)
        if not lowest <= value <= highest:
            raise _out_of_range(name, lowest, highest, value)
        return float(value)

    return Field(schema, check)


def integer(lowest: int, highest: int, description: str) -> Field:
    """A whole number from ``lowest`` to ``highest``, also written as 5.0; true is not a number."""
    schema = {
        "type": "integer",
        "description": description,
        "minimum": lowest,
        "maximum": highest,
    }

    def check(name: str, value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong_type(name, "int", value)
        if not lowest <= value <= highest:
            raise _out_of_range(name, lowest, highest, value)
        return value

    return Field(schema, check)


def one_of(choices: tuple[str, ...], description: str) -> Field:
    """One of the given words in any case."""
    schema = {"type": "string", "description": description, "enum": list(choices)}

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise _wrong_type(name, "string", value)
        folded = value.casefold()
        if folded not in choices:
            raise FieldError(name, f"must be one of {', '.join(choices)}", _shown(value))
        return folded

    return Field(schema, check)


def text_or_texts(most: int, description: str) -> Field:
    """A non-empty string, or a list of at most ``most`` of them."""
    texts = {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": most}
    schema = {"description": description, "anyOf": [{"type": "string", "minLength": 1}, texts]}

    def check(name: str, value: Any) -> str | list[str]:
        texts: Any = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
            raise _wrong_type(name, "string or list of strings", value)
        if len(texts) > most:
            raise FieldError(name, f"must have at most {most} entries, got {len(texts)}")
        if not all(texts):
            raise FieldError(name, "must not be empty")
        return texts if texts is value else str(value)

    return Field(schema, check)


def json_list(description: str) -> Field:
    """A list of JSON objects."""
    schema = {"type": "array", "description": description, "items": {"type": "object"}}

    def check(name: str, value: Any) -> list[dict[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise _wrong_type(name, "list of objects", value)
        return value

    return Field(schema, check)


def json_object_or_text(description: str) -> Field:
    """A JSON object, or a string with one, which is not looked into."""
    schema = {"description": description, "anyOf": [{"type": "object"}, {"type": "string"}]}

    def check(name: str, value: Any) -> dict[str, Any] | str:
        if not isinstance(value, dict | str):
            raise _wrong_type(name, "object or string", value)
        return value

    return Field(schema, check)


def json_object(description: str) -> Field:
    """Any JSON object."""
    schema = {"type": "object", "description": description}

    def check(name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong_type(name, "object", value)
        return value

    return Field(schema, check)


def url_list(beginnings: tuple[str, ...], description: str) -> Field:
    """A list of strings, each of which begins with one of ``beginnings``."""
    schema = {
        "type": "array",
        "items": {"type": "string", "pattern": f"^({'|'.join(beginnings)})"},
        "maxItems": _MAX_LIST,
        "description": description,
    }

    def check(name: str, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise _wrong_type(name, "list", value)
        if len(value) > _MAX_LIST:
            raise FieldError(name, f"must have at most {_MAX_LIST} entries, got {len(value)}")
        for item in value:
            if not isinstance(item, str):
                raise FieldError(name, f"must hold strings only, got {type(item).__name__}")
            if not item.startswith(beginnings):
                raise FieldError(
                    name, f"must hold URLs that begin with {' or '.join(beginnings)}", _shown(item)
                )
        return tuple(value)

    return Field(schema, check)


def empty_list(instead: str, description: str) -> Field:
    """A list that must be empty; ``instead`` says what to do with its entries."""
    schema = {"type": "array", "maxItems": 0, "description": description}

    def check(name: str, value: Any) -> None:
        if not isinstance(value, list):
            raise _wrong_type(name, "list", value)
        if value:
            raise FieldError(name, f"must be empty: {instead}")

    return Field(schema, check)


def boolean(description: str) -> Field:
    """True or false, also as the words that old clients send."""
    schema = {"type": "boolean", "description": description}

    def check(name: str, value: Any) -> bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str):
            folded = value.strip().casefold()
            if folded in _TRUE:
                return True
            if folded in _FALSE:
                return False
            raise FieldError(name, "must be true or false", _shown(value))
        raise _wrong_type(name, "bool", value)

    return Field(schema, check)


def _wrong_type(name: str, wanted: str, value: Any) -> FieldError:
    return FieldError(name, f"must be {wanted}, got {type(value).__name__}")


def _out_of_range(name: str, lowest: float, highest: float, value: float) -> FieldError:
    problem = f"must be between {lowest} and {highest}"
    if abs(value) <= _SHOWN_NUMBER:
        return FieldError(name, f"{problem}, got {value}", value)
    return FieldError(name, problem)


def _shown(value: str) -> str:
    return value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "..."
