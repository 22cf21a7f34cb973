"""The picture that stands for a clip: the middle one of those at one a second.

Kept is the first picture of each second, as in the published preparation of CREMA-D; of the n
kept ones, counted from 0, the picture n // 2.
"""

import math
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from rollingq_core._checks import require_choice
from rollingq_core.data.container import require_whole
from rollingq_core.data.listing import data_files

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


def middle_of_video(path: str | Path, decoder: str, size: tuple[int, int]) -> np.ndarray:
    """Return the middle picture of a video, all of which is decoded.

    Parameters
    ----------
    path : str or Path
        A file whose ending, in any case, is one of ``FORMATS``.
    decoder : {"pyav", "ffmpeg"}
        What decodes it.
    size : (int, int)
        Height and width to scale it to.

    Returns
    -------
    np.ndarray
        uint8 ``[height, width, 3]``.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or ``ffmpeg`` is not on the PATH.
    ValueError
        If it is cut short, can't be decoded, holds no picture, or has another ending.
    """
    path = Path(path)
    require_choice("decoder", decoder, DECODERS)
    require_choice("path's ending", path.suffix.lower(), tuple(FORMATS))
    if not path.is_file():
        raise FileNotFoundError(f"path: {path} is not a file, expected a video")
    require_whole(path)
    pictures = _by_pyav(path) if decoder == "pyav" else _by_ffmpeg(path)
    if not pictures:
        raise ValueError(f"path: {path} holds no picture, expected a video")
    return _scaled(pictures[len(pictures) // 2], size)


def middle_of_folder(folder: str | Path, size: tuple[int, int]) -> np.ndarray:
    """Return the middle one of a folder's ``.jpg`` or ``.jpeg`` files, sorted by name.

    Parameters and result are as in :func:`middle_of_video`.

    Raises
    ------
    FileNotFoundError
        If the folder holds none.
    ValueError
        If that one can't be read, or two names differ only in the case of their ending.
    """
    paths = [*data_files(folder, ".jpg", ".jpeg").values()]
    if not paths:
        raise FileNotFoundError(f"folder: {folder} holds no .jpg file, expected at least one")
    path = paths[len(paths) // 2]
    try:
        with Image.open(path) as picture:
            return _scaled(picture.convert("RGB"), size)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"path: {path} can't be read as a picture: {error}") from error


def _scaled(picture: Image.Image, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def _by_pyav(path: Path) -> list[Image.Image]:
    import av

    pictures, start, second = [], None, -1
    try:
        with av.open(str(path), format=FORMATS[path.suffix.lower()]) as container:
            for packet in container.demux(video=0):
                if packet.is_corrupt:
                    raise ValueError(f"path: {path} is cut short, expected a complete video")
                for frame in packet.decode():
                    start = frame.time if start is None else start
                    now = math.floor(frame.time - start)
                    if now > second:
                        pictures.append(frame.to_image())
                        second = now
    except (av.error.FFmpegError, IndexError) as error:  # the second: there is no video stream
        raise ValueError(f"path: {path} can't be decoded: {error}") from error
    return pictures


def _by_ffmpeg(path: Path) -> list[Image.Image]:
    program = shutil.which("ffmpeg")
    if program is None:
        raise FileNotFoundError(f"decoder: ffmpeg is not on the PATH; {INSTALL}")
    first_of_a_second = (
        "select='isnan(prev_selected_t)+gt(floor(t-start_t),floor(prev_selected_t-start_t))'"
    )
    with tempfile.TemporaryDirectory() as folder:
        # Evenly spaced again, or the gaps that select leaves would be filled with copies.
        command = [program, "-nostdin", "-v", "error", "-protocol_whitelist", "file"]
        command += ["-f", FORMATS[path.suffix.lower()], "-i", f"file:{path.resolve()}", "-an"]
        command += ["-vf", f"{first_of_a_second},setpts=N/FRAME_RATE/TB", f"{folder}/%05d.png"]
        try:
            done = subprocess.run(command, capture_output=True, timeout=FFMPEG_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"path: {path} took ffmpeg over {FFMPEG_SECONDS} s") from error
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason"]
            raise ValueError(f"path: {path} can't be decoded: {reason[0]}")
        pictures = []
        for file in sorted(Path(folder).glob("*.png")):
            with Image.open(file) as picture:
                pictures.append(picture.convert("RGB"))
    return pictures
