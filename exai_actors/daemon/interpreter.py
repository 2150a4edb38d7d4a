"""The Python that runs this process, and whether it was built for speed."""

from __future__ import annotations

import platform
import sysconfig
from collections.abc import Mapping
from typing import Any

import msgspec


class Interpreter(msgspec.Struct, frozen=True):
    """``optimised`` is None where the build does not say how it was made."""

    name: str
    version: str
    optimised: bool | None


def interpreter(build: Mapping[str, Any] | None = None) -> Interpreter:
    """The running interpreter; ``build`` are the variables of its build, as sysconfig has them."""
    if build is None:
        build = sysconfig.get_config_vars()
    name = platform.python_implementation()
    arguments = str(build.get("CONFIG_ARGS") or "")
    flags = f"{build.get('PY_CORE_CFLAGS', '')} {build.get('PY_CFLAGS_NODIST', '')}"
    optimised: bool | None = None
    if name == "CPython" and arguments:
        optimised = "--enable-optimizations" in arguments or "-fprofile-use" in flags
    return Interpreter(name, platform.python_version(), optimised)
