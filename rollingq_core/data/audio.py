"""From a sound file to a time-frequency picture: reading, log-mel, log-STFT.

soundfile and librosa are imported where they are used: data that is already cached never pays for
them.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from rollingq_core._checks import require_integer
from rollingq_core.data.compiled import load_librosa

FLOOR = 1e-7
MEL_RATE, MEL_BANDS, MEL_FRAMES = 8000, 32, 49
MEL_N_FFT, MEL_HOP = 256, 80
MEL_SAMPLES = (MEL_FRAMES - 1) * MEL_HOP + MEL_N_FFT


def load_wave(path: str | Path, sample_rate: int) -> np.ndarray:
    """Read a sound file as mono float32 samples at the given rate.

    Several channels are averaged into one; another rate is resampled.

    Parameters
    ----------
    path : str or Path
        Any format that libsndfile reads (WAV, FLAC, Ogg, MP3, ...).
    sample_rate : int
        Wanted rate, samples per second.

    Returns
    -------
    np.ndarray
        Samples ``[n]``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is unreadable, cut short, empty, or holds values that are not finite.
    """
    from rollingq_core.data.sound_file import read_whole

    require_integer("sample_rate", sample_rate, at_least=1)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: {path} is not a file, expected a sound file")
    wave, found_rate = read_whole(path)
    if not len(wave):
        raise ValueError(f"path: {path} holds no samples, expected at least one")
    if not np.isfinite(wave).all():
        raise ValueError(f"path: {path} holds values that are not finite")
    mono = wave.mean(axis=1)
    if found_rate == sample_rate:
        return mono
    librosa = load_librosa()
    return librosa.resample(mono, orig_sr=found_rate, target_sr=sample_rate)


def tile_to_length(wave: np.ndarray, length: int, copies: int | None = None) -> np.ndarray:
    """Repeat a wave until it has ``length`` samples, and cut what is over.

    Parameters
    ----------
    wave : np.ndarray
        Samples ``[n]``, at least one.
    length : int
        Wanted number of samples.
    copies : int, optional
        At most so many copies, then zeros. The published CREMA-D preparation uses 3.

    Raises
    ------
    ValueError
        If the wave is empty or not one-dimensional, or a number is below one.
    """
    _check_wave(wave)
    require_integer("length", length, at_least=1)
    if copies is not None:
        require_integer("copies", copies, at_least=1)
    needed = -(-length // len(wave))
    tiled = np.tile(wave, needed if copies is None else min(copies, needed))[:length]
    return np.pad(tiled, (0, length - len(tiled)))


def log_mel(wave: np.ndarray) -> np.ndarray:
    """Return the log-mel picture of half a second of speech at 8000 samples per second.

    The wave is cut, or padded with zeros, to 4096 samples (.512 s): 49 frames of 256 samples,
    80 apart, without padding at the edges. Each value is ``log(x + 1e-7)`` of a mel band's power.

    Parameters
    ----------
    wave : np.ndarray
        Samples ``[n]``.

    Returns
    -------
    np.ndarray
        float32 ``[32, 49]``: mel band by frame.

    Raises
    ------
    ValueError
        If the wave is empty, not one-dimensional, or not finite.
    """
    librosa = load_librosa()
    _check_wave(wave)
    wave = wave[:MEL_SAMPLES]
    mel = librosa.feature.melspectrogram(
        y=np.pad(wave, (0, MEL_SAMPLES - len(wave))),
        sr=MEL_RATE,
        n_fft=MEL_N_FFT,
        hop_length=MEL_HOP,
        n_mels=MEL_BANDS,
        center=False,
    )
    return np.log(mel + FLOOR).astype(np.float32)


def log_mel_version() -> str:
    """Return what stored :func:`log_mel` pictures depend on, for the key of a cache."""
    settings = f"{MEL_RATE} {MEL_BANDS} {MEL_FRAMES} {MEL_N_FFT} {MEL_HOP} {FLOOR}"
    return f"log_mel 1, {settings}, librosa {version('librosa')}"


def log_stft(wave: np.ndarray, n_fft: int, hop: int, center: bool) -> np.ndarray:
    """Return ``log(|S| + 1e-7)`` of the short-time Fourier transform (Hann window).

    Parameters
    ----------
    wave : np.ndarray
        Samples ``[n]``.
    n_fft : int
        Samples in a frame.
    hop : int
        Samples from one frame to the next.
    center : bool
        True pads half a frame at both ends: ``1 + n // hop`` frames.
        False pads nothing: ``1 + (n - n_fft) // hop`` frames.

    Returns
    -------
    np.ndarray
        float32 ``[n_fft // 2 + 1, frames]``.

    Raises
    ------
    ValueError
        If the wave is empty, not one-dimensional, not finite, or too short for one frame.
    """
    librosa = load_librosa()
    _check_wave(wave)
    shortest = n_fft // 2 + 1 if center else n_fft
    if len(wave) < shortest:
        raise ValueError(f"wave: got {len(wave)} samples, expected at least {shortest}")
    transform = librosa.stft(wave, n_fft=n_fft, hop_length=hop, center=center)
    return np.log(np.abs(transform) + FLOOR).astype(np.float32)


@dataclass(frozen=True)
class Spectrogram(ABC):
    """How one source turns a wave into a picture; calling it does so.

    Attributes
    ----------
    sample_rate : int
        Samples per second of the waves it takes.
    """

    sample_rate: int

    @abstractmethod
    def version(self) -> str:
        """Return what stored pictures depend on, for the key of a cache."""

    @abstractmethod
    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """Return the picture, float32 ``[bands, frames]``, of a wave ``[n]``."""


@dataclass(frozen=True)
class StftSettings(Spectrogram):
    """How one source turns a clip into a log-STFT.

    Attributes
    ----------
    sample_rate : int
        Samples per second.
    seconds : int
        Length every clip is brought to.
    n_fft, hop, center
        As in :func:`log_stft`.
    copies : int or None
        As in :func:`tile_to_length`.
    """

    seconds: int
    n_fft: int
    hop: int
    center: bool
    copies: int | None = None

    def version(self) -> str:
        """Return what stored pictures depend on, for the key of a cache."""
        return f"log_stft 1, {self}, {FLOOR}, librosa {version('librosa')}"

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """Tile, clip to [-1, 1] and transform a wave at ``sample_rate``."""
        wave = tile_to_length(wave, self.sample_rate * self.seconds, self.copies)
        return log_stft(np.clip(wave, -1, 1), self.n_fft, self.hop, self.center)


# Released code for CREMA-D: 257 x 188.
CREMAD_CODE = StftSettings(22050, 3, n_fft=512, hop=353, center=True, copies=3)
# The paper's 257 x 299 and 257 x 1004: 353 is there the *overlap* of frames, so they hop by 159.
CREMAD_PAPER = StftSettings(16000, 3, n_fft=512, hop=159, center=False)
KINETICS_SOUNDS_PAPER = StftSettings(16000, 10, n_fft=512, hop=159, center=False)
# By the names that a cache and the command line use.
CREMAD_SETTINGS = {"code": CREMAD_CODE, "paper": CREMAD_PAPER}


def _check_wave(wave: np.ndarray) -> None:
    if wave.ndim != 1 or not len(wave):
        raise ValueError(f"wave: got shape {wave.shape}, expected [n] with n >= 1")
    if not np.isfinite(wave).all():
        raise ValueError("wave: got values that are not finite, expected finite samples")
