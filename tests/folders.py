"""Small folders in the exact layouts of the paper's datasets."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from benchmarks.cremad_folder import clip_names, make_folder, smooth_picture
from rollingq_core.data import hmdb51, kinetics_sounds, mosei_features, ucf101
from rollingq_core.data.clip_files import tenth

RATE, SIZE = 10, (48, 64)


def write_video(
    path: Path,
    pictures: Sequence[np.ndarray],
    wave: np.ndarray | None = None,
    *,
    sample_rate: int = 16000,
    channels: int = 1,
    codec: str = "mpeg4",
) -> None:
    """Write a video that shows each picture for a second, with a sound if there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        film = container.add_stream(codec, rate=RATE)
        film.height, film.width = pictures[0].shape[:2]
        film.pix_fmt, film.bit_rate = "yuv420p", 1_000_000
        if wave is not None:
            layout = "stereo" if channels == 2 else "mono"
            sound = container.add_stream("aac", rate=sample_rate, layout=layout)
        for number in range(len(pictures) * RATE):
            frame = av.VideoFrame.from_ndarray(pictures[number // RATE], format="rgb24")
            container.mux(film.encode(frame))
        container.mux(film.encode())
        if wave is not None:
            planes = np.tile(wave.astype(np.float32), (channels, 1))
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
            frame.sample_rate = sample_rate
            container.mux(sound.encode(frame))
            container.mux(sound.encode())


def tone(number: int, seconds: float, sample_rate: int = 16000) -> np.ndarray:
    """Return a tone of its own, with some noise."""
    draw = np.random.default_rng(number)
    time = np.arange(int(seconds * sample_rate))
    return 0.3 * np.sin(time * (0.05 + 0.05 * (number % 7))) + 0.05 * draw.normal(size=len(time))


def groups(count: int, form: str, wanted: Sequence[int] = (0, 1, 2, 3)) -> list[str]:
    """Return names of groups whose tenths go round in ``wanted``: 0 validates, 1 tests."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        name = form.format(number)
        if tenth(name) == wanted[len(found) % len(wanted)]:
            found.append(name)
        number += 1
    return found


def make_kinetics_sounds(root: Path, count: int = 16, *, jpgs: bool = False) -> list[str]:
    """Write clips of all places with lists of them, and one that is listed and missing."""
    names = []
    for number, video in enumerate(groups(count, "ab_-{:06d}z")):
        name = f"{video}_{number:06d}_{number + 10:06d}"
        draw = np.random.default_rng(number)
        pictures = [smooth_picture(draw, SIZE) for _ in range(4)]
        if jpgs:
            write_jpgs(root / kinetics_sounds.PICTURES / name, pictures)
            write_wav(root / kinetics_sounds.SOUNDS / f"{name}.wav", tone(number, 3.5))
        else:
            film = root / kinetics_sounds.VIDEOS / f"{name}.mp4"
            write_video(film, pictures, tone(number, 3.5))
        names.append(name)
    lines = [f"{name},10,{number % 31}" for number, name in enumerate(names)]
    lines.append("gone_000000_000005_000015,10,3")
    write_lines(root / "my_train.txt", [line for i, line in enumerate(lines) if i % 5])
    write_lines(root / "my_test.txt", [line for i, line in enumerate(lines) if not i % 5])
    return names


def write_jpgs(folder: Path, pictures: Sequence[np.ndarray]) -> None:
    """Write pictures as the published preparation names them."""
    from PIL import Image

    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures, start=1):
        Image.fromarray(picture).save(folder / f"frame_{number:05d}.jpg")


def write_wav(path: Path, wave: np.ndarray, sample_rate: int = 16000) -> None:
    """Write a sound."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, sample_rate)


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write a text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def make_ucf101(root: Path, classes: Sequence[str] = ("Archery", "YoYo")) -> list[str]:
    """Write two clips of seven groups of each class, one of which tests, and their flow."""
    names = []
    for action in classes:
        found = (f"{action}_g{group:02d}" for group in range(8, 26))
        of_tenth = {tenth(name): name for name in found}
        chosen = [f"{action}_g01", *(of_tenth[t] for t in sorted(of_tenth)[:6])]
        assert 0 in of_tenth, "one of them has to validate"
        names += [f"v_{group}_c{clip:02d}" for group in chosen for clip in (1, 2)]
    for number, name in enumerate(names):
        write_action(root, Path(ucf101.VIDEOS, f"{name}.avi"), name, number)
    return names


def make_hmdb51(root: Path, classes: Sequence[str] = ("catch", "sword_exercise")) -> list[str]:
    """Write clips of eight films of each class, and their flow."""
    names = []
    for action in classes:
        for number, film in enumerate(groups(8, f"A_film!_({action})_{{:03d}}")):
            name = f"{film}_{action}_f_cm_np1_fr_goo_{number}"
            write_action(root, Path(hmdb51.VIDEOS, action, f"{name}.avi"), name, len(names))
            names.append(name)
    return names


def write_action(root: Path, film: Path, name: str, number: int) -> None:
    """Write a clip of an action, and its flow in two grey videos."""
    draw = np.random.default_rng(number)
    write_video(root / film, [smooth_picture(draw, SIZE) for _ in range(2)])
    for axis in "xy":
        moved = np.full((*SIZE, 3), draw.integers(60, 200), dtype=np.uint8)
        write_video(root / "flow" / f"{name}_flow_{axis}.mp4", [moved, moved])


def mosei_content(counts: Sequence[int] = (24, 8, 8)) -> dict[str, dict[str, np.ndarray]]:
    """Return what CMU-MOSEI's pickle holds, in small: padded in front, some without a word."""
    draw = np.random.default_rng(0)
    content = {}
    for part, count in zip(("train", "valid", "test"), counts, strict=True):
        arrays = {
            key: draw.normal(size=(count, mosei_features.STEPS, mosei_features.FEATURES[name]))
            for name, key in mosei_features.PUBLISHED.items()
        }
        for row in range(count):
            arrays["text"][row, : row % 7] = 0
        arrays["text"][0] = 0
        arrays["audio"][1, 10, 3] = -np.inf
        arrays["labels"] = draw.uniform(-3, 3, size=(count, 1, 1))
        arrays["id"] = np.array(
            [[f"{part}{row // 2}", "0.5", "3.1"] for row in range(count)], object
        )
        content[part] = arrays
    return content


def make_mosei(root: Path, counts: Sequence[int] = (24, 8, 8), protocol: int = 4) -> None:
    """Write CMU-MOSEI's pickle in small."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / mosei_features.FILE
    path.write_bytes(pickle.dumps(mosei_content(counts), protocol=protocol))


def make_cremad(root: Path) -> None:
    """Write CREMA-D in small, with videos."""
    make_folder(root, clip_names(24), jpgs=False, flvs=True, size=(36, 48))


# By dataset: its folder in the data root, and what makes one.
HOMES = {
    "cremad": ("CREMA-D", make_cremad),
    "kinetics_sounds": ("Kinetics-Sounds", make_kinetics_sounds),
    "mosei": ("CMU-MOSEI", make_mosei),
    "ucf101": ("UCF-101", make_ucf101),
    "hmdb51": ("HMDB51", make_hmdb51),
}
