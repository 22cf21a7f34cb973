"""Whether a video is whole: no part that its container announces lies behind the file's end.

So a cut is seen even where it takes no picture, or leaves one that looks complete. A container
that was written to a pipe announces less (Matroska of unknown size, AVI with a stand-in for its
size, fragmented MP4): cut between two of its parts, it can't be told from a whole one.
"""

import math
import os
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

# AVI: sizes from here on stand for one that is not known.
UNKNOWN_SIZE = 2**31 - 2**20
EBML = b"\x1a\x45\xdf\xa3"
# The first box of an MP4 or QuickTime file.
BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
# Flash video: sound, pictures, and data about them.
TAGS = (8, 9, 18)
TAG_HEADER, TAG_END = 11, 4
DURATION = b"\x00\x08duration\x00"
# By how many seconds a stated duration may be longer than what is there.
TOLERANCE = 0.25


def require_whole(path: Path) -> None:
    """Check a Flash, MP4, QuickTime, AVI, Matroska or WebM file; others are left to the decoder.

    Raises
    ------
    ValueError
        If the file is cut short.
    """
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        head = file.read(12)
        if head.startswith(b"FLV"):
            whole = _flash_is_whole(file, length)
        elif head.startswith(b"RIFF") and head[8:] == b"AVI ":
            whole = all(end <= length for end in _riff_ends(file, length))
        elif head.startswith(EBML):
            whole = all(end <= length for end in _element_ends(file, length))
        elif head[4:8] in BOXES:
            whole = all(end <= length for end in _box_ends(file, length))
        else:
            return
    if not whole:
        raise ValueError(f"path: {path} is cut short, expected a complete video")


def _riff_ends(file: BinaryIO, length: int) -> Iterator[int]:
    position = 0
    while position + 8 <= length:
        file.seek(position)
        name, size = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF" or size >= UNKNOWN_SIZE:
            return
        position += 8 + size + size % 2
        yield position - size % 2


def _box_ends(file: BinaryIO, length: int) -> Iterator[int]:
    position = 0
    while position + 8 <= length:
        file.seek(position)
        (size,) = struct.unpack(">I4x", file.read(8))
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8).ljust(8, b"\xff"))
        if size < 8:  # 0 is "up to the end of the file"
            return
        position += size
        yield position


def _element_ends(file: BinaryIO, length: int) -> Iterator[int]:
    """Walk over Matroska's elements, into those of unknown size (RFC 8794, 4 to 6)."""
    position = 0
    while position < length:
        file.seek(position)
        _variable_length(file)  # which element it is does not matter
        size = _variable_length(file)
        position = file.tell()
        if size is not None:
            position += size
            yield position


def _variable_length(file: BinaryIO) -> int | None:
    """Return a number, None if all its bits are set."""
    first = file.read(1) or b"\x01"
    width = 9 - first[0].bit_length()
    ones = (1 << 7 * width) - 1
    number = int.from_bytes(first + file.read(width - 1)) & ones
    return None if number == ones else number


def _flash_is_whole(file: BinaryIO, length: int) -> bool:
    """Walk over the tags; a file cut between two is told by the duration in its first tag."""
    file.seek(5)
    position = int.from_bytes(file.read(4)) + TAG_END
    stated, times = 0.0, [0.0]
    while position < length:
        file.seek(position)
        header = file.read(TAG_HEADER)
        if header[0] & 0x1F not in TAGS:
            break
        size = int.from_bytes(header[1:4])
        if position + TAG_HEADER + size > length:
            return False
        if header[0] == TAGS[2]:
            stated = stated or _stated_duration(file.read(size))
        else:
            times.append(int.from_bytes(header[7:8] + header[4:7]) / 1000)
        position += TAG_HEADER + size + TAG_END
    # The last picture is there as long as the others.
    times.sort()
    longest = max((b - a for a, b in pairwise(times)), default=0.0)
    return not (math.isfinite(stated) and stated > times[-1] + longest + TOLERANCE)


def _stated_duration(content: bytes) -> float:
    """Return the seconds in Flash's table ``onMetaData``, 0 if there are none."""
    place = content.find(DURATION)
    number = content[place + len(DURATION) :][:8]
    return struct.unpack(">d", number)[0] if place >= 0 and len(number) == 8 else 0.0
