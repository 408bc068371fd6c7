"""How coarsely a lossy WebP was quantised: read from the header of its VP8 frame, since the format does not say its quality.

Source: RFC 6386, sections 7 (boolean entropy decoder), 9.2 to 9.6 and 19.2 (frame header); RFC 9649 for the container.
"""

from __future__ import annotations

START = b"\x9d\x01\x2a"


def quantizer(data: bytes) -> int | None:
    """The base quantiser index, 0 (finest) to 127, of a lossy WebP's frame; None for any other file."""
    at = data.find(b"VP8 ")
    frame = data[at + 8 :]
    if data[8:12] != b"WEBP" or at < 0 or frame[3:6] != START or len(frame) < 12:
        return None
    bits = Bits(frame[10:])
    bits.number(2)  # colour space, clamping
    if bits.number(1):
        skip_segments(bits)
    bits.number(10)  # loop filter: kind, level, sharpness
    if bits.number(1) and bits.number(1):
        bits.optional(8, width=7)
    bits.number(2)  # partitions
    return bits.number(7)


def skip_segments(bits: Bits) -> None:
    has_map, has_features = bits.number(1), bits.number(1)
    if has_features:
        bits.number(1)
        bits.optional(4, width=8)
        bits.optional(4, width=7)
    if has_map:
        bits.optional(3, width=8)


class Bits:
    """Even-odds bits of the boolean entropy decoder."""

    def __init__(self, data: bytes) -> None:
        self.value, self.rest = int.from_bytes(data[:2], "big"), iter(data[2:])
        self.range, self.shifted = 255, 0

    def bit(self) -> int:
        split = 1 + ((self.range - 1) * 128 >> 8)
        one = self.value >= split << 8
        if one:
            self.range -= split
            self.value -= split << 8
        else:
            self.range = split
        while self.range < 128:
            self.value <<= 1
            self.range <<= 1
            self.shifted += 1
            if self.shifted == 8:
                self.shifted = 0
                self.value |= next(self.rest, 0)
        return int(one)

    def number(self, width: int) -> int:
        """An unsigned number, the highest bit first."""
        found = 0
        for _ in range(width):
            found = found << 1 | self.bit()
        return found

    def optional(self, count: int, *, width: int) -> None:
        """Steps over `count` fields that are each there or not."""
        for _ in range(count):
            if self.bit():
                self.number(width)
