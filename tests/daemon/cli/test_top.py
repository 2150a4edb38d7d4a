"""`exai top` and `exai ps`: tables of a running broker, and who may see them."""

from __future__ import annotations

import asyncio
import json
import signal
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest

from exai_actors.client.console import WatchedTable
from exai_actors.core.operations.audit import AUDIT
from exai_actors.daemon.cli.top_text import table_text
from exai_actors.testing.broker import running_broker
from tests.daemon.processes import EXAI, clean_environment, ended, exai

COLUMNS = [
    {"name": "name", "title": "Name", "kind": "text"},
    {"name": "full", "title": "Full", "kind": "share"},
    {"name": "held_s", "title": "Held", "kind": "seconds"},
    {"name": "ok", "title": "OK", "kind": "flag"},
    {"name": "failed", "title": "Failed", "kind": "total"},
]
TOKEN = "token-of-an-operator"


def table(*rows: list[Any], matching: int | None = None, total: int = 9, **fit: Any) -> str:
    watched = WatchedTable(COLUMNS)
    watched.rows = {str(number): list(row) for number, row in enumerate(rows)}
    watched.matching = len(rows) if matching is None else matching
    watched.total = total
    return table_text(watched, **fit)


def test_cells_are_written_by_the_kind_of_their_column() -> None:
    text = table(["kimi", 0.25, 61.2, True, 0], ["glm", None, 0.0042, False, 12])
    assert text.splitlines() == [
        "Name  Full    Held  OK   Failed",
        "kimi   25%  61.2 s  yes       0",
        "glm      -  4.2 ms  NO       12",
    ]


@pytest.mark.parametrize("word", ["a\nb", "a\tb", "a\x1b[2Jb", "a\rb", "a\0b", "\u202ea"])
def test_a_word_of_a_client_is_in_one_row(word: str) -> None:
    _, line = table([word, 0.25, 61.2, True, 0]).split("\n")
    assert line.isprintable()
    assert line.endswith("   25%  61.2 s  yes")


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("bytes", 0, "0 B"),
        ("bytes", 999, "999 B"),
        ("bytes", 1_000, "1000 B"),
        ("bytes", 49_061_888, "47 MiB"),
        ("bytes", 5_000_000_000_000, "4.5 TiB"),
        ("share", 0.0, "0%"),
        ("share", 0.004, "0.4%"),
        ("share", 0.1, "10%"),
    ],
)
def test_small_parts_and_large_sizes_are_readable(kind: str, value: float, text: str) -> None:
    watched = WatchedTable([{"name": "it", "title": "It", "kind": kind}])
    watched.rows = {"1": [value]}
    assert table_text(watched).splitlines()[1].strip() == text


def test_a_narrow_screen_shows_the_effect_of_each_action() -> None:
    watched = WatchedTable(
        [{"name": column.name, "title": column.title, "kind": "text"} for column in AUDIT.columns]
    )
    effect = "2 calls in flight continue; 16 queued requests and new ones wait"
    watched.rows["1"] = ["2026-11-29T02:38:12.357+00:00", "ada", "provider.pause", "kimi", effect]
    watched.rows["1"] += ["their quota is used up, look at the invoices", "done", "open", "admin"]
    watched.matching = 1
    titles, row, left_out = table_text(watched, width=80).splitlines()
    assert row.startswith("11-29 02:38:12  ada       provider.pause  kimi    2 calls in flight con")
    assert max(map(len, (titles, row, left_out))) <= 80
    assert left_out == "too narrow for: Reason, Outcome, Before, Role"
    wide = table_text(watched, width=100).splitlines()[1]
    assert "their quota is us" in wide
    assert "2026-11-29T02:38:12.357+00:00" in table_text(watched)


def test_columns_of_zeros_are_left_out_and_missing_rows_are_counted() -> None:
    text = table(["kimi", 0.0, 0.0, True, 0], matching=5)
    assert text.splitlines()[0] == "Name  Full  Held  OK"
    assert text.splitlines()[-1] == "and 4 more; see --limit"
    assert table().splitlines()[-1] == "no rows match"
    assert table(total=0).splitlines()[-1] == "no rows"


@pytest.mark.parametrize(
    ("width", "keep", "titles", "left_out"),
    [
        (None, "", "Name  Full    Held  OK   Failed", None),
        (31, "", "Name  Full    Held  OK   Failed", None),
        (30, "", "Name  Full    Held  OK", "too narrow for: Failed"),
        (30, "failed", "Name  Full    Held  OK   Failed", None),
        (29, "held_s", "Name  Full    Held  OK", "too narrow for: Failed"),
    ],
)
def test_columns_that_do_not_fit_are_named_below(
    width: int | None, keep: str, titles: str, left_out: str | None
) -> None:
    lines = table(["kimi", 0.25, 61.2, True, 3], width=width, keep=keep).splitlines()
    assert lines[0] == titles
    assert lines[2:] == ([] if left_out is None else [left_out])


@pytest.mark.parametrize("width", [30, 40, 79, 80, 100])
@pytest.mark.parametrize("name", ["kimi", "a-long-name-of-a-provider", "x" * 90])
def test_no_line_is_wider_than_the_terminal(width: int, name: str) -> None:
    row = [name, None, None, True, 123_456_789_012]
    text = table(row, [*row[:4], 0], matching=9, width=width)
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize(("height", "rows"), [(24, 20), (10, 6), (5, 1), (3, 1)])
def test_no_more_rows_are_shown_than_the_screen_has_lines(height: int, rows: int) -> None:
    lines = table(*([f"p{number}", 0, 0, True, 1] for number in range(40)), height=height)
    assert lines.splitlines()[1:] == [
        *(line for line in lines.splitlines() if line.startswith("p")),
        f"and {40 - rows} more; the screen is full",
    ]
    assert sum(line.startswith("p") for line in lines.splitlines()) == rows


async def test_the_tables_of_a_running_broker() -> None:
    async with running_broker() as broker, broker.connect() as client:
        await client.call("chat", prompt="hello")
        top = await exai("top", "--once", "--url", broker.url)
        ps = await exai("ps", "--sort", "-processed", "--filter", "!Console", "--url", broker.url)
        rows = json.loads(
            (
                await exai(
                    "ps", "--json", "--limit", "1", "--filter", "class:Broker", "--url", broker.url
                )
            ).out
        )
    assert "serving" in top.out
    assert "ProviderActor" in ps.out
    assert "ConsoleActor" not in ps.out
    [row] = rows
    assert (row["path"], row["incarnation"]) == ("/broker", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("top", "nothing", "--once"),
            "there is no table 'nothing'; choose from broker, providers",
        ),
        (("ps", "--sort", "age"), "there is no column 'age' in actors"),
        (("ps", "--filter", "age>3"), "there is no column 'age' in actors"),
    ],
)
async def test_a_question_that_makes_no_sense_is_answered(
    arguments: tuple[str, ...], message: str
) -> None:
    async with running_broker() as broker:
        result = await exai(*arguments, "--url", broker.url)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


async def test_without_a_broker_there_is_advice() -> None:
    result = await exai("ps", "--url", "ws://127.0.0.1:1")
    assert result.code == 5
    assert "`exai serve` starts one" in result.err


async def test_only_operators_see_the_tables_of_a_broker_that_names_them(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    config = {"operator": [{"name": "ada", "token_file": str(file)}]}
    async with running_broker(config) as broker:
        refused = await exai("ps", "--url", broker.url)
        wrong = await exai("ps", "--url", broker.url, env={"EXAI_OPERATOR_TOKEN": "a-wrong-one"})
        by_file = await exai("ps", "--token-file", str(file), "--url", broker.url)
        by_variable = await exai("ps", "--url", broker.url, env={"EXAI_OPERATOR_TOKEN": TOKEN})
    assert "needs the token of an operator" in refused.err
    assert "does not accept the operator's token" in wrong.err
    for each in refused, wrong:
        assert "set it with --token-file or EXAI_OPERATOR_TOKEN" in each.err
        assert "EXAI_TOKEN" not in each.err
        assert each.code == 6
    assert "/broker" in by_file.out
    assert "/broker" in by_variable.out


async def test_a_watched_table_is_printed_again_when_it_changes_until_ctrl_c() -> None:
    async with running_broker() as broker:
        process = await asyncio.create_subprocess_exec(
            *EXAI,
            "top",
            "actors",
            "--every",
            "0.25",
            "--url",
            broker.url,
            stdout=PIPE,
            stderr=PIPE,
            env=clean_environment(),
        )
        assert process.stdout is not None
        async with asyncio.timeout(20):
            for _ in range(2):
                while b"/broker" not in await process.stdout.readline():
                    pass
        process.send_signal(signal.SIGINT)
        result = await ended(process)
    assert (result.code, result.err) == (0, "")
