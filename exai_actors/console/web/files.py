"""The files of the web console: scripts, styles and their licences, all from this package."""

from __future__ import annotations

import gzip
import hashlib
from importlib.resources import files

import msgspec

from exai_actors.console.web.panes import BASE

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
_NAMES = (
    "app.js",
    "actions.js",
    "cells.js",
    "detail.js",
    "feed.js",
    "plots.js",
    "table.js",
    "theme.js",
    "console.css",
    "icon.svg",
    "vendor/lit-html.js",
    "vendor/lit-html-LICENSE.txt",
    "vendor/uplot.js",
    "vendor/uplot.css",
    "vendor/uPlot-LICENSE.txt",
)


class File(msgspec.Struct, frozen=True):
    """A file as it is served, plain or with gzip."""

    content: bytes
    compressed: bytes
    content_type: str


class Files:
    """The files by their path below the broker's address.

    The path contains a digest of them all, so that browsers may keep each forever and a new version
    of the broker is a new set.
    """

    def __init__(self) -> None:
        folder = files("exai_actors.console.web") / "static"
        contents = {name: folder.joinpath(*name.split("/")).read_bytes() for name in _NAMES}
        digest = hashlib.sha256(b"\n".join(contents.values())).hexdigest()[:16]
        self.folder = f"{BASE}/files/{digest}"
        self.etag = f'"{digest}"'
        self.by_path = {
            f"{self.folder}/{name}": File(
                content, gzip.compress(content, mtime=0), _TYPES[name.rpartition(".")[2]]
            )
            for name, content in contents.items()
        }

    def path(self, name: str) -> str:
        """The path of a file."""
        return f"{self.folder}/{name}"
