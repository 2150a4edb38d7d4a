"""A whole broker without sockets, services or time, and consoles for each role at it."""

from __future__ import annotations

import json
from typing import Any

from exai_actors.console.broker_actions import ProcessControl
from exai_actors.console.consoles import Consoles
from exai_actors.core.operators import Operator, Operators, Role
from exai_actors.messages.connection import SocketClosed, TextReceived
from exai_actors.ports import Peer
from exai_actors.testing.outbox_probe import OutboxProbe
from exai_actors.testing.tree import ManualTree

OPERATORS = Operators(
    tuple((f"token-of-the-{role}", Operator(role.value, role)) for role in Role), on_loopback=True
)


class Console:
    """One operator's console."""

    def __init__(self, tree: ManualTree, consoles: Consoles, role: Role) -> None:
        self._tree = tree
        self.outbox = OutboxProbe()
        self._ref = consoles.open(Peer("127.0.0.1"), self.outbox)
        (self.greeting,) = self.send({"op": "hello", "token": f"token-of-the-{role}"})

    def send(self, frame: dict[str, Any]) -> list[dict[str, Any]]:
        """Send a frame; return the frames received."""
        self._ref.tell(TextReceived(json.dumps(frame).encode()))
        return self.received()

    def received(self) -> list[dict[str, Any]]:
        self._tree.settle()
        return self.outbox.take()

    def leave_after(self, frame: dict[str, Any]) -> None:
        """Send a frame and close the socket before it is answered."""
        self._ref.tell(TextReceived(json.dumps(frame).encode()))
        self._ref.tell(SocketClosed(1006, ""))
        self._tree.settle()

    def act(self, action: str, *targets: str, **more: Any) -> dict[str, Any]:
        """Take an action; return its effect, or the error."""
        (answer,) = self.send({"op": "act", "id": 8, "action": action, "targets": targets, **more})
        assert answer["id"] == 8
        return answer

    def text(self, action: str, *targets: str, **more: Any) -> str:
        """Take an action on one target; return the text of its effect."""
        (effect,) = self.act(action, *targets, **more)["effects"]
        assert effect["ok"], effect["text"]
        text: str = effect["text"]
        return text

    def rows(self, table: str, **query: Any) -> list[dict[str, Any]]:
        """The rows of a table as they are now."""
        self.send({"op": "unwatch", "table": table})
        self._tree.advance(0.3)
        (snapshot,) = self.send({"op": "watch", "table": table, "every_s": 60, **query})
        names = [column["name"] for column in self.greeting["tables"][table]]
        self.send({"op": "unwatch", "table": table})
        return [dict(zip(names, cells, strict=True)) for _, *cells in snapshot["rows"]]


class OperatorDesk:
    """The consoles of a tree."""

    def __init__(self, *, process: ProcessControl | None = None, **tree: Any) -> None:
        self.tree = ManualTree(**tree)
        self.audited: list[bytes] = []
        self.consoles = Consoles(
            self.tree.system,
            operators=OPERATORS,
            parts=self.tree.overview,
            supervisors=self.tree.supervisors,
            providers=self.tree.directory.providers,
            write_audit=self.audited.append,
            process=process,
            clock=self.tree.clock,
        )

    def console(self, role: Role = Role.ADMIN) -> Console:
        """A console that has been admitted."""
        return Console(self.tree, self.consoles, role)
