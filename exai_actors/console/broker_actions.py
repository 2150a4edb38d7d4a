"""The actions on the whole broker: drain it, save a snapshot, save the configuration."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

from exai_actors.console.actions import Actions, Cause, Plan, Replies
from exai_actors.console.parts import Parts
from exai_actors.core.observe.tables import Keyed
from exai_actors.core.operations.action import Action, ActionError, Effect, counted
from exai_actors.core.operators import Role
from exai_actors.runtime import Driver, LoopFuture

T = TypeVar("T")

_DRAIN = Action(
    "broker.drain",
    "Drain",
    "broker",
    Role.OPERATOR,
    "Refuse new requests, finish the others, and end the process.",
    targets=False,
)
_SNAPSHOT = Action(
    "broker.snapshot",
    "Save a snapshot",
    "broker",
    Role.OPERATOR,
    "Save the last minutes as a recording.",
    targets=False,
)
_SAVE = Action(
    "config.save",
    "Save changes",
    "config",
    Role.ADMIN,
    "Write the live changes to the configuration file.",
    targets=False,
)


class ProcessControl(Protocol):
    """The process around the broker. Methods without a driver raise ActionError."""

    def drain(self, cause: str) -> None:
        """Begin to drain; the process ends when that is done."""

    def snapshot(self, cause: str) -> Callable[[], str | None]:
        """A function that writes the last minutes until now, on any thread, and returns why that
        was impossible.
        """

    @property
    def snapshots_at(self) -> str:
        """Where snapshots are saved; empty if nowhere."""

    def settings(self) -> Iterable[Keyed]:
        """The rows of the table ``config``."""

    def changes(self) -> Mapping[Any, Any]:
        """The live changes that the configuration file does not have."""

    def diff(self, changes: Mapping[Any, Any]) -> tuple[str, Callable[[], None]]:
        """The difference to the file, and a function that writes it. On any thread."""


class BrokerActions:
    """Acts on the process around the broker."""

    def __init__(self, process: ProcessControl, parts: Parts, driver: Driver) -> None:
        self._process = process
        self._parts = parts
        self._driver = driver

    def register(self, actions: Actions) -> None:
        actions.add(_DRAIN, self._plan_drain)
        actions.add(_SNAPSHOT, self._plan_snapshot)
        actions.add(_SAVE, self._plan_save)

    def _plan_drain(self, _target: str, _arguments: Mapping[str, Any]) -> Plan:
        now = self._parts.statistics()
        if now.draining:
            raise ActionError("the broker is draining already")
        queued = sum(provider.queued for provider in now.providers)
        in_flight = counted(now.in_flight, "call in flight", "calls in flight")
        requests = f"{in_flight} and {counted(queued, 'queued request')}"
        text = f"new requests are refused, {requests} are finished, and the process ends"
        return Plan(Effect(text, requests), self._sending(self._process.drain))

    def _plan_snapshot(self, _target: str, _arguments: Mapping[str, Any]) -> Plan:
        folder = self._process.snapshots_at
        if not folder:
            raise ActionError("set [server] recordings to a folder for snapshots")
        effect = Effect(f"the last minutes are saved to {folder}", "")

        def carry_out(cause: Cause) -> Replies:
            write = self._process.snapshot(str(cause))
            return (off_loop(self._driver, write),)

        return Plan(effect, carry_out)

    def _plan_save(self, _target: str, _arguments: Mapping[str, Any]) -> LoopFuture[Plan]:
        changes = self._process.changes()
        if not changes:
            raise ActionError("there are no live changes to save")

        def plan() -> Plan:
            diff, write = self._process.diff(changes)
            before = counted(len(changes), "change that the file does not have", "changes")
            return Plan(Effect(diff, before), lambda _: (off_loop(self._driver, write),))

        return off_loop(self._driver, plan)

    def _sending(self, do: Callable[[str], None]) -> Callable[[Cause], Replies]:
        def carry_out(cause: Cause) -> Replies:
            do(str(cause))
            return ()

        return carry_out


def off_loop(driver: Driver, work: Callable[[], T]) -> LoopFuture[T]:
    """The result of work that may wait for a disk, on a thread of its own."""
    result: LoopFuture[T] = LoopFuture(driver)

    def run() -> None:
        try:
            value = work()
        except Exception as error:  # noqa: BLE001 - it belongs to the reader of the result
            driver.call_soon_threadsafe(partial(result.settle_error, error))
        else:
            driver.call_soon_threadsafe(partial(result.settle, value))

    threading.Thread(target=run, name="exai-config", daemon=True).start()
    return result
