"""Lists of models in a form that the SDKs of OpenAI and Anthropic both accept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

# Models have no date here, and both SDKs want one.
_CREATED = 0
_CREATED_AT = "1970-01-01T00:00:00Z"


class ServedModel(msgspec.Struct, frozen=True, gc=False):
    """A model's name for clients, its provider, and the families that it is served for."""

    name: str
    provider: str
    families: tuple[str, ...]


def one_model(model: ServedModel) -> dict[str, Any]:
    """One model."""
    return {
        "id": model.name,
        "object": "model",
        "type": "model",
        "display_name": model.name,
        "lifecycle": "active",
        "created": _CREATED,
        "created_at": _CREATED_AT,
        "owned_by": model.provider,
        "families": list(model.families),
    }


def model_list(models: Sequence[ServedModel]) -> bytes:
    """All models, in one page."""
    content = {
        "object": "list",
        "data": [one_model(model) for model in models],
        "has_more": False,
        "first_id": models[0].name if models else None,
        "last_id": models[-1].name if models else None,
    }
    return msgspec.json.encode(content)
