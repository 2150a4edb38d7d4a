"""Find the configuration file, and read it as text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from exai_actors.errors import ConfigError

FILE_NAME = "exai.toml"
MAX_FILE_BYTES = 1_048_576


def path_of(written: str) -> Path:
    """The path with a leading ``~`` expanded, or as it is where that user has no home."""
    try:
        return Path(written).expanduser()
    except RuntimeError:
        return Path(written)


def user_file() -> Path:
    """The path of the user's own configuration, whether or not it exists."""
    from platformdirs import user_config_path

    return user_config_path("exai") / FILE_NAME


def find_file(chosen: str | None, env: Mapping[str, str]) -> Path | None:
    """The first of ``chosen`` (``--config``), EXAI_CONFIG, ./exai.toml and the user's own file.

    None when there is none. Raises ConfigError for a named file that does not exist, and for a
    folder or broken link at one of the default places, since it was meant to be a file.
    """
    if chosen == "":
        raise ConfigError(
            "--config: the file name is empty; omit the option to use the default files"
        )
    for name, source in ((chosen, "--config"), (env.get("EXAI_CONFIG"), "EXAI_CONFIG")):
        if name:
            path = path_of(name)
            if not _is_file(path):
                state = "is not a file" if path.exists() else "does not exist"
                raise ConfigError(
                    f"{source}: {path} {state}; name another, or create one with: "
                    "exai config init FILE"
                )
            return path
    for path in (Path(FILE_NAME), user_file()):
        if _is_file(path):
            return path
        if path.exists() or path.is_symlink():
            state = "is not a file" if path.exists() else "is a link to a file that does not exist"
            raise ConfigError(f"{path}: {state}; put the configuration there, or remove it")
    return None


def text_of(file: Path) -> str:
    """The file's text. Raises ConfigError when it cannot be read, is too large or is not UTF-8."""
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(
                f"{file}: is larger than {MAX_FILE_BYTES} bytes; is it the right file?"
            )
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}: is not UTF-8 text; save it as UTF-8") from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
