from __future__ import annotations

from pathlib import Path

import pytest

from exai_actors.daemon.config.files import find_file, user_file
from exai_actors.daemon.config.load import load, read
from exai_actors.errors import ConfigError

TOKEN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_flag_then_variable_then_folder_then_user_name_the_file(tmp_path: Path) -> None:
    assert find_file(None, {}) is None
    mine = write(user_file(), "")
    assert find_file(None, {}) == mine
    write(Path("exai.toml"), "")
    assert find_file(None, {}) == Path("exai.toml")
    by_variable = write(tmp_path / "variable.toml", "")
    env = {"EXAI_CONFIG": str(by_variable)}
    assert find_file(None, env) == by_variable
    by_flag = write(tmp_path / "flag.toml", "")
    assert find_file(str(by_flag), env) == by_flag


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    write(Path("exai.toml"), "")
    with pytest.raises(ConfigError, match=r"^--config: gone\.toml does not exist; name another"):
        find_file("gone.toml", {})
    with pytest.raises(ConfigError, match=rf"^EXAI_CONFIG: {tmp_path} is not a file"):
        find_file(None, {"EXAI_CONFIG": str(tmp_path)})


def test_an_empty_flag_is_an_error() -> None:
    write(Path("exai.toml"), "")
    with pytest.raises(ConfigError, match=r"^--config: the file name is empty"):
        find_file("", {})


def test_an_unknown_home_is_a_missing_file() -> None:
    with pytest.raises(ConfigError, match=r"^--config: ~nobody-of-that-name/x.toml does not"):
        find_file("~nobody-of-that-name/x.toml", {})


@pytest.mark.parametrize("place", ["work/exai.toml", "user/exai/exai.toml"])
def test_a_folder_or_broken_link_at_a_default_place_is_an_error(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    path.mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"exai\.toml: is not a file; put the config"):
        find_file(None, {})
    path.rmdir()
    path.symlink_to("gone.toml")
    with pytest.raises(ConfigError, match=r"exai\.toml: is a link to a file that does not exist"):
        find_file(None, {})


def test_an_unreadable_path_is_reported() -> None:
    with pytest.raises(ConfigError, match=r": cannot be read: File name too long$"):
        find_file("x" * 5000, {})


def test_a_file_that_is_not_utf8_is_reported_with_its_line() -> None:
    Path("exai.toml").write_bytes(b"[server]\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"^exai\.toml:2: is not UTF-8 text"):
        read(None, {}, {})


def test_a_byte_order_mark_is_accepted() -> None:
    Path("exai.toml").write_bytes(b"\xef\xbb\xbf[server]\nport = 5\n")
    assert load(None, {}, {}).config.server.port == 5


def test_a_huge_file_is_not_read() -> None:
    write(Path("exai.toml"), "#" * 1_100_000)
    with pytest.raises(ConfigError, match="is larger than 1048576 bytes"):
        read(None, {}, {})


def test_load_raises_with_all_problems_and_missing_keys() -> None:
    write(
        Path("exai.toml"),
        "[[provider]]\nkind='openai'\nname='a'\nbase_url='http://127.0.0.1'\napi_key_env='NO_KEY'",
    )
    with pytest.raises(ConfigError, match=r"^exai\.toml:5: .* variable NO_KEY for .* is not set"):
        load(None, {}, {})
    assert load(None, {"NO_KEY": "k"}, {}).config.api_keys == {"a": "k"}
    write(Path("exai.toml"), "[server]\nport = -1\nhost = 3\n")
    with pytest.raises(ConfigError, match=r"^exai\.toml:2: .*\nexai\.toml:3: "):
        load(None, {}, {})


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("~nobody-of-that-name/tok", "~nobody-of-that-name/tok cannot be read: No such file"),
        ("to\\u0000k", "cannot be read: embedded null byte"),
    ],
)
def test_an_impossible_token_file_name_is_reported_with_its_line(name: str, error: str) -> None:
    write(Path("exai.toml"), f'[server]\ntoken_file = "{name}"\n')
    with pytest.raises(ConfigError) as caught:
        load(None, {}, {})
    assert str(caught.value).startswith("exai.toml:2: [server] token_file: ")
    assert error in str(caught.value)


def test_the_token_file_is_read_beside_the_configuration(tmp_path: Path) -> None:
    file = write(tmp_path / "etc" / "exai.toml", "[server]\nhost = '0.0.0.0'\ntoken_file = 'tok'\n")
    write(tmp_path / "etc" / "tok", f"{TOKEN}\n").chmod(0o600)
    loaded = load(str(file), {}, {})
    assert loaded.config.server.token == TOKEN
    assert loaded.warnings == ()


def test_a_token_file_readable_by_others_causes_a_warning() -> None:
    write(Path("exai.toml"), "[server]\ntoken_file = 'tok'\n")
    write(Path("tok"), TOKEN).chmod(0o640)
    (warning,) = load(None, {}, {}).warnings
    assert str(warning).endswith("tok is readable by other users; restrict it with: chmod 600 tok")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, "tok cannot be read: No such file or directory"),
        ("", "tok is empty; write a token of at least 16 characters to it"),
        ("short", "tok: the token has 5 characters but needs at least 16"),
        ("two\nlines of a token file", "tok: a token may contain only printable ASCII"),
    ],
)
def test_a_token_file_without_a_token_is_refused(content: str | None, error: str) -> None:
    write(Path("exai.toml"), "[server]\ntoken_file = 'tok'\n")
    if content is not None:
        write(Path("tok"), content)
    with pytest.raises(ConfigError) as caught:
        load(None, {}, {})
    assert str(caught.value).startswith(f"exai.toml:2: [server] token_file: {error}")
