"""A page of another origin, in a real browser, calls the HTTP APIs with fetch()."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from playwright.sync_api import Browser, Error

from exai_actors.testing.broker import broker_in_thread

TOKEN = "a-token-of-enough-characters"
CHAT = """
async ([broker, token]) => {
  const response = await fetch(`${broker}/v1/chat/completions`, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      "Authorization": `Bearer ${token}`,
      "x-stainless-lang": "js",
    },
    body: JSON.stringify({
      model: "moon", stream: true, messages: [{ role: "user", content: "hello" }],
    }),
  });
  return [response.status, response.headers.get("x-request-id"), await response.text()];
}
"""
CONSOLE = "async ([broker]) => (await fetch(`${broker}/console`)).status"


class BlankPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@contextmanager
def page_server() -> Iterator[int]:
    """Serves a blank page to everybody; its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BlankPage) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_a_listed_page_streams_a_chat_and_another_one_does_not(browser: Browser) -> None:
    with page_server() as port:
        listed, foreign = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        configuration = {
            "server": {"allowed_origins": [listed], "token": TOKEN},
            "provider": [{"kind": "synthetic", "name": "kimi", "models": ["moon"], "limit": 1}],
        }
        with broker_in_thread(configuration) as broker:
            asked = [f"http://127.0.0.1:{broker.port}", TOKEN]
            page = browser.new_page()
            page.goto(listed)
            status, request_id, text = page.evaluate(CHAT, asked)
            assert (status, request_id[:4]) == (200, "req_")
            assert text.startswith("data: {")
            assert text.endswith("data: [DONE]\n\n")
            assert page.evaluate(CHAT, [asked[0], "wrong"])[0] == 401
            with pytest.raises(Error, match="Failed to fetch"):
                page.evaluate(CONSOLE, asked)
            page.goto(foreign)
            with pytest.raises(Error, match="Failed to fetch"):
                page.evaluate(CHAT, asked)
            page.close()
