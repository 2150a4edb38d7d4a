"""Types that several tables of the configuration share, each with its range."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
CountOrNone = Annotated[int, Meta(ge=0, le=1_000_000)]
Tokens = Annotated[int, Meta(ge=0, le=1_000_000_000_000)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=604_800)]
SecondsOrNone = Annotated[float, Meta(ge=0, le=604_800)]
Bytes = Annotated[int, Meta(ge=1024, le=1_073_741_824)]
ProcessBytes = Annotated[int, Meta(ge=1_048_576, le=1_099_511_627_776)]
Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.\-]+$")]
Model = Annotated[str, Meta(min_length=1, max_length=4096)]
Text = Annotated[str, Meta(min_length=1, max_length=4096)]
