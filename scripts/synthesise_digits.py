"""Speak the digits that ship with the package: ``rollingq_core/data/spoken_digits``.

Needs the speech synthesiser eSpeak NG, version 1.51, as ``espeak-ng`` on the PATH. Two runs with
the same synthesiser and libraries write the same samples. Readers of the book never need to run
it: the clips are committed.

A *speaker* is one voice variant of the synthesiser with one accent. Each says every digit six
times. For every clip the speaking rate (words a minute) and the pitch (0 to 99) are drawn around
the speaker's own habits. Speakers belong to one split only, and near twins among the variants
(such as ``Gene`` and ``Gene2``) are never both used.

Usage: python scripts/synthesise_digits.py [--output FOLDER]
"""

import argparse
import csv
import hashlib
import json
import os
import random
import subprocess
import tempfile
from pathlib import Path

import librosa
import numpy as np
import soundfile

TOOL_VERSION = "1.51"
SAMPLE_RATE = 8000
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TAKES = 6
RATES = (130, 200)
PITCHES = (15, 85)
RATE_SPREAD, PITCH_SPREAD = 20, 12
PEAK = 0.7
# Of the Vorbis encoder: 0 is the best quality, 1 the smallest file.
COMPRESSION = 0.9
# A pause between clips, so that the codec does not smear one clip into the next.
GAP = 400
ACCENTS = (
    "en-us",
    "en-gb",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-029",
    "en-us-nyc",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
)
SPEAKERS = {
    "train": "m1 m3 m5 m7 f1 f3 f5 Andrea Annie Gene Hugo Jacky Michael adam belinda kaukovalta "
    "klatt2 linda Marco shelby",
    "validation": "m2 f4 Andy zac",
    "test": "m4 m8 f2 aunty boris norbert paul pedro travis victor",
}
COLUMNS = ("speaker", "split", "accent", "digit", "start", "length", "rate", "pitch")
DEFAULT_OUTPUT = Path(__file__).parents[1] / "rollingq_core" / "data" / "spoken_digits"


def check_tool() -> None:
    """Stop unless the synthesiser is the documented version."""
    answer = subprocess.run(
        ["espeak-ng", "--version"], check=True, capture_output=True, text=True
    ).stdout
    if TOOL_VERSION not in answer:
        raise SystemExit(f"espeak-ng: got {answer.strip()!r}, expected version {TOOL_VERSION}")


def say(word: str, accent: str, variant: str, rate: int, pitch: int) -> np.ndarray:
    """Return one spoken word at 8 kHz, silence trimmed, scaled to a common peak."""
    voice = f"{accent}+{variant}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "word.wav"
        subprocess.run(
            ["espeak-ng", "-v", voice, "-s", str(rate), "-p", str(pitch), "-w", path, word],
            check=True,
            capture_output=True,
        )
        wave, sample_rate = soundfile.read(path)
    wave = librosa.resample(wave, orig_sr=sample_rate, target_sr=SAMPLE_RATE)
    wave, _ = librosa.effects.trim(wave, top_db=35, frame_length=256, hop_length=80)
    return wave * (PEAK / np.abs(wave).max())


def speak(speaker: str, split: str, accent: str) -> tuple[np.ndarray, list[tuple]]:
    """Return all clips of one speaker in a row, and their lines of the index."""
    habits = random.Random(speaker)
    usual_rate, usual_pitch = habits.randint(*RATES), habits.randint(*PITCHES)
    pieces, lines, start = [], [], GAP
    for digit, word in enumerate(WORDS):
        for take in range(TAKES):
            draw = random.Random(f"{speaker} {digit} {take}")
            rate = usual_rate + draw.randint(-RATE_SPREAD, RATE_SPREAD)
            pitch = usual_pitch + draw.randint(-PITCH_SPREAD, PITCH_SPREAD)
            rate = min(max(rate, RATES[0]), RATES[1])
            wave = say(word, accent, speaker, rate, pitch)
            pieces += [np.zeros(GAP), wave]
            lines.append((speaker, split, accent, digit, start, len(wave), rate, pitch))
            start += len(wave) + GAP
    return np.concatenate([*pieces, np.zeros(GAP)]), lines


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` so that no reader ever sees half of it."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def encode(wave: np.ndarray, folder: Path) -> bytes:
    """Return ``wave`` as Ogg Vorbis, checked to keep every sample's place."""
    path = folder / "speaker.ogg"
    soundfile.write(
        path, wave, SAMPLE_RATE, format="OGG", subtype="VORBIS", compression_level=COMPRESSION
    )
    frames = soundfile.info(path).frames
    if frames != len(wave):
        raise SystemExit(f"{path.name}: {frames} samples came back of {len(wave)}")
    return path.read_bytes()


def main() -> None:
    """Write one audio file a speaker, the index, and the SHA-256 of each."""
    parser = argparse.ArgumentParser(description="Speak the digits that ship with the package.")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="folder to write to")
    output = parser.parse_args().output
    check_tool()
    output.mkdir(parents=True, exist_ok=True)

    hashes, index = {}, []
    speakers = [(name, split) for split, names in SPEAKERS.items() for name in names.split()]
    with tempfile.TemporaryDirectory() as folder:
        for number, (speaker, split) in enumerate(speakers):
            wave, lines = speak(speaker, split, ACCENTS[number % len(ACCENTS)])
            content = encode(wave, Path(folder))
            write_atomically(output / f"{speaker}.ogg", content)
            hashes[f"{speaker}.ogg"] = hashlib.sha256(content).hexdigest()
            index += lines
            print(f"{speaker:10s} {split:10s} {len(lines)} clips, {len(content)} bytes")
        table = Path(folder) / "index.csv"
        with table.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *index])
        content = table.read_bytes()
    write_atomically(output / "index.csv", content)
    hashes["index.csv"] = hashlib.sha256(content).hexdigest()
    write_atomically(output / "sha256.json", (json.dumps(hashes, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
