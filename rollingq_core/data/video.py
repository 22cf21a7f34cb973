"""The pictures that stand for a clip: the middle ones of equal parts of it, and its sound.

Kept is the first picture of each second, as in the published preparation of CREMA-D, or of each
fraction of one. Of the n kept ones, counted from 0, the i-th of k parts is told by the picture
(2 i + 1) n // (2 k): of one part, n // 2.
"""

import math
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from rollingq_core._checks import require_choice, require_integer
from rollingq_core.data.compiled import load_librosa
from rollingq_core.data.container import require_whole
from rollingq_core.data.listing import data_files
from rollingq_core.data.sound_file import read_whole

DECODERS = ("pyav", "ffmpeg")
# The only containers that a decoder may look for: some others name further files to open.
FORMATS = {
    ".flv": "flv",
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".avi": "avi",
    ".mkv": "matroska",
    ".webm": "matroska",
}
INSTALL = "pip install 'rollingq-core[video]' (PyAV), or put ffmpeg on the PATH"
FFMPEG_SECONDS = 300


def available_decoder() -> str | None:
    """Return ``"pyav"`` if it is installed, else ``"ffmpeg"`` if it is on the PATH, else None."""
    if find_spec("av"):
        return "pyav"
    return "ffmpeg" if shutil.which("ffmpeg") else None


def choose_source(videos: Path, pictures: Path, otherwise: str) -> str:
    """Return where pictures come from: ``"pyav"``, ``"ffmpeg"`` or ``"jpg"``, the first possible.

    Parameters
    ----------
    videos, pictures
        The folders of videos, and of pictures that were taken from them.
    otherwise
        What to say where there is neither.

    Raises
    ------
    FileNotFoundError
        There is neither, or videos only and nothing that decodes them.
    """
    decoder = available_decoder()
    if videos.is_dir() and decoder:
        return decoder
    if pictures.is_dir():
        return "jpg"
    if videos.is_dir():
        raise FileNotFoundError(f"root: nothing to decode the videos in {videos} with; {INSTALL}")
    raise FileNotFoundError(otherwise)


def middles_of_video(
    path: str | Path,
    decoder: str,
    size: tuple[int, int],
    count: int = 1,
    *,
    per_second: int = 1,
    mode: str = "RGB",
) -> np.ndarray:
    """Return the middle pictures of equal parts of a video, all of which is decoded.

    Parameters
    ----------
    path : str or Path
        A file whose ending, in any case, is one of ``FORMATS``.
    decoder : {"pyav", "ffmpeg"}
        What decodes it.
    size : (int, int)
        Height and width to scale them to.
    count : int
        How many; of a short video, some come twice.
    per_second : int
        How many pictures of each second to choose from.
    mode : {"RGB", "L"}
        Three colours or grey.

    Returns
    -------
    np.ndarray
        uint8 ``[count, height, width, 3]``, or without the last axis where they are grey.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or ``ffmpeg`` is not on the PATH.
    ValueError
        If it is cut short, can't be decoded, holds no picture, or has another ending; or a number
        below one.
    """
    require_integer("count", count, at_least=1)
    require_integer("per_second", per_second, at_least=1)
    path = _checked(path, decoder)
    decode = _by_pyav if decoder == "pyav" else _by_ffmpeg
    pictures = decode(path, per_second)
    if not pictures:
        raise ValueError(f"path: {path} holds no picture, expected a video")
    return _stacked([pictures[i] for i in middles(len(pictures), count)], size, mode)


def middles_of_folder(
    folder: str | Path, size: tuple[int, int], count: int = 1, *, mode: str = "RGB"
) -> np.ndarray:
    """Return the middle ones of equal parts of a folder's ``.jpg`` or ``.jpeg`` files, by name.

    Parameters and result are as in :func:`middles_of_video`.

    Raises
    ------
    FileNotFoundError
        If the folder holds none.
    ValueError
        If one of them can't be read, or two names differ only in the case of their ending.
    """
    require_integer("count", count, at_least=1)
    paths = [*data_files(folder, ".jpg", ".jpeg").values()]
    if not paths:
        raise FileNotFoundError(f"folder: {folder} holds no .jpg file, expected at least one")
    return _stacked([_opened(paths[i]) for i in middles(len(paths), count)], size, mode)


def middles(number: int, count: int) -> list[int]:
    """Return the places of the middles of ``count`` equal parts of ``number`` pictures.

    Examples
    --------
    >>> middles(10, 3), middles(10, 1), middles(2, 3)
    ([1, 5, 8], [5], [0, 1, 1])
    """
    return [(2 * part + 1) * number // (2 * count) for part in range(count)]


def sound_of_video(path: str | Path, decoder: str, sample_rate: int) -> np.ndarray:
    """Return a video's sound, float32 ``[n]`` at the given rate, its channels averaged.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or ``ffmpeg`` is not on the PATH.
    ValueError
        If it is cut short, can't be decoded, holds no sound, or has another ending.
    """
    require_integer("sample_rate", sample_rate, at_least=1)
    path = _checked(path, decoder)
    decode = _sound_by_pyav if decoder == "pyav" else _sound_by_ffmpeg
    wave, found_rate = decode(path)
    if not len(wave):
        raise ValueError(f"path: {path} holds no sound, expected some")
    if not np.isfinite(wave).all():
        raise ValueError(f"path: {path} holds sound that is not finite")
    if found_rate == sample_rate:
        return wave
    return load_librosa().resample(wave, orig_sr=found_rate, target_sr=sample_rate)


def _checked(path: str | Path, decoder: str) -> Path:
    path = Path(path)
    require_choice("decoder", decoder, DECODERS)
    require_choice("path's ending", path.suffix.lower(), tuple(FORMATS))
    if not path.is_file():
        raise FileNotFoundError(f"path: {path} is not a file, expected a video")
    require_whole(path)
    return path


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"path: {path} can't be read as a picture: {error}") from error


def _stacked(pictures: Sequence[Image.Image], size: tuple[int, int], mode: str) -> np.ndarray:
    height, width = size
    scaled = [
        picture.convert(mode).resize((width, height), Image.Resampling.BILINEAR)
        for picture in pictures
    ]
    return np.stack([np.asarray(picture) for picture in scaled])


def _by_pyav(path: Path, per_second: int) -> list[Image.Image]:
    import av

    pictures, start, latest = [], None, -1
    try:
        with av.open(str(path), format=FORMATS[path.suffix.lower()]) as container:
            for packet in container.demux(video=0):
                if packet.is_corrupt:
                    raise ValueError(f"path: {path} is cut short, expected a complete video")
                for frame in packet.decode():
                    start = frame.time if start is None else start
                    now = math.floor((frame.time - start) * per_second)
                    if now > latest:
                        pictures.append(frame.to_image())
                        latest = now
    except (av.error.FFmpegError, IndexError) as error:  # the second: there is no video stream
        raise ValueError(f"path: {path} can't be decoded: {error}") from error
    return pictures


def _sound_by_pyav(path: Path) -> tuple[np.ndarray, int]:
    import av

    silence = np.empty(0, dtype=np.float32)
    as_floats = av.AudioResampler(format="fltp")
    pieces = []
    try:
        with av.open(str(path), format=FORMATS[path.suffix.lower()]) as container:
            if not container.streams.audio:
                return silence, 1
            rate = container.streams.audio[0].rate
            for packet in container.demux(audio=0):
                for frame in packet.decode():
                    # A mean of our own: a decoder's mix of channels is louder than they are.
                    pieces += [part.to_ndarray().mean(axis=0) for part in as_floats.resample(frame)]
    except av.error.FFmpegError as error:
        raise ValueError(f"path: {path} can't be decoded: {error}") from error
    return np.concatenate([silence, *pieces]), rate


def _by_ffmpeg(path: Path, per_second: int) -> list[Image.Image]:
    now, latest = (f"floor(({time}-start_t)*{per_second})" for time in ("t", "prev_selected_t"))
    first_of_each = f"select='isnan(prev_selected_t)+gt({now},{latest})'"
    with tempfile.TemporaryDirectory() as folder:
        # Evenly spaced again, or the gaps that select leaves would be filled with copies.
        kept = ["-an", "-vf", f"{first_of_each},setpts=N/FRAME_RATE/TB", f"{folder}/%05d.png"]
        _ffmpeg(path, kept)
        pictures = []
        for file in sorted(Path(folder).glob("*.png")):
            with Image.open(file) as picture:
                pictures.append(picture.convert("RGB"))
    return pictures


def _sound_by_ffmpeg(path: Path) -> tuple[np.ndarray, int]:
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder, "sound.wav")
        try:
            _ffmpeg(path, ["-map", "0:a:0", "-c:a", "pcm_f32le", str(sound)])
        except ValueError as error:
            if "matches no streams" not in str(error):
                raise
            return np.empty(0, dtype=np.float32), 1
        samples, rate = read_whole(sound)
    return samples.mean(axis=1), rate


def _ffmpeg(path: Path, options: Sequence[str]) -> None:
    program = shutil.which("ffmpeg")
    if program is None:
        raise FileNotFoundError(f"decoder: ffmpeg is not on the PATH; {INSTALL}")
    command = [program, "-nostdin", "-v", "error", "-protocol_whitelist", "file"]
    command += ["-f", FORMATS[path.suffix.lower()], "-i", f"file:{path.resolve()}", *options]
    try:
        done = subprocess.run(command, capture_output=True, timeout=FFMPEG_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"path: {path} took ffmpeg over {FFMPEG_SECONDS} s") from error
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip() or "no reason"
        raise ValueError(f"path: {path} can't be decoded: {' '.join(reason.splitlines())}")
