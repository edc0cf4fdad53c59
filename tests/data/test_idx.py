import struct

import pytest
import torch

from isocline.data import DataError, parse_idx


def _idx(code: int, shape: tuple[int, ...], values: bytes) -> bytes:
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + values


@pytest.mark.parametrize(
    ("code", "letter", "dtype"),
    [
        (0x08, "B", torch.uint8),
        (0x09, "b", torch.int8),
        (0x0B, "h", torch.int16),
        (0x0C, "i", torch.int32),
        (0x0D, "f", torch.float32),
        (0x0E, "d", torch.float64),
    ],
)
def test_reads_every_type_big_endian(code: int, letter: str, dtype: torch.dtype) -> None:
    values = [1, 2, 3, 4, 5, 100]
    tensor = parse_idx(_idx(code, (2, 3), struct.pack(f">6{letter}", *values)))
    assert torch.equal(tensor, torch.tensor(values, dtype=dtype).reshape(2, 3))
    assert tensor.dtype is dtype


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "found an empty file"),
        (b"\0\1\x08\1" + b"\0\0\0\1a", "magic number.*found 00010801"),
        (_idx(0x07, (1,), b"a"), "magic number"),
        (_idx(0x08, (2, 3), b"12345"), r"expected 18 bytes for shape \(2, 3\), found 17"),
        (_idx(0x08, (2, 3), b"1234567"), r"expected 18 bytes for shape \(2, 3\), found 19"),
        (_idx(0x08, (2, 3), b"")[:9], "header of 12 bytes.*found 9"),
        (_idx(0x0C, (2**32 - 1, 2**32 - 1), b"1234"), "found 16"),
    ],
)
def test_says_what_is_wrong_with_a_damaged_file(raw: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"some-file: expected.*{message}|some-file: {message}"):
        parse_idx(raw, "some-file")
