"""The tests of SDKs for Node are found in their checkouts, and services read what clients send."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tools.http_service import HttpExchange, HttpService
from tools.sdk_suites import node_suite


def checkout(folder: Path, package: str) -> Path:
    (folder / "package.json").write_text(json.dumps({"name": package, "version": "7.5.0"}))
    return folder


@pytest.mark.parametrize("package", ["openai", "@anthropic-ai/sdk"])
def test_a_checkout_is_known_by_its_package(tmp_path: Path, package: str) -> None:
    assert node_suite(checkout(tmp_path, package)).name == f"{package} 7.5.0"


def test_a_folder_without_an_sdk_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="neither SDK, but no package"):
        node_suite(tmp_path)
    with pytest.raises(SystemExit, match="neither SDK, but left-pad"):
        node_suite(checkout(tmp_path, "left-pad"))


class Echo(HttpService):
    def serve(self, exchange: HttpExchange, body: bytes) -> None:
        exchange.send_json({"resource": exchange.resource, "body": body.decode()})


@pytest.mark.parametrize("in_chunks", [False, True])
def test_a_service_reads_whole_bodies_on_a_connection_that_is_kept(*, in_chunks: bool) -> None:
    connection = HTTPConnection(Echo().address)
    for text in ("first", "second"):
        body = (text[:3].encode(), text[3:].encode()) if in_chunks else text.encode()
        fields = {"Transfer-Encoding": "chunked"} if in_chunks else {}
        connection.request("POST", "/v1/it?query", body, fields, encode_chunked=in_chunks)
        answer = json.load(connection.getresponse())
        assert answer == {"resource": "/v1/it", "body": text}
    connection.close()
