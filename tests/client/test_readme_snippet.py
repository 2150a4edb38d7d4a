"""The README's own client, with one id for all its calls, may be used for more than one call."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

from exai_actors.testing.broker import BrokerInThread

README = Path(__file__).parents[2] / "README.md"


def test_the_function_of_the_readme_makes_several_calls(exai_broker: BrokerInThread) -> None:
    programs = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    (program,) = (each for each in programs if "jsonrpc" in each)
    names: dict[str, Any] = {}
    exec(compile(program.partition("\nwith ")[0], str(README), "exec"), names)
    request = names["request"]
    with connect(exai_broker.url) as socket:
        request(socket, "initialize")
        for prompt in ("one", "two", "two", "one"):
            answer = request(socket, "tools/call", name="chat", arguments={"prompt": prompt})
            assert prompt in answer["content"][0]["text"]
