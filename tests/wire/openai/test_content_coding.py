"""Decoding what a service compressed unasked: whole, in portions, and never more than one."""

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exai_actors.wire.openai.content_coding import PORTION_BYTES, BadCoding, Inflater, is_coded


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-15)


def taken(inflater: Inflater, *portions: bytes) -> bytes:
    """All that comes of these bytes."""
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
def test_what_was_compressed_comes_back_however_it_is_split(
    coding: str, compress: Callable[[bytes], bytes], data: bytes, cut: int
) -> None:
    packed = compress(data)
    inflater = Inflater(coding)
    assert taken(inflater, packed[:cut], packed[cut:]) == data
    assert not inflater.cut


@pytest.mark.parametrize(("coding", "compress"), CODINGS)
def test_a_bomb_comes_a_portion_at_a_time_and_no_more_of_it_is_held(
    coding: str, compress: Callable[[bytes], bytes]
) -> None:
    data = b"x" * (20 * PORTION_BYTES + 17)
    inflater = Inflater(coding)
    inflater.feed(compress(data))
    assert inflater.take() == data[:PORTION_BYTES]
    assert inflater.cut
    rest = b""
    while more := inflater.take():
        assert len(more) <= PORTION_BYTES
        rest += more
    assert len(rest) == len(data) - PORTION_BYTES
    assert not inflater.cut


@pytest.mark.parametrize("size", [PORTION_BYTES, 2 * PORTION_BYTES])
def test_whole_portions_end_as_well(size: int) -> None:
    inflater = Inflater("gzip")
    assert len(taken(inflater, gzip.compress(b"x" * size))) == size
    assert not inflater.cut


def test_several_gzip_members_are_one_body_and_padding_is_passed_over() -> None:
    packed = gzip.compress(b"Hel") + gzip.compress(b"lo") + b"\0" * 10
    for cut in range(len(packed) + 1):
        inflater = Inflater("gzip")
        assert taken(inflater, packed[:cut], packed[cut:]) == b"Hello"
        assert not inflater.cut


def test_a_body_that_ends_too_soon_is_cut() -> None:
    inflater = Inflater("gzip")
    taken(inflater, gzip.compress(b"Hello")[:-1])
    assert inflater.cut


def test_nothing_at_all_is_not_cut() -> None:
    inflater = Inflater("gzip")
    assert taken(inflater, b"") == b""
    assert not inflater.cut


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_what_was_not_compressed_is_refused(coding: str) -> None:
    with pytest.raises(BadCoding, match="compression is broken"):
        taken(Inflater(coding), b"\xff\xffno compression at all")


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress"])
def test_another_coding_is_refused(coding: str) -> None:
    with pytest.raises(BadCoding, match="not asked for"):
        taken(Inflater(coding), b"x")


@pytest.mark.parametrize("told", ["gzip", "GZIP", "x-gzip", "br", "zstd", "gzip, br", "utf-8, br"])
def test_a_compression_has_to_be_undone(told: str) -> None:
    assert is_coded(told)


@pytest.mark.parametrize("told", ["", "identity", "Identity", "utf-8", "UTF-8", "none", "8bit"])
def test_what_names_no_compression_does_not_count(told: str) -> None:
    assert not is_coded(told)
