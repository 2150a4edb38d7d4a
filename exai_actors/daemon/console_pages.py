"""The web console's pages on the broker's port: who may see them, and their HTTP."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import thread_time
from urllib.parse import parse_qs

from exai_actors.console.feed import Sources
from exai_actors.console.web.files import File, Files
from exai_actors.console.web.html import element, joined
from exai_actors.console.web.page import ROWS, Section, View, console_page, login_page, message_page
from exai_actors.console.web.panes import BASE, Pane, panes
from exai_actors.console.web.snapshots import Snapshots
from exai_actors.core.observe.query import Column, Query
from exai_actors.core.observe.tables import Cell
from exai_actors.core.operators import Operator, Operators
from exai_actors.core.passes import LIFE_S, Use
from exai_actors.edges.http_server.connection import Fields
from exai_actors.edges.http_server.server import InTurns, Page, PageRequest, Response
from exai_actors.ports import Clock

COOKIE = "exai_console"
HTML = "text/html; charset=utf-8"
_FOREVER = "public, max-age=31536000, immutable"
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types lit-html",
    )
)
_FIELDS = (
    ("Content-Security-Policy", _POLICY),
    # Not no-referrer: with it, browsers send the Origin of a form as null.
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Vary", "Cookie"),
)
_PLAIN = re.compile(r"[!-\[\]-~]*")
"""No blank, no control character, and no backslash, which browsers take for a slash."""
_SHOWN = ("health", "in_flight", "limit", "queued", "restarts", "alarms")


def missing_page(files: Files) -> Response:
    """The answer for a path below the console's that is none of its pages."""
    page = message_page(
        files,
        "No such page",
        "The console has no page at this address.",
        joined("Its pages begin at ", element("a", {"href": BASE}, "the overview"), "."),
    )
    return _page(404, page)


def console_pages(
    sources: Sources,
    operators: Operators,
    clock: Clock,
    files: Files,
    *,
    version: str,
    note_wrong_token: Callable[[str], float],
    cpu: Callable[[], float] = thread_time,
) -> Mapping[str, Page]:
    """The pages by path. ``note_wrong_token`` counts a guess from an address, and returns how long
    its answer takes; ``cpu`` is the processor time that this thread has used.
    """
    snapshots = Snapshots(sources, clock.now, cpu)
    tables = [table.name for table in sources.tables]
    return _ConsolePages(
        snapshots, tables, operators, clock, files, version, note_wrong_token
    ).by_path()


class _ConsolePages:
    def __init__(
        self,
        snapshots: Snapshots,
        tables: Sequence[str],
        operators: Operators,
        clock: Clock,
        files: Files,
        version: str,
        note_wrong_token: Callable[[str], float],
    ) -> None:
        self._operators = operators
        self._snapshots = snapshots
        self._wall = clock.wall
        self._version = version
        self._note_wrong_token = note_wrong_token
        self._files = files
        self._has_summary = "broker" in tables
        self._panes = panes(tables)

    def by_path(self) -> dict[str, Page]:
        pages = {pane.path: Page(partial(self._show, pane)) for pane in self._panes}
        first = Page(partial(self._show, self._panes[0]))
        return {
            BASE: first,
            f"{BASE}/": first,
            **pages,
            f"{BASE}/login": Page(self._login, ("GET", "POST")),
            f"{BASE}/logout": Page(self._logout, ("POST",)),
            **{path: Page(partial(self._file, file)) for path, file in self._files.by_path.items()},
        }

    def _file(self, file: File, request: PageRequest) -> Response:
        fields: Fields = (
            ("ETag", self._files.etag),
            ("Vary", "Accept-Encoding"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        )
        if request.head.field("If-None-Match") == self._files.etag:
            return Response(304, b"", file.content_type, fields, _FOREVER)
        body = file.content
        if _takes_gzip(request):
            body, fields = file.compressed, (*fields, ("Content-Encoding", "gzip"))
        return Response(200, body, file.content_type, fields, _FOREVER)

    def _show(self, pane: Pane, request: PageRequest) -> Response | InTurns:
        cookie = _cookie(request)
        operator = self._operators.anonymous
        feed_pass = ""
        if operator is None:
            operator = self._operators.identify_pass(cookie, Use.COOKIE, self._wall())
            feed_pass = self._operators.feed_pass(cookie, self._wall()) or ""
        if operator is None:
            return self._without_operator(request)
        query = _query(request)
        return self._make(pane, query, operator, feed_pass)

    def _make(self, pane: Pane, query: Query, operator: Operator, feed_pass: str) -> InTurns:
        queries = [(name, query if name == pane.tables[0] else Query()) for name in pane.tables]
        summary = [("broker", Query(limit=1))] if self._has_summary else []
        reading = self._snapshots.sections([*queries, *summary])
        try:
            while True:
                with self._snapshots.budget():
                    try:
                        next(reading)
                    except StopIteration as read:
                        sections: tuple[Section, ...] = read.value
                        shown, rest = sections[: len(queries)], sections[len(queries) :]
                        view = View(
                            self._version,
                            self._wall(),
                            operator,
                            feed_pass,
                            pane,
                            self._panes,
                            _figures(rest),
                            shown,
                        )
                        return _page(200, console_page(view, self._files))
                yield
        finally:
            reading.close()

    def _without_operator(self, request: PageRequest) -> Response:
        if not self._operators.exist:
            page = message_page(
                self._files,
                "The console is off",
                "Without an [[operator]] entry in the configuration, the console can be seen only "
                "on a broker that listens on loopback.",
                "Add an entry with a name, a role and token_env or token_file, and restart.",
            )
            return _page(403, page)
        if request.head.field("Sec-Fetch-Site") in {"cross-site", "same-site"}:
            # The cookie is not sent along a link from another site, but is when a page reloads.
            page = message_page(self._files, "One moment", refreshes=True)
            return _page(200, page)
        return _page(403, login_page(self._files, to=request.head.target))

    def _login(self, request: PageRequest) -> Response:
        if request.head.method != "POST":
            return _page(200, login_page(self._files, to=BASE))
        if (request.head.field("Sec-Fetch-Site") or "same-origin") not in {"same-origin", "none"}:
            return _page(403, message_page(self._files, "Refused", "Log in from this page itself."))
        form = _form(request.body)
        to = form.get("to", BASE)
        made = self._operators.new_pass(form.get("token", ""), self._wall())
        if made is None:
            delay_s = self._note_wrong_token(request.address)
            problem = "This is not the token of an operator."
            page = login_page(self._files, to=to, problem=problem)
            return _page(403, page, delay_s=delay_s)
        return _redirect(_inside(to), _set_cookie(made, LIFE_S, _is_secure(request)))

    def _logout(self, request: PageRequest) -> Response:
        return _redirect(BASE, _set_cookie("", 0, _is_secure(request)))


def _figures(summaries: tuple[Section, ...]) -> tuple[tuple[Column, Cell], ...]:
    return tuple(
        (column, cell)
        for summary in summaries
        if summary.selection is not None
        for row in summary.selection.rows.values()
        for column, cell in zip(summary.table.columns, row, strict=True)
        if column.name in _SHOWN
    )


def _page(status: int, body: bytes, *, delay_s: float = 0.0) -> Response:
    return Response(status, body, HTML, _FIELDS, delay_s=delay_s)


def _redirect(to: str, cookie: tuple[str, str]) -> Response:
    return Response(303, b"", HTML, (*_FIELDS, ("Location", to), cookie))


def _set_cookie(value: str, life_s: int, secure: bool) -> tuple[str, str]:
    attributes = f"Path={BASE}; Max-Age={life_s}; HttpOnly; SameSite=Strict"
    return "Set-Cookie", f"{COOKIE}={value}; {attributes}{'; Secure' if secure else ''}"


def _is_secure(request: PageRequest) -> bool:
    """Whether the browser reaches the broker by TLS, through a proxy that ends it."""
    return (request.head.field("Origin") or "").startswith("https://")


def _takes_gzip(request: PageRequest) -> bool:
    codings = (request.head.field("Accept-Encoding") or "").lower().split(",")
    return any(coding.replace(" ", "") in {"gzip", "gzip;q=1", "gzip;q=1.0"} for coding in codings)


def _cookie(request: PageRequest) -> str:
    for part in (request.head.field("Cookie") or "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def _form(body: bytes) -> dict[str, str]:
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=4)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}


def _query(request: PageRequest) -> Query:
    try:
        fields = parse_qs(request.head.query, max_num_fields=16)
    except ValueError:
        return Query(limit=ROWS)
    skip = fields.get("skip", ["0"])[0]
    return Query(
        fields.get("filter", [""])[0],
        fields.get("sort", [""])[0],
        ROWS,
        int(skip) if skip.isascii() and skip.isdigit() and len(skip) <= 9 else 0,
    )


def _inside(target: str) -> str:
    """The target if it is a page of the console, else the console: no other site."""
    path = target.partition("?")[0]
    is_inside = path == BASE or path.startswith(f"{BASE}/")
    if is_inside and _PLAIN.fullmatch(target) and "//" not in path and "/." not in path:
        return target
    return BASE
