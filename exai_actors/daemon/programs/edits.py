"""Changes of configuration files of other programs, which can be undone byte for byte.

Each change leaves a record and a copy of the file as it was, in the user's folder for states. A
file that has changed since is not overwritten: only the marked block is taken out of it, or the
members that still have the values of the change.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from exai_actors.errors import UsageError

BEGIN = "# >>> exai connect: this block is exai's; `exai connect {name} --undo` removes it"
END = "# <<< exai connect"


class JsonEdit(msgspec.Struct, frozen=True):
    """Members for a file of JSON: objects are merged, everything else is replaced."""

    file: Path
    members: dict[str, Any]

    def text(self) -> str:
        """The members as a person would insert them."""
        return json.dumps(self.members, indent=2)

    def applied_to(self, text: str | None, name: str) -> str:  # noqa: ARG002 - as BlockEdit
        """The new text of the file, which does not exist if ``text`` is None.

        Raises UsageError if it is not plain JSON.
        """
        try:
            found = json.loads(text) if text and text.strip() else {}
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise UsageError(
                f"{self.file} is not a plain JSON object (it may have comments); insert the "
                "members yourself, as printed without --write"
            )
        return json.dumps(_merged(found, self.members), indent=2, ensure_ascii=False) + "\n"


class BlockEdit(msgspec.Struct, frozen=True):
    """Lines for a file, between two marks; at its start, so that no table of it precedes them.

    ``taken`` are the beginnings of lines that would contradict them.
    """

    file: Path
    lines: str
    taken: tuple[str, ...] = ()
    at_end: bool = False

    def text(self) -> str:
        return self.lines

    def block(self, name: str) -> str:
        return f"{BEGIN.format(name=name)}\n{self.lines.rstrip()}\n{END}\n"

    def applied_to(self, text: str | None, name: str) -> str:
        """The new text of the file. Raises UsageError if it has such lines already."""
        text = text or ""
        first_table = text.find("\n[") if not text.startswith("[") else 0
        above = text if first_table < 0 else text[: first_table + 1]
        for line in (text if self.at_end else above).splitlines():
            begins = next((each for each in self.taken if line.startswith(each)), None)
            if line == END or begins:
                raise UsageError(
                    f"{self.file} already has the line {line[:60]!r}; change it yourself, as "
                    "printed without --write"
                )
        if not self.at_end:
            return self.block(name) + text
        return f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{self.block(name)}"


Edit = JsonEdit | BlockEdit


class Record(msgspec.Struct, frozen=True):
    """A change that was made. ``before`` is the copy of the file; empty if there was none."""

    file: str
    after: str
    before: str = ""
    block: str = ""
    members: dict[str, Any] = {}
    folders: tuple[str, ...] = ()


class Changes:
    """The changes that were made, in one folder of records."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def record(self, name: str) -> Record | None:
        """The change under this name, if it was made and not undone."""
        file = self._folder / f"{name}.json"
        try:
            return msgspec.json.decode(file.read_bytes(), type=Record)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise UsageError(f"{file} cannot be read: {error}") from None

    def write(self, name: str, edit: Edit) -> Record:
        """Apply the edit, in place of an earlier one of this name.

        Raises UsageError if the file contradicts it or cannot be changed.
        """
        if self.record(name) is not None:
            self.undo(name)
        file = edit.file.resolve()  # a link to the real file stays one
        try:
            before = file.read_bytes() if file.exists() else None
            text = None if before is None else before.decode()
            after = edit.applied_to(text, name).encode()
            folders = _make_folders(file.parent)
            copy = self._keep(name, before)
            record = Record(
                str(file),
                _digest(after),
                copy,
                block=edit.block(name) if isinstance(edit, BlockEdit) else "",
                members=edit.members if isinstance(edit, JsonEdit) else {},
                folders=tuple(map(str, folders)),
            )
            _replace(self._folder / f"{name}.json", msgspec.json.encode(record))
            _replace(file, after)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} cannot be changed: {error}") from None
        return record

    def undo(self, name: str) -> str:
        """Undo the change of this name; return a sentence that says how.

        Raises UsageError if there is none, or the file has changed in a way that prevents it.
        """
        record = self.record(name)
        if record is None:
            raise UsageError(f"there is nothing to undo: `exai connect {name} --write` did not run")
        file = Path(record.file)
        try:
            now = file.read_bytes() if file.exists() else None
            if now is None:
                said = f"{file} is gone; there is nothing left to undo"
            elif _digest(now) == record.after:
                said = _restore(file, record)
            else:
                _replace(file, _taken_out(now, file, record))
                said = f"took exai's part out of {file}; your other changes stay"
            if record.before:
                Path(record.before).unlink(missing_ok=True)
            (self._folder / f"{name}.json").unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"{file} cannot be restored: {error}") from None
        return said

    def _keep(self, name: str, before: bytes | None) -> str:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if before is None:
            return ""
        copy = self._folder / f"{name}.before"
        _replace(copy, before)
        return str(copy)


def _restore(file: Path, record: Record) -> str:
    if record.before:
        _replace(file, Path(record.before).read_bytes())
        return f"restored {file}"
    file.unlink()
    for folder in reversed(record.folders):
        if any(Path(folder).iterdir()):
            break
        Path(folder).rmdir()
    return f"removed {file}, which did not exist before"


def _taken_out(now: bytes, file: Path, record: Record) -> bytes:
    """The file without the change, after its owner has changed other parts of it."""
    advice = f"; take exai's part out of {file} yourself" + (
        f", or copy {record.before} over it" if record.before else ""
    )
    if record.block:
        if now.count(record.block.encode()) != 1:
            raise UsageError(f"the block of exai in {file} has been changed{advice}")
        return now.replace(record.block.encode(), b"")
    before = Path(record.before).read_bytes() if record.before else b""
    try:
        found = json.loads(now)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UsageError(f"{file} is no plain JSON object any more{advice}")
    left = _without(found, record.members, json.loads(before) if before.strip() else {})
    return (json.dumps(left, indent=2, ensure_ascii=False) + "\n").encode()


def _without(
    found: dict[str, Any], members: dict[str, Any], before: dict[str, Any]
) -> dict[str, Any]:
    """``found`` with the values of ``before`` where it still has those of ``members``."""
    left = dict(found)
    for key, value in members.items():
        now, old = left.get(key), before.get(key)
        if isinstance(value, dict) and isinstance(now, dict):
            left[key] = _without(now, value, old if isinstance(old, dict) else {})
            if not left[key] and key not in before:
                del left[key]
        elif key in left and now == value:
            if key in before:
                left[key] = old
            else:
                del left[key]
    return left


def _merged(found: dict[str, Any], members: dict[str, Any]) -> dict[str, Any]:
    merged = dict(found)
    for key, value in members.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = _merged(old, value)
        else:
            merged[key] = value
    return merged


def _make_folders(folder: Path) -> list[Path]:
    """Create the folder with those above it; return the new ones, the outermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _replace(file: Path, data: bytes) -> None:
    """Write the file whole or not at all, with the mode it had; a new one is its owner's."""
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
    number, unfinished = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(number, "wb") as opened:
            opened.write(data)
        os.chmod(unfinished, mode)  # noqa: PTH101 - it has just been named by mkstemp
        os.replace(unfinished, file)  # noqa: PTH105
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
