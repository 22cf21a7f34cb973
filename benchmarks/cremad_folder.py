"""A small folder in the layout of CREMA-D, made of tones and random pictures."""

from collections.abc import Sequence
from itertools import islice, product
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from rollingq_core.data.cremad_files import EMOTIONS, PICTURES, SENTENCES, SOUNDS, VIDEOS

RATE = 16000
# One who validates, one who tests when a split goes by actor, and two who train.
ACTORS = (1001, 1006, 1002, 1003)


def clip_names(count: int) -> list[str]:
    """Return names of clips; neighbours have different actors, then emotions."""
    combined = product(SENTENCES, EMOTIONS, ACTORS)
    return [f"{actor}_{said}_{felt}_XX" for said, felt, actor in islice(combined, count)]


def make_folder(
    root: Path,
    names: Sequence[str],
    *,
    seconds: float = 1.2,
    jpgs: bool = True,
    flvs: bool = False,
    size: tuple[int, int] = (360, 480),
) -> Path:
    """Write sounds, pictures and split files; every sixth clip tests."""
    (root / SOUNDS).mkdir(parents=True)
    for number, name in enumerate(names):
        draw = np.random.default_rng(number)
        tone = np.sin(np.arange(int(seconds * RATE)) * (0.05 + 0.05 * (number % 7)))
        wave = 0.3 * tone + 0.05 * draw.normal(size=len(tone))
        soundfile.write(root / SOUNDS / f"{name}.wav", wave, RATE)
        if jpgs:
            (root / PICTURES / name).mkdir(parents=True)
            for second in range(3):
                picture = Image.fromarray(smooth_picture(draw, size))
                picture.save(root / PICTURES / name / f"{30 * second:05d}.jpg")
        if flvs:
            write_flv(root / VIDEOS / f"{name}.flv", [smooth_picture(draw, size) for _ in range(3)])
    for file, chosen in (
        ("train.csv", [name for number, name in enumerate(names) if number % 6]),
        ("test.csv", names[::6]),
    ):
        lines = [f"{name},{name.split('_')[2]}\r\n" for name in chosen]
        (root / file).write_bytes("".join(lines).encode())
    return root


def smooth_picture(draw: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return a picture that compresses about as well as a face before a wall."""
    coarse = Image.fromarray(draw.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    return np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC))


def write_flv(path: Path, pictures: Sequence[np.ndarray], rate: int = 30) -> None:
    """Write a Flash video that shows each picture for a second, the last for half of one."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="flv") as container:
        stream = container.add_stream("flv", rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        for number in range(int((len(pictures) - 0.5) * rate)):
            frame = av.VideoFrame.from_ndarray(pictures[number // rate], format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
