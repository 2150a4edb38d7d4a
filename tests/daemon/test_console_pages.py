"""The pages of the web console: who sees them, what is in them, and how browsers treat them."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser

import pytest

from exai_actors.console.feed import Sources
from exai_actors.console.guesses import note_wrong_token
from exai_actors.console.tables.providers import PROVIDERS
from exai_actors.console.web.files import Files
from exai_actors.core.observe.query import Column, Kind, Table
from exai_actors.core.observe.tables import ManyRows, Row
from exai_actors.core.operators import Operator, Operators, Role
from exai_actors.core.passes import LIFE_S
from exai_actors.core.wrong_tokens import WrongTokens
from exai_actors.daemon.console_pages import COOKIE, console_pages
from exai_actors.edges.http_server.request import RequestHead, by_name
from exai_actors.edges.http_server.server import InTurns, PageRequest, Response
from exai_actors.testing.clock import ManualClock

TOKEN = "token-of-the-operator"
ADA = Operators(((TOKEN, Operator("ada", Role.OPERATOR)),), on_loopback=True)
ANYONE = Operators((), on_loopback=True)
WALL = 1_800_000_000.0
HOSTILE = '</td><script>alert(\'x\')</script>" onclick="alert(1)" <img src=x onerror=alert(2)>&amp;'
PARTS = Table(
    "parts",
    (
        Column("name", "Name", Kind.TEXT, "its name"),
        Column("count", "Count", Kind.COUNT, "how many"),
        Column("full", "Full", Kind.SHARE, "how full"),
        Column("is_new", "New", Kind.FLAG, "whether it is new"),
    ),
)


class Many(ManyRows):
    """5,000 rows; notes how many of them were read."""

    read = 0

    def __len__(self) -> int:
        return 5000

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        for number in range(5000):
            self.read += 1
            yield str(number), (f"part {number}", number, None, None)


class Site:
    """The pages of a broker with two tables."""

    def __init__(self, operators: Operators = ANYONE) -> None:
        self.clock = ManualClock(wall=WALL)
        self.reading_s = 0.0
        self.rows: dict[str, Row] = {
            "bolt": ("bolt", 1200, 0.9, True),
            "nut": ("nut", 7, 0.1, False),
        }
        sources = Sources()
        sources.add(PROVIDERS, lambda: ())
        sources.add(PARTS, self._read)
        self.many = Many()
        sources.add(Table("many", PARTS.columns), lambda: self.many)
        wrong_tokens = WrongTokens()
        self._pages = console_pages(
            sources,
            operators,
            self.clock,
            Files(),
            version="1.2.3",
            note_wrong_token=lambda address: note_wrong_token(wrong_tokens, address, 0.0),
            cpu=self.clock.now,
        )
        self.cookie = ""
        self.turns: list[int] = []
        """How many rows of the long table each turn for a page has read."""

    def _read(self) -> Iterator[tuple[str, Row]]:
        self.clock.advance(self.reading_s)
        yield from self.rows.items()

    def ask(self, target: str, method: str = "GET", body: str = "", **fields: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        if self.cookie:
            named["Cookie"] = f"other=1; {self.cookie}"
        sent = tuple((name.encode(), value.encode()) for name, value in named.items())
        head = RequestHead(method, target, "1.1", sent, True, by_name(sent))
        page = self._pages[head.path]
        assert method in page.methods
        answer = page.answer(PageRequest(head, body.encode(), "192.0.2.7"))
        return answer if isinstance(answer, Response) else self.made(answer)

    def begin(self, target: str) -> InTurns:
        """Ask for a page; return what makes it."""
        page = self._pages[target.partition("?")[0]]
        head = RequestHead("GET", target, "1.1", (), True, {})
        answer = page.answer(PageRequest(head, b"", "192.0.2.7"))
        assert not isinstance(answer, Response)
        return answer

    def made(self, steps: InTurns) -> Response:
        """The response that these turns make."""
        self.turns = []
        while True:
            read = self.many.read
            try:
                next(steps)
            except StopIteration as made:
                response: Response = made.value
                return response
            finally:
                self.turns.append(self.many.read - read)

    def text(self, target: str) -> str:
        return self.ask(target).body.decode()

    def log_in(self, token: str = TOKEN, to: str = "/console", **fields: str) -> Response:
        body = f"token={token}&to={to}"
        answer = self.ask("/console/login", "POST", body, **fields)
        cookies = [value for name, value in answer.fields if name == "Set-Cookie"]
        if cookies:
            self.cookie = cookies[0].partition(";")[0]
        return answer


@pytest.fixture
def site() -> Site:
    return Site()


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.cells: list[str] = []
        self._is_cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag == "td":
            self._is_cell = True
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "td":
            self._is_cell = False

    def handle_data(self, data: str) -> None:
        if self._is_cell:
            self.cells[-1] += data


def parsed(text: str) -> _Cells:
    parser = _Cells()
    parser.feed(text)
    return parser


def field(answer: Response, name: str) -> str:
    (value,) = (value for key, value in answer.fields if key == name)
    return value


def test_without_scripts_a_page_shows_the_rows(site: Site) -> None:
    assert parsed(site.text("/console/parts")).cells == [
        "bolt", "1,200", "90 %", "yes",
        "nut", "7", "10 %", "no",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("filter=nut", ["nut"]),
        ("filter=count%3E%3D1000", ["bolt"]),
        ("sort=count", ["nut", "bolt"]),
        ("sort=-count", ["bolt", "nut"]),
        ("skip=1", ["nut"]),
        ("skip=-1", ["bolt", "nut"]),
        ("skip=1e9", ["bolt", "nut"]),
        ("filter=screw", ["No row matches the filter."]),
    ],
)
def test_filter_order_and_window_are_in_the_address(
    site: Site, query: str, names: list[str]
) -> None:
    cells = parsed(site.text(f"/console/parts?{query}")).cells
    assert cells[:: len(PARTS.columns)] == names


def test_a_page_reads_only_its_part_of_a_long_table(site: Site) -> None:
    page = site.text("/console/many?skip=300")
    assert parsed(page).cells[0] == "part 300"
    assert "301–400 of 5,000" in page
    assert site.many.read <= 400


@pytest.mark.parametrize(
    ("query", "first", "count"),
    [
        ("filter=99", "part 99", "1–95 of 95, 5,000 without the filter"),
        ("filter=count%3E4997", "part 4998", "1–2 of 2, 5,000 without the filter"),
        ("sort=-count", "part 4999", "1–100 of 5,000"),
        ("skip=1901", "part 1901", "1,902–2,001 of 5,000"),
        ("skip=1000000", "Nothing here at present.", ">0 of 5,000<"),
    ],
)
def test_a_long_table_is_searched_in_parts_so_that_a_page_does_not_hold_up_the_broker(
    site: Site, query: str, first: str, count: str
) -> None:
    page = site.text(f"/console/many?{query}")
    assert parsed(page).cells[0] == first
    assert count in page
    assert max(site.turns) <= 200
    assert sum(site.turns) == 5_000


def test_only_one_page_at_a_time_reads_a_long_table(site: Site) -> None:
    first = site.begin("/console/many?filter=99")
    next(first)
    busy = "reads a long table for another page"
    assert busy in site.text("/console/many?sort=count")
    assert busy not in site.text("/console/many")
    assert busy not in site.text("/console/parts?sort=count")
    assert "1–95 of 95" in site.made(first).body.decode()
    assert busy not in site.text("/console/many?sort=count")
    left = site.begin("/console/many?filter=99")
    next(left)
    left.close()
    assert busy not in site.text("/console/many?sort=count")


def test_headings_lead_to_the_table_in_their_order(site: Site) -> None:
    page = site.text("/console/parts?filter=n&sort=-count")
    assert "/console/parts?filter=n&amp;sort=count" in page
    assert 'aria-sort="descending"' in page


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("skip=999999999", "skip from 0 to 1000000"),
        ("sort=colour", "there is no column 'colour' in parts"),
        ("filter=colour%3E3", "there is no column 'colour' in parts"),
        (f"filter={'x' * 201}", "a filter has at most 200 characters"),
        (f"filter={'x+' * 17}", "a filter has at most 16 terms"),
    ],
)
def test_a_page_says_why_a_query_makes_no_sense(site: Site, query: str, problem: str) -> None:
    answer = site.ask(f"/console/parts?{query}")
    assert answer.status == 200
    assert problem in unescape(answer.body.decode())


@pytest.mark.parametrize(
    "hostile", [HOSTILE, "<b>", "'\"><svg onload=alert(1)>", "{{7*7}}", "\x00<!--", "\ud800<i>"]
)
def test_text_of_clients_is_text(site: Site, hostile: str) -> None:
    site.rows = {hostile: (hostile, 1, 0.0, False)}
    page = parsed(site.text("/console/parts"))
    plain = parsed(Site().text("/console/parts"))
    assert page.elements <= plain.elements
    assert page.attributes <= plain.attributes | {"class"}
    assert page.cells[0].strip("\x00?\ufffd") == hostile.replace("\x00", "").replace("\ud800", "")


@pytest.mark.parametrize("place", ["filter", "sort"])
def test_text_of_the_address_is_text(site: Site, place: str) -> None:
    page = site.text(f"/console/parts?{place}=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert "<script>alert" not in page


def test_every_pane_has_a_page(site: Site) -> None:
    links = re.findall(r'href="(/console/[a-z-]+)" data-pane', site.text("/console"))
    assert {"/console/overview", "/console/providers", "/console/parts"} <= set(links)
    for link in links:
        assert site.ask(link).status == 200


def test_pages_allow_nothing_but_their_own_files(site: Site) -> None:
    policy = field(site.ask("/console"), "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    page = site.text("/console")
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"\b(?:src|href|action)=\"(?!/console|#main)", page) == []
    assert re.findall(r"<style|style=|\bon\w+=", page) == []


def test_files_are_kept_by_browsers_forever_and_found_by_the_pages(site: Site) -> None:
    for path in re.findall(r'(?:src|href)="(/console/files/[^"]+)"', site.text("/console")):
        answer = site.ask(path)
        assert answer.status == 200
        assert "immutable" in answer.cache
        again = site.ask(path, If_None_Match=field(answer, "ETag"))
        assert (again.status, again.body) == (304, b"")
        packed = site.ask(path, Accept_Encoding="br, gzip")
        assert field(packed, "Content-Encoding") == "gzip"
        assert gzip.decompress(packed.body) == answer.body
    assert site.ask("/console").cache == "no-store"


@pytest.mark.parametrize("coding", ["", "br", "gzip;q=0", "xgzip", "gzipx", "identity"])
def test_files_are_plain_unless_the_browser_takes_gzip(site: Site, coding: str) -> None:
    answer = site.ask(Files().path("app.js"), Accept_Encoding=coding)
    assert "Content-Encoding" not in dict(answer.fields)


def test_the_scripts_of_a_page_are_small() -> None:
    files = Files()
    scripts = [file for path, file in files.by_path.items() if path.endswith(".js")]
    assert sum(len(file.compressed) for file in scripts) <= 100_000


def test_a_page_asks_for_a_token_where_there_are_operators() -> None:
    site = Site(ADA)
    answer = site.ask("/console/parts?filter=nut")
    assert answer.status == 403
    assert b"bolt" not in answer.body
    assert b'name="token"' in answer.body
    assert b'value="/console/parts?filter=nut"' in answer.body


def test_the_token_opens_the_console() -> None:
    site = Site(ADA)
    answer = site.log_in(to="/console/parts%3Ffilter%3Dnut")
    assert (answer.status, field(answer, "Location")) == (303, "/console/parts?filter=nut")
    cookie = field(answer, "Set-Cookie")
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Path=/console;" in cookie
    assert f"Max-Age={LIFE_S}" in cookie
    assert "Secure" not in cookie
    page = site.text("/console/parts")
    assert "ada · operator" in page
    assert parsed(page).cells[0] == "bolt"
    assert TOKEN not in page
    assert site.cookie.partition("=")[2] not in page


def test_behind_tls_the_cookie_is_secure() -> None:
    site = Site(ADA)
    assert "; Secure" in field(site.log_in(Origin="https://desk.example"), "Set-Cookie")


def test_logging_out_removes_the_cookie() -> None:
    site = Site(ADA)
    site.log_in()
    answer = site.ask("/console/logout", "POST")
    assert field(answer, "Set-Cookie").startswith(f"{COOKIE}=; ")
    assert "Max-Age=0" in field(answer, "Set-Cookie")


def test_guesses_take_longer() -> None:
    site = Site(ADA)
    answers = [site.log_in(f"guess-{number}") for number in range(4)]
    assert [answer.status for answer in answers] == [403] * 4
    assert [answer.delay_s for answer in answers] == [0, 0, 1, 1]
    assert not site.cookie
    assert site.log_in().delay_s == 0


@pytest.mark.parametrize(
    "to",
    [
        "https://evil.example/console",
        "//evil.example/console",
        "/%5Cevil.example",
        "/console%5C..%5Cadmin",
        "/console/../admin",
        "/console%0D%0ASet-Cookie: x=1",
        "/consolex",
        "/admin",
        "",
        "javascript:alert(1)",
        "/console//evil.example",
        "/console/\u2028",
    ],
)
def test_the_way_back_is_inside_the_console(to: str) -> None:
    assert field(Site(ADA).log_in(to=to.replace("\u2028", "%E2%80%A8")), "Location") == "/console"


@pytest.mark.parametrize("site_of", ["cross-site", "same-site"])
def test_another_page_cannot_log_in(site_of: str) -> None:
    site = Site(ADA)
    assert site.log_in(Sec_Fetch_Site=site_of).status == 403
    assert not site.cookie


@pytest.mark.parametrize(
    "body", ["", "token", "token=%FF", "a=1&b=2&c=3&d=4&e=5", "token=&to=", "\xff"]
)
def test_a_form_that_is_none_opens_nothing(body: str) -> None:
    answer = Site(ADA).ask("/console/login", "POST", body)
    assert answer.status == 403
    assert "Set-Cookie" not in dict(answer.fields)


@pytest.mark.parametrize(
    "cookie", ["", "x", f"{COOKIE}=", f"{COOKIE}=cookie.1.x", "a=b; c", "\x00=\x01", "=;;;="]
)
def test_a_wrong_cookie_opens_nothing(cookie: str) -> None:
    site = Site(ADA)
    site.cookie = cookie
    assert site.ask("/console/parts").status == 403


def test_a_link_from_another_site_reloads_so_that_the_cookie_is_sent() -> None:
    answer = Site(ADA).ask("/console/parts", Sec_Fetch_Site="cross-site")
    assert b'http-equiv="refresh"' in answer.body
    assert b"bolt" not in answer.body


def test_beyond_loopback_the_console_is_off_without_operators() -> None:
    answer = Site(Operators((), on_loopback=False)).ask("/console/parts")
    assert answer.status == 403
    assert b"[[operator]]" in answer.body
    assert b"bolt" not in answer.body


def test_pages_that_cost_much_are_left_out_for_a_while(site: Site) -> None:
    site.reading_s = 1.0
    assert "bolt" in site.text("/console/parts")
    page = site.text("/console/parts")
    assert "bolt" not in page
    assert "Reload in 10 s" in page
    site.clock.advance(9.0)
    assert "bolt" not in site.text("/console/parts")
    site.clock.advance(1.1)
    assert "bolt" in site.text("/console/parts")
