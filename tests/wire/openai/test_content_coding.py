"""Decoding bodies that a service compressed although it was not asked to."""

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.wire.openai.content_coding import PORTION_BYTES, BadCoding, Inflater, is_compressed


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-15)


def decoded(inflater: Inflater, *portions: bytes) -> bytes:
    whole = b""
    for portion in portions:
        inflater.feed(portion)
        while data := inflater.take():
            assert len(data) <= PORTION_BYTES
            whole += data
    return whole


CODINGS = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    (" GZIP ", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
]


@pytest.mark.parametrize(("coding", "compress"), CODINGS)
@given(data=st.binary(max_size=300), cut=st.integers(0, 400))
def test_a_compressed_body_is_restored_however_it_is_split(
    coding: str, compress: Callable[[bytes], bytes], data: bytes, cut: int
) -> None:
    packed = compress(data)
    inflater = Inflater(coding)
    assert decoded(inflater, packed[:cut], packed[cut:]) == data
    assert not inflater.truncated


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, br"])
@pytest.mark.parametrize("start", [b"data: x", b"event: y", b'\n{"choices"', b": ping", b"id: 1"])
def test_a_body_that_is_plain_although_a_coding_is_named_is_taken_as_it_is(
    coding: str, start: bytes
) -> None:
    inflater = Inflater(coding)
    assert decoded(inflater, start, b"z" * PORTION_BYTES, b"\x1f") == (
        start + b"z" * PORTION_BYTES + b"\x1f"
    )
    assert not inflater.truncated


@pytest.mark.parametrize(("coding", "compress"), CODINGS)
def test_a_bomb_is_decoded_one_portion_at_a_time(
    coding: str, compress: Callable[[bytes], bytes]
) -> None:
    data = b"x" * (20 * PORTION_BYTES + 17)
    inflater = Inflater(coding)
    inflater.feed(compress(data))
    assert inflater.take() == data[:PORTION_BYTES]
    assert inflater.truncated
    rest = b""
    while more := inflater.take():
        assert len(more) <= PORTION_BYTES
        rest += more
    assert len(rest) == len(data) - PORTION_BYTES
    assert not inflater.truncated


@pytest.mark.parametrize("size", [PORTION_BYTES, 2 * PORTION_BYTES])
def test_a_body_of_whole_portions_ends(size: int) -> None:
    inflater = Inflater("gzip")
    assert len(decoded(inflater, gzip.compress(b"x" * size))) == size
    assert not inflater.truncated


def test_gzip_members_are_one_body_and_padding_is_ignored() -> None:
    packed = gzip.compress(b"Hel") + gzip.compress(b"lo") + b"\0" * 10
    for cut in range(len(packed) + 1):
        inflater = Inflater("gzip")
        assert decoded(inflater, packed[:cut], packed[cut:]) == b"Hello"
        assert not inflater.truncated


def test_an_incomplete_body_is_truncated() -> None:
    inflater = Inflater("gzip")
    decoded(inflater, gzip.compress(b"Hello")[:-1])
    assert inflater.truncated


def test_an_empty_body_is_not_truncated() -> None:
    inflater = Inflater("gzip")
    assert decoded(inflater, b"") == b""
    assert not inflater.truncated


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_uncompressed_data_is_rejected(coding: str) -> None:
    with pytest.raises(BadCoding, match="compression is broken"):
        decoded(Inflater(coding), b"\xff\xffno compression at all")


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress"])
def test_another_coding_is_rejected(coding: str) -> None:
    with pytest.raises(BadCoding, match="not requested"):
        decoded(Inflater(coding), b"x")


@pytest.mark.parametrize(
    "content_encoding", ["gzip", "GZIP", "x-gzip", "br", "zstd", "gzip, br", "utf-8, br"]
)
def test_compressions_are_recognized(content_encoding: str) -> None:
    assert is_compressed(content_encoding)


@pytest.mark.parametrize(
    "content_encoding", ["", "identity", "Identity", "utf-8", "UTF-8", "none", "8bit"]
)
def test_other_names_are_not_compressions(content_encoding: str) -> None:
    assert not is_compressed(content_encoding)
