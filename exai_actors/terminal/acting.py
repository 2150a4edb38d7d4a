"""Taking an action: choose it, give its arguments, see the effect, give a reason, confirm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import Any

import msgspec
from textual import events
from textual.widgets import Input

from exai_actors.errors import UsageError
from exai_actors.terminal.cells import one_line
from exai_actors.terminal.lines import BAD, CURSOR, DIM, GOOD, KEY, PLAIN, STRONG, WARN, Line
from exai_actors.terminal.reader import Sheet
from exai_actors.terminal.source import Source

Action = dict[str, Any]
Order = dict[str, Any]
"""Members of the protocol's ``act``: ``targets`` or ``filter``, and ``arguments``."""


class Taken(msgspec.Struct, frozen=True):
    """An action was taken: the orders that together undo it, and whether to do so immediately.

    ``rest`` are its own orders from the first one on that the broker refused.
    """

    undos: list[Order]
    undo_now: bool = False
    rest: Sequence[Order] = ()


class Choice(Sheet[Action | None]):
    """A menu of actions. Those that the role may not take are shown, with the reason."""

    def __init__(self, title: str, actions: Sequence[Action], role: str) -> None:
        super().__init__(title, "enter=choose esc=back")
        self._actions, self._role = actions, role
        self._cursor = next((at for at, each in enumerate(actions) if each["allowed"]), 0)

    def on_mount(self) -> None:
        self._show()

    def _show(self) -> None:
        self.show_lines(self._lines())

    def _lines(self) -> Iterable[Line]:
        width = max(len(each["title"]) for each in self._actions)
        for at, each in enumerate(self._actions):
            is_cursor = at == self._cursor
            style = CURSOR if is_cursor else PLAIN if each["allowed"] else DIM
            number = f"{at + 1} " if at < 9 else "  "
            yield [
                (">" if is_cursor else " ", style),
                (number, KEY if not is_cursor else style),
                (f"{each['title']:<{width}}  ", style),
                (self._remark(each), style if is_cursor else DIM),
            ]

    def _remark(self, action: Action) -> str:
        if action["allowed"]:
            return str(action["help"])
        return f"not allowed: needs the role {action['role']}, yours is {self._role}"

    def on_key(self, event: events.Key) -> None:
        event.stop()
        if event.key in ("escape", "q"):
            self.dismiss(None)
        elif event.key in ("down", "j", "up", "k"):
            step = 1 if event.key in ("down", "j") else -1
            self._cursor = (self._cursor + step) % len(self._actions)
            self._show()
        elif event.key == "enter":
            self._choose(self._cursor)
        elif event.character and event.character.isdigit():
            self._choose(int(event.character) - 1)

    def on_click(self, event: events.Click) -> None:
        if event.widget is self._page:
            self._choose(self._page.top + event.y)

    def _choose(self, at: int) -> None:
        if not 0 <= at < len(self._actions):
            return
        self._cursor = at
        self._show()
        if self._actions[at]["allowed"]:
            self.dismiss(self._actions[at])
        else:
            self.say([(f"! {self._remark(self._actions[at])}", BAD)])


class Acting(Sheet[Taken | None]):
    """One action, or several that belong together. Ends with how it is undone, if it was taken.

    The arguments of the first order are asked for, unless it has some.
    """

    CSS = """
    Acting > Input { height: 1; border: none; padding: 0 1; background: #161b22; }
    """

    def __init__(self, source: Source, action: Action, orders: Sequence[Order]) -> None:
        self._input = Input()
        super().__init__(f"{action['title']}: {_subject(orders)}", "", self._input)
        self._source, self._action, self._orders = source, action, orders
        self._arguments: dict[str, Any] = {}
        self._left = [] if "arguments" in orders[0] else list(action["arguments"])
        self._undos: list[Order] = []
        self._rest: Sequence[Order] = ()
        self._step = ""
        self._reason = ""

    def on_mount(self) -> None:
        self.show_lines([])
        # The preview is wrapped to the page, which has no size before.
        self.call_after_refresh(self._next)

    async def _next(self) -> None:
        """Ask for the next argument, or show the preview."""
        if self._left:
            argument = self._left[0]
            needed = "" if argument["required"] else " (may be empty)"
            self._ask(f"{argument['name']}{needed}: {argument['help']}", "argument")
            return
        await self._preview()

    def _ask(self, text: str, step: str) -> None:
        self._step = step
        self.add_lines([[(text, STRONG)]])
        self._input.display = True
        self._input.value = ""
        self._input.focus()
        self.offer("enter=next esc=cancel")

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        text = event.value.strip()
        if self._step == "argument":
            await self._argument_given(text)
        elif text:
            self._reason = text
            self._confirm()
        else:
            self.say([("! the audit log needs a reason", BAD)])

    async def _argument_given(self, text: str) -> None:
        argument = self._left[0]
        try:
            value = argument_value(argument, text)
        except UsageError as error:
            self.say([(f"! {error}", BAD)])
            return
        self.say(())
        self._left.pop(0)
        if value is not None:
            self._arguments[argument["name"]] = value
        self.add_lines([[(f"  {text or '(empty)'}", PLAIN)]])
        await self._next()

    async def _preview(self) -> None:
        self._input.display = False
        effects = await self._act(preview=True)
        if self._step == "end":
            return
        self.add_lines([[("It will have this effect:", STRONG)], *self._effect_lines(effects)])
        can_undo = all(each["undos"] for each in effects)
        self.add_lines([[("It can be undone." if can_undo else "It cannot be undone.", DIM)], []])
        if not any(each.get("ok", True) for effect in effects for each in effect["effects"]):
            self._end("nothing to do")
            return
        self._ask("Reason, for the audit log:", "reason")

    def _confirm(self) -> None:
        self._step = "confirm"
        self._input.display = False
        question = [("Do it? ", STRONG), ("y", KEY), (" or ", PLAIN), ("n", KEY)]
        self.add_lines([[(f"  {self._reason}", PLAIN)], question])
        self.set_focus(None)
        self.say(())
        self.offer("y=do_it n=cancel")

    async def _do(self) -> None:
        effects = await self._act(preview=False)
        self._undos = [undo for effect in effects for undo in effect["undos"]]
        self._rest = self._orders[len(effects) :]
        done = [[("Done:", STRONG)], *self._effect_lines(effects)] if effects else []
        if self._step == "end":
            self.add_lines(done)
            self.offer(self._last_keys)
            return
        self.show_lines(done)
        self._end("u undoes it" if self._undos else "done")

    def _effect_lines(self, effects: Sequence[dict[str, Any]]) -> list[Line]:
        width = self.page_width
        return [line for effect in effects for line in effect_lines(effect, width)]

    @property
    def _last_keys(self) -> str:
        return "u=undo esc=back" if self._undos else "esc=back"

    def _end(self, text: str) -> None:
        self._step = "end"
        self._input.display = False
        self.set_focus(None)
        self.say([(text, DIM)])
        self.offer(self._last_keys)

    async def _act(self, *, preview: bool) -> list[dict[str, Any]]:
        """The effects of the orders, up to the first one that the broker refuses."""
        effects: list[dict[str, Any]] = []
        for order in self._orders:
            given = {"action": self._action["name"], "arguments": self._arguments}
            how = {"reason": self._reason, "preview": preview}
            try:
                effects.append(await self._source.act({**given, **how, **order}))
            except UsageError as error:
                self.add_lines([[(f"! {error}", BAD)]])
                self._end("refused")
                break
        return effects

    async def on_key(self, event: events.Key) -> None:
        if event.key == "escape":
            event.stop()
            self._leave()
        elif self._step == "confirm":
            event.stop()
            if event.key in ("y", "enter"):
                self._step = "doing"
                await self._do()
            elif event.key in ("n", "q"):
                self.dismiss(None)
        elif self._step == "end":
            event.stop()
            if event.key == "u" and self._undos:
                self._leave(undo_now=True)
            elif event.key in ("enter", "q"):
                self._leave()

    def _leave(self, *, undo_now: bool = False) -> None:
        self.dismiss(Taken(self._undos, undo_now, self._rest) if self._undos else None)


def _subject(orders: Sequence[Order]) -> str:
    """What the orders are about: the first targets, or the filter."""
    if filter_ := orders[0].get("filter"):
        return f"all that match {filter_!r}"
    targets = [target for order in orders for target in order["targets"]]
    shown = ", ".join(targets[:3])
    return shown if len(targets) <= 3 else f"{shown} and {len(targets) - 3} more"


def argument_value(argument: dict[str, Any], text: str) -> str | int | float | None:
    """The value of an argument as text; None for none. Raises UsageError."""
    if not text:
        if argument["required"]:
            raise UsageError(f"{argument['name']} is needed")
        return None
    try:
        match argument["kind"]:
            case "count":
                return int(text)
            case "number":
                return float(text)
    except ValueError:
        kind = "whole number" if argument["kind"] == "count" else "number"
        raise UsageError(f"{argument['name']} is a {kind}") from None
    return text


_DEEPER = " " * 6


def effect_lines(effect: dict[str, Any], width: int) -> list[Line]:
    """The effect on each target; those that refuse say so."""
    lines: list[Line] = []
    for each in effect["effects"]:
        ok = each.get("ok", True)
        sign, target = "  ✓ " if ok else "  ✗ refused: ", f"{each['target']}  "
        indent = len(sign) + len(target)
        head: Line = [(sign, GOOD if ok else WARN), (target, STRONG)]
        if indent > width // 2:
            # Beside a long name the text would be a narrow column.
            lines.append(head)
            head, indent = [(_DEEPER, PLAIN)], len(_DEEPER)
        first, *more = wrap(one_line(each["text"]), max(20, width - indent)) or [""]
        lines.append([*head, (first, PLAIN)])
        lines += [[(" " * indent + line, PLAIN)] for line in more]
    if effect.get("count", 0) > len(effect["effects"]):
        lines.append([(f"  and {effect['count'] - len(effect['effects'])} more", DIM)])
    return lines
