"""What a command does not need it does not import: start-up is the sum of all imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("aiohttp", "rich", "textual", "prometheus_client", "opentelemetry", "websockets.asyncio")


def imported_by(code: str) -> set[str]:
    """Those of the heavy modules that a fresh interpreter has afterwards."""
    shown = f"{code}\nimport sys\nprint(*(each for each in {HEAVY!r} if each in sys.modules))"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("from exai_actors.daemon.cli import main", id="exai --help"),
        pytest.param(
            "from exai_actors.daemon.cli import serve\n"
            "serve._import_structlog()\n"
            "import exai_actors.daemon.lifecycle",
            id="exai serve",
        ),
        pytest.param("import exai_actors.client", id="the errors of the client"),
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    assert imported_by(code) == set()


def test_the_clients_names_are_there_when_they_are_used() -> None:
    import exai_actors.client as client

    assert all(hasattr(client, name) for name in client.__all__)
    assert set(client.__all__) <= set(dir(client))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = client.nothing
