"""`exai serve` in front of a service with TLS."""

from __future__ import annotations

import asyncio
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trustme

from exai_actors.testing.scripted_replies import answer
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from tests.daemon.processes import MODEL, exai, serving


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@asynccontextmanager
async def tls_before(upstream: ScriptedUpstream, authority: trustme.CA) -> AsyncIterator[str]:
    """Run a TLS proxy in front of the service; yields its base URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    plain_port = int(upstream.base_url.rsplit(":", 1)[1].split("/")[0])

    async def carry(reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(OSError, ssl.SSLError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", plain_port)
        await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}/v1"


def provider(base_url: str) -> str:
    return (
        '[[provider]]\nkind = "openai"\nname = "scripted"\n'
        f'base_url = "{base_url}"\nmodels = ["{MODEL}"]\n'
    )


async def test_a_trusted_certificate_is_accepted_and_its_connection_reused(
    tmp_path: Path, authority: trustme.CA
) -> None:
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    async with ScriptedUpstream(default=answer("Hel", "lo")) as upstream:
        async with (
            tls_before(upstream, authority) as base_url,
            serving(provider(base_url), tmp_path, env={"SSL_CERT_FILE": str(trusted)}) as broker,
        ):
            for _ in range(3):
                result = await exai("ask", "hi", "--url", broker.url)
                assert (result.code, result.out) == (0, "Hello\n")
            assert (await broker.stop()).code == 0
        assert upstream.connections == 1


async def test_an_untrusted_certificate_is_refused(tmp_path: Path, authority: trustme.CA) -> None:
    async with ScriptedUpstream() as upstream:
        async with (
            tls_before(upstream, authority) as base_url,
            serving(provider(base_url), tmp_path) as broker,
        ):
            result = await exai("ask", "hi", "--url", broker.url)
            await broker.stop()
        assert result.code != 0
        assert "certificate" in result.err
        assert "not trusted" in result.err
        assert upstream.started == 0
