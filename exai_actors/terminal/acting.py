"""Taking an action: choose it, give its arguments, see the effect, give a reason, confirm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import Any

from textual import events
from textual.widgets import Input

from exai_actors.errors import UsageError
from exai_actors.terminal.cells import one_line
from exai_actors.terminal.lines import BAD, CURSOR, DIM, GOOD, KEY, PLAIN, STRONG, WARN, Line
from exai_actors.terminal.reader import Sheet
from exai_actors.terminal.source import Source

Action = dict[str, Any]


class Choice(Sheet[Action | None]):
    """A menu of actions. Those that the role may not take are shown, with the reason."""

    def __init__(self, title: str, actions: Sequence[Action], role: str) -> None:
        super().__init__()
        self._title, self._actions, self._role = title, actions, role
        self._cursor = next((at for at, each in enumerate(actions) if each["allowed"]), 0)

    def on_mount(self) -> None:
        self._heading.text = self._title
        self._footer.keys = "enter=choose esc=back"
        self._show()

    def _show(self) -> None:
        self._page.content = [*map(list, self._lines())]
        self._page.redraw()

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
            self._footer.state = [(f"! {self._remark(self._actions[at])}", BAD)]
            self._footer.redraw()


class Acting(Sheet[dict[str, Any] | None]):
    """One action on its targets. Ends with its undo, if it was taken and has one.

    ``target`` has ``targets`` or ``filter``, as in the protocol's ``act``.
    """

    CSS = """
    Acting > Input { height: 1; border: none; padding: 0 1; background: #161b22; }
    """

    def __init__(
        self,
        source: Source,
        action: Action,
        target: dict[str, Any],
        arguments: dict[str, Any] | None = None,
    ) -> None:
        self._input = Input()
        super().__init__(self._input)
        self._source, self._action, self._target = source, action, target
        self._arguments: dict[str, Any] = dict(arguments or {})
        self._left = [] if arguments is not None else list(action["arguments"])
        self._undo: dict[str, Any] | None = None
        self._step = ""
        self._reason = ""

    async def on_mount(self) -> None:
        self._heading.text = f"{self._action['title']}: {self._on()}"
        self._page.content = []
        await self._next()

    def _on(self) -> str:
        if filter_ := self._target.get("filter"):
            return f"all that match {filter_!r}"
        targets = self._target["targets"]
        shown = ", ".join(targets[:3])
        return shown if len(targets) <= 3 else f"{shown} and {len(targets) - 3} more"

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
        self._page.content = [*self._page.content, [(text, STRONG)]]
        self._page.scroll_by(1_000_000)
        self._input.display = True
        self._input.value = ""
        self._input.focus()
        self._keys("enter=next esc=cancel")

    def _keys(self, keys: str) -> None:
        self._footer.keys = keys
        self._footer.redraw()

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        text = event.value.strip()
        if self._step == "argument":
            await self._argument_given(text)
        elif text:
            self._reason = text
            self._confirm()
        else:
            self._footer.state = [("! the audit log needs a reason", BAD)]
            self._footer.redraw()

    async def _argument_given(self, text: str) -> None:
        argument = self._left[0]
        try:
            value = argument_value(argument, text)
        except UsageError as error:
            self._footer.state = [(f"! {error}", BAD)]
            self._footer.redraw()
            return
        self._footer.state = ()
        self._left.pop(0)
        if value is not None:
            self._arguments[argument["name"]] = value
        self._page.content = [*self._page.content, [(f"  {text or '(empty)'}", PLAIN)]]
        await self._next()

    async def _preview(self) -> None:
        self._input.display = False
        effect = await self._act(preview=True)
        if effect is None:
            return
        self._page.content = [*self._page.content, [("It will have this effect:", STRONG)]]
        self._page.content += effect_lines(effect, self._page.size.width)
        can_undo = "It can be undone." if effect.get("undo") else "It cannot be undone."
        self._page.content += [[(can_undo, DIM)], []]
        if not any(each.get("ok", True) for each in effect["effects"]):
            self._end("nothing to do")
            return
        self._ask("Reason, for the audit log:", "reason")

    def _confirm(self) -> None:
        self._step = "confirm"
        self._input.display = False
        self._page.content = [
            *self._page.content,
            [(f"  {self._reason}", PLAIN)],
            [("Do it? ", STRONG), ("y", KEY), (" or ", PLAIN), ("n", KEY)],
        ]
        self._page.scroll_by(1_000_000)
        self.set_focus(None)
        self._footer.state = ()
        self._keys("y=do_it n=cancel")

    async def _do(self) -> None:
        effect = await self._act(preview=False)
        if effect is None:
            return
        self._undo = effect.get("undo")
        self._page.content = [[("Done:", STRONG)], *effect_lines(effect, self._page.size.width)]
        self._end("u undoes it" if self._undo else "done")

    def _end(self, text: str) -> None:
        self._step = "end"
        self._input.display = False
        self.set_focus(None)
        self._footer.state = [(text, DIM)]
        self._page.scroll_by(1_000_000)
        self._keys("u=undo esc=back" if self._undo else "esc=back")

    async def _act(self, *, preview: bool) -> dict[str, Any] | None:
        try:
            return await self._source.act(
                {
                    "action": self._action["name"],
                    "arguments": self._arguments,
                    "reason": self._reason,
                    "preview": preview,
                    **self._target,
                }
            )
        except UsageError as error:
            self._page.content = [*self._page.content, [(f"! {error}", BAD)]]
            self._end("refused")
            return None

    async def on_key(self, event: events.Key) -> None:
        if event.key == "escape":
            event.stop()
            self.dismiss(self._undo)
        elif self._step == "confirm":
            event.stop()
            if event.key in ("y", "enter"):
                self._step = "doing"
                await self._do()
            elif event.key in ("n", "q"):
                self.dismiss(None)
        elif self._step == "end":
            event.stop()
            if event.key == "u" and self._undo:
                self.dismiss({**self._undo, "now": True})
            elif event.key in ("enter", "q"):
                self.dismiss(self._undo)


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


def effect_lines(effect: dict[str, Any], width: int) -> list[Line]:
    """The effect on each target; those that refuse say so."""
    lines: list[Line] = []
    for each in effect["effects"]:
        ok = each.get("ok", True)
        sign, target = "  ✓ " if ok else "  ✗ refused: ", f"{each['target']}  "
        indent = len(sign) + len(target)
        first, *more = wrap(one_line(each["text"]), max(20, width - indent)) or [""]
        lines.append([(sign, GOOD if ok else WARN), (target, STRONG), (first, PLAIN)])
        lines += [[(" " * indent + line, PLAIN)] for line in more]
    if effect.get("count", 0) > len(effect["effects"]):
        lines.append([(f"  and {effect['count'] - len(effect['effects'])} more", DIM)])
    return lines
