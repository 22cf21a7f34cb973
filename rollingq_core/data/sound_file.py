"""A sound file's samples, if as many can be decoded as its header promises.

What promises nothing is taken as it is: a WAV that was written to a pipe (its sizes are 0 or
near 2 or 4 GiB), a FLAC written to one, an MP3 without a Xing header, and what libsndfile reads
to the end whatever the header says, such as W64 and NIST. A promise of 2 GiB or more can't be told
from a stand-in. Ogg has no length in its header, but a mark at its end.
"""

import io
import os
import struct
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile

# What libsndfile says where a header gives no length, such as that of a streamed FLAC file.
UNKNOWN = 2**63 - 1
BLOCK = 65_536
# Just too short for the stand-ins near 2 GiB, and longer than any other.
SUPPOSED_LENGTHS = (2**31 - 2**20, 2**40)
OGG_PAGE, OGG_HEADER, OGG_TYPE, OGG_LAST, OGG_SEGMENTS = b"OggS\0", 27, 5, 0x04, 26


def read_whole(path: Path) -> tuple[np.ndarray, int]:
    """Decode a sound file.

    Parameters
    ----------
    path : Path
        Any format that libsndfile reads (WAV, FLAC, Ogg, MP3, ...).

    Returns
    -------
    (np.ndarray, int)
        Samples, float32 ``[n, channels]``, and samples per second.

    Raises
    ------
    ValueError
        If the file is unreadable or cut short.
    """
    wav = _wav_header(path)
    try:
        with _opened(path, wav) as file, soundfile.SoundFile(file) as sound:
            samples, rate = _decoded(sound), sound.samplerate
    except soundfile.LibsndfileError as error:
        raise ValueError(f"path: {path} can't be read as sound: {error}") from error
    if _is_ogg(path):
        whole = _has_last_page(path)
    else:
        # Of ADPCM, libsndfile decodes a last block that is cut as if it were whole.
        whole = len(samples) >= _promised(path) and not (wav and wav.is_cut)
    if not whole:
        raise ValueError(f"path: {path} is cut short, expected a complete sound file")
    return samples, rate


class _WavHeader(NamedTuple):
    """What a WAV file says: where it ends, where its samples begin, how many bytes they take."""

    length: int
    stated_end: int
    start: int
    size: int

    @property
    def is_cut(self) -> bool:
        return self.size < SUPPOSED_LENGTHS[0] and self.start + self.size > self.length

    @property
    def is_open(self) -> bool:
        """Whether the writer left both sizes at 0: one that could not go back to fill them in."""
        return self.size == 0 and self.stated_end <= self.start < self.length


def _wav_header(path: Path) -> _WavHeader | None:
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        head = file.read(12)
        if head[:4] not in (b"RIFF", b"RIFX") or head[8:] != b"WAVE":
            return None
        order = "<" if head[:4] == b"RIFF" else ">"
        stated_end = 8 + struct.unpack(f"{order}I", head[4:8])[0]
        while len(chunk := file.read(8)) == 8:
            name, size = struct.unpack(f"{order}4sI", chunk)
            if name == b"data":
                return _WavHeader(length, stated_end, file.tell(), size)
            file.seek(size + size % 2, io.SEEK_CUR)
    return None


def _opened(path: Path, wav: _WavHeader | None) -> AbstractContextManager[Path | BinaryIO]:
    if not (wav and wav.is_open):
        return nullcontext(path)
    # libsndfile would find no sample in it.
    content = bytearray(path.read_bytes())
    content[wav.start - 4 : wav.start] = b"\xff" * 4
    return io.BytesIO(content)


def _decoded(sound: soundfile.SoundFile) -> np.ndarray:
    if sound.frames < UNKNOWN:
        return sound.read(sound.frames, dtype="float32", always_2d=True)
    blocks: list[np.ndarray] = []
    while True:
        block = np.full((BLOCK, sound.channels), np.nan, dtype=np.float32)
        try:
            sound.read(out=block)
        except soundfile.LibsndfileError:
            # soundfile can't find its place at an end that the header doesn't tell.
            decoded = ~np.isnan(block[:, 0])
            if not blocks and not decoded.any():
                raise
            return np.concatenate([*blocks, block[decoded]])
        blocks.append(block)


class _SupposedLength(io.FileIO):
    """A file that seems to go on with zeros up to some length."""

    def __init__(self, path: Path, length: int) -> None:
        super().__init__(path)
        self.length = length

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            return super().seek(self.length + offset)
        return super().seek(offset, whence)

    def readinto(self, buffer) -> int:
        view = memoryview(buffer).cast("B")
        count = super().readinto(view)
        view[count:] = bytes(len(view) - count)
        super().seek(len(view) - count, io.SEEK_CUR)
        return len(view)


def _promised(path: Path) -> int:
    """Return how many samples the header promises, 0 if none.

    libsndfile cuts a promise down to the file's length, or makes one up from it. So a promise is
    what stays the same whatever length the file seems to have.
    """
    lengths = set()
    for length in SUPPOSED_LENGTHS:
        try:
            with _SupposedLength(path, length) as file, soundfile.SoundFile(file) as sound:
                lengths.add(sound.frames)
        except soundfile.LibsndfileError:
            return 0
    promised = lengths.pop()
    return 0 if lengths or promised == UNKNOWN else promised


def _is_ogg(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(OGG_PAGE)) == OGG_PAGE


def _has_last_page(path: Path) -> bool:
    """Return whether an Ogg file's last page is complete, and marked as the last (RFC 3533)."""
    content = path.read_bytes()
    page = content[content.rfind(OGG_PAGE) :]
    if len(page) < OGG_HEADER:
        return False
    segments = page[OGG_HEADER : OGG_HEADER + page[OGG_SEGMENTS]]
    complete = len(page) >= OGG_HEADER + page[OGG_SEGMENTS] + sum(segments)
    return complete and bool(page[OGG_TYPE] & OGG_LAST)
