"""Kaldi's log-mel filter banks, as audio spectrogram transformers take them."""

import warnings
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from rollingq_core._extras import needs
from rollingq_core.data.audio import Spectrogram

# Frames of 25 ms that hop by 10 ms, at 16000 samples a second.
FRAME, HOP, N_FFT, LOWEST = 400, 160, 512, 20
# The least energy that has a logarithm: the distance from 1 to the next float32.
ENERGY_FLOOR = 1.192092955078125e-07
# Mean and standard deviation that the published code of Kinetics-Sounds scales by.
MEAN, DEVIATION = -4.503877, 5.141276


@dataclass(frozen=True)
class FbankSettings(Spectrogram):
    """How a wave becomes Kaldi's filter banks, cut or padded to a number of frames.

    Without its mean, framed with Hann's window (no dither, each frame without its own mean,
    pre-emphasis .97), its power is summed by mel triangles. Frames that are missing are 0, and
    then all is scaled: (x + 4.503877) / (2 * 5.141276).

    Attributes
    ----------
    bands, frames : int
        Size of the picture.
    """

    bands: int = 128
    frames: int = 1024

    def version(self) -> str:
        """Return what stored pictures depend on, for the key of a cache."""
        return f"fbank 1, {self}, transformers {version('transformers')}"

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """Return float32 ``[bands, frames]`` of a wave of at least one frame.

        Raises
        ------
        ValueError
            The wave is shorter than a frame, not one-dimensional, or not finite.
        """
        with needs("kinetics"):
            from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

        if wave.ndim != 1 or len(wave) < FRAME:
            raise ValueError(f"wave: got shape {wave.shape}, expected [n] with n >= {FRAME}")
        if not np.isfinite(wave).all():
            raise ValueError("wave: got values that are not finite, expected finite samples")
        with warnings.catch_warnings():
            # As in Kaldi, the lowest of so many triangles lie between two frequencies.
            warnings.filterwarnings("ignore", "At least one mel filter has all zero values")
            filters = mel_filter_bank(
                num_frequency_bins=N_FFT // 2 + 1,
                num_mel_filters=self.bands,
                min_frequency=LOWEST,
                max_frequency=self.sample_rate // 2,
                sampling_rate=self.sample_rate,
                norm=None,
                mel_scale="kaldi",
                triangularize_in_mel_space=True,
            )
        # No more samples than there are frames for.
        needed = (self.frames - 1) * HOP + FRAME
        picture = spectrogram(
            (wave - wave.mean())[:needed],
            window_function(FRAME, "hann", periodic=False),
            frame_length=FRAME,
            hop_length=HOP,
            fft_length=N_FFT,
            power=2.0,
            center=False,
            preemphasis=0.97,
            mel_filters=filters,
            log_mel="log",
            mel_floor=ENERGY_FLOOR,
            remove_dc_offset=True,
        )
        padded = np.pad(picture, ((0, 0), (0, self.frames - picture.shape[1])))
        return ((padded - MEAN) / (2 * DEVIATION)).astype(np.float32)


KINETICS_SOUNDS_CODE = FbankSettings(16000)
