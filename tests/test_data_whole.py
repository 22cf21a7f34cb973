"""Sounds and videos: whole ones pass as published tools write them, cut ones are named."""

import struct
from contextlib import closing, nullcontext

import numpy as np
import pytest
import soundfile

from benchmarks.cremad_folder import clip_names, make_folder
from rollingq_core.data import audio, container, cremad, cremad_files, sound_file, video

# Odd, so that one sample of one or three bytes leaves an odd number of bytes.
SAMPLES = 8001
WAVE = 0.4 * np.sin(np.arange(SAMPLES) * 0.05)
CUTS = (10, 25, 50, 75, 90, 99)
SUBTYPES = {
    "WAV": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW",
            "IMA_ADPCM", "MS_ADPCM", "GSM610"),
    "WAVEX": ("PCM_U8", "PCM_24", "FLOAT", "ULAW", "ALAW"),
    "RF64": ("PCM_U8", "PCM_16", "PCM_24", "FLOAT"),
    "AIFF": ("PCM_S8", "PCM_16", "PCM_24"),
    "AU": ("PCM_16", "ULAW"),
    "CAF": ("PCM_16", "PCM_24"),
    "FLAC": ("PCM_16", "PCM_24"),
    "OGG": ("VORBIS", "OPUS"),
    "MP3": ("MPEG_LAYER_III",),
}  # fmt: skip


def cut(path, percent):
    content = path.read_bytes()
    short = path.with_name(f"cut-{path.name}")
    short.write_bytes(content[: len(content) * percent // 100])
    return short


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [(kind, subtype) for kind, all_of in SUBTYPES.items() for subtype in all_of],
)
def test_a_whole_sound_is_read_and_a_cut_one_is_named(tmp_path, kind, subtype):
    path = tmp_path / "sound.x"
    soundfile.write(path, WAVE, 8000, format=kind, subtype=subtype)
    wave = audio.load_wave(path, 8000)
    assert len(wave) >= SAMPLES
    assert np.corrcoef(wave[:SAMPLES], WAVE)[0, 1] > 0.99 or kind == "MP3"
    for percent in CUTS:
        with pytest.raises(ValueError, match=r"cut-sound\.x"):
            audio.load_wave(cut(path, percent), 8000)


def riff(*chunks, size=None, kind=b"RIFF", padded=True):
    """A WAV of some chunks, each its name, its content, and the size it states."""
    body = b"WAVE"
    for name, content, stated in chunks:
        pad = b"\0" if padded and len(content) % 2 else b""
        body += name + struct.pack("<I", stated) + content + pad
    return kind + struct.pack("<I", len(body) if size is None else size) + body


def chunk(name, content, stated=None):
    return name, content, len(content) if stated is None else stated


FORMAT = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 8000, 8000, 1, 8))
DATA = bytes(range(1, 252))  # 251 bytes: an odd number
LIST = chunk(b"LIST", b"INFOICMT\x05\0\0\0 hey\0\0")
WHOLE = {
    "odd, padded": riff(FORMAT, chunk(b"data", DATA)),
    "odd, not padded": riff(FORMAT, chunk(b"data", DATA), padded=False),
    "a list before": riff(FORMAT, LIST, chunk(b"data", DATA)),
    "a list after": riff(FORMAT, chunk(b"data", DATA), LIST),
    "a list after, not padded": riff(FORMAT, chunk(b"data", DATA), LIST, padded=False),
    "an odd chunk before": riff(FORMAT, chunk(b"note", b"abc"), chunk(b"data", DATA)),
    "a wrong outer size": riff(FORMAT, chunk(b"data", DATA), size=9999),
    "pipe, 0": riff(FORMAT, chunk(b"data", DATA, 0), size=0),
    "pipe, GStreamer": riff(FORMAT, chunk(b"data", DATA, 0), size=36),
    "pipe, a list before": riff(FORMAT, LIST, chunk(b"data", DATA, 0), size=0),
    "pipe, ffmpeg": riff(FORMAT, chunk(b"data", DATA, 0xFFFFFFFF), size=0xFFFFFFFF),
    "pipe, SoX": riff(FORMAT, chunk(b"data", DATA, 0x7FFFF000), size=0x7FFFF024),
    "pipe, arecord": riff(FORMAT, chunk(b"data", DATA, 0x80000000), size=0x80000024),
}


@pytest.mark.parametrize("case", WHOLE)
def test_a_whole_wav_is_whole_whatever_is_around_its_samples(tmp_path, case):
    path = tmp_path / "a.wav"
    path.write_bytes(WHOLE[case])
    wave = audio.load_wave(path, 8000)
    expected = (np.frombuffer(DATA, np.uint8).astype(np.float32) - 128) / 128
    np.testing.assert_array_equal(wave[: len(DATA)], expected)
    # What has no size is read to its end, a byte that fills it up among it.
    assert len(wave) - len(DATA) in ((0, 1) if "pipe" in case else (0,))


def test_a_wav_that_was_closed_without_a_sample_is_empty(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(riff(FORMAT, chunk(b"data", b""), LIST))
    with pytest.raises(ValueError, match=r"a\.wav holds no samples"):
        audio.load_wave(path, 8000)


@pytest.mark.parametrize(
    "case", [case for case in WHOLE if "pipe" not in case and "after" not in case]
)
def test_one_missing_sample_is_noticed(tmp_path, case):
    path = tmp_path / "a.wav"
    content = WHOLE[case]
    end = content.index(DATA) + len(DATA)
    path.write_bytes(content[: end - 1])
    with pytest.raises(ValueError, match=r"a\.wav is cut short"):
        audio.load_wave(path, 8000)


def test_a_sound_cut_between_two_pages_of_ogg_is_noticed(tmp_path):
    path = tmp_path / "a.ogg"
    soundfile.write(path, np.tile(WAVE, 20), 8000)
    content = path.read_bytes()
    last = content.rfind(b"OggS")
    assert content.count(b"OggS") > 3
    path.write_bytes(content[:last])
    with pytest.raises(ValueError, match=r"a\.ogg is cut short"):
        audio.load_wave(path, 8000)
    path.write_bytes(content[: last + 20])
    with pytest.raises(ValueError, match=r"a\.ogg"):
        audio.load_wave(path, 8000)


class Pipe:
    """A file that can't be gone back in, as a pipe."""

    def __init__(self, path):
        file = path.open("wb", buffering=0)
        self.write, self.close = file.write, file.close


def opened(path, pipe):
    return closing(Pipe(path)) if pipe else nullcontext(str(path))


def write_sound(path, codec, container_format, pipe=False, **options):
    av = pytest.importorskip("av", reason="needs PyAV to write what libsndfile doesn't")
    with (
        opened(path, pipe) as target,
        av.open(target, "w", format=container_format, options=options) as output,
    ):
        stream = output.add_stream(codec, rate=16000)
        stream.layout = "mono"
        for start in range(0, SAMPLES, 1024):
            piece = WAVE[None, start : start + 1024].astype(np.float32)
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


@pytest.mark.parametrize(
    ("codec", "kind", "pipe", "options"),
    [
        ("pcm_u8", "wav", False, {}),
        ("pcm_s16le", "wav", True, {}),
        ("pcm_s16le", "wav", False, {"rf64": "always"}),
        ("adpcm_ima_wav", "wav", True, {}),
        ("flac", "flac", False, {}),
        ("flac", "flac", True, {}),
        ("libopus", "ogg", False, {}),
        ("libopus", "ogg", True, {}),
        ("libmp3lame", "mp3", False, {}),
        ("libmp3lame", "mp3", False, {"write_xing": "0"}),
        ("libmp3lame", "mp3", True, {}),
        ("libmp3lame", "mp3", False, {"write_id3v1": "1"}),
    ],
)
def test_a_whole_sound_as_ffmpeg_writes_it(tmp_path, codec, kind, pipe, options):
    path = tmp_path / f"a.{kind}"
    write_sound(path, codec, kind, pipe, **options)
    assert len(audio.load_wave(path, 16000)) >= SAMPLES


def test_a_sound_without_a_length_is_read_in_several_blocks(tmp_path, monkeypatch):
    write_sound(tmp_path / "known.flac", "flac", "flac")
    write_sound(tmp_path / "pipe.flac", "flac", "flac", pipe=True)
    monkeypatch.setattr(sound_file, "BLOCK", 1000)
    known, unknown = (audio.load_wave(tmp_path / f"{x}.flac", 16000) for x in ("known", "pipe"))
    np.testing.assert_array_equal(unknown, known)
    (tmp_path / "pipe.flac").write_bytes((tmp_path / "pipe.flac").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"pipe\.flac"):
        audio.load_wave(tmp_path / "pipe.flac", 16000)


VIDEOS = {
    "flv": ("flv", None, {}),
    "flv with sound": ("flv", "libmp3lame", {}),
    "mp4": ("mpeg4", None, {}),
    "mp4, index first": ("mpeg4", "aac", {"movflags": "faststart"}),
    "mp4 in fragments": ("mpeg4", None, {"movflags": "frag_keyframe+empty_moov"}),
    "mov": ("mpeg4", "aac", {}),
    "avi": ("mpeg4", None, {}),
    "avi with sound": ("mpeg4", "libmp3lame", {}),
    "mkv": ("mpeg4", None, {}),
    "mkv with sound": ("mpeg4", "aac", {}),
    "webm": ("libvpx", None, {}),
}
SECONDS, RATE, SOUND_RATE = 1.5, 20, 44100


def write_video(path, codec, sound=None, options=None, pipe=False):
    """Nearly a second of dark pictures, then half a second of light ones, with a tone."""
    av = pytest.importorskip("av", reason="needs PyAV to write a video")
    kind = {"mkv": "matroska"}.get(path.suffix[1:], path.suffix[1:])
    draw, said = np.random.default_rng(0), 0
    with (
        opened(path, pipe) as target,
        av.open(target, "w", format=kind, options=options or {}) as output,
    ):
        stream = output.add_stream(codec, rate=RATE)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = 48, 64, "yuv420p", 500_000
        voice = output.add_stream(sound, rate=SOUND_RATE) if sound else None
        for number in range(int(SECONDS * RATE)):
            picture = draw.normal(40 if number < RATE - 2 else 200, 8, size=(48, 64, 3))
            frame = av.VideoFrame.from_ndarray(
                picture.clip(0, 255).astype(np.uint8), format="rgb24"
            )
            frame.pts = number
            output.mux(stream.encode(frame))
            while voice and said < (number + 1) / RATE * SOUND_RATE:
                tone = np.sin(np.arange(said, said + 1024) * 0.05, dtype=np.float32)[None]
                frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = SOUND_RATE, said
                said += 1024
                output.mux(voice.encode(frame))
        output.mux(stream.encode())
        if voice:
            output.mux(voice.encode())


@pytest.mark.parametrize("case", VIDEOS)
def test_a_whole_video_is_read_and_a_cut_one_is_named(tmp_path, case):
    codec, sound, options = VIDEOS[case]
    path = tmp_path / f"film.{case.partition(' ')[0].strip(',')}"
    write_video(path, codec, sound, options)
    picture = video.middles_of_video(path, "pyav", (24, 32))[0]
    assert abs(picture.astype(int).mean() - 200) < 8
    for percent in CUTS:
        with pytest.raises(ValueError, match="cut-film"):
            video.middles_of_video(cut(path, percent), "pyav", (24, 32))[0]


@pytest.mark.parametrize("kind", ["flv", "mkv", "avi"])
def test_a_video_written_to_a_pipe(tmp_path, kind):
    path = tmp_path / f"film.{kind}"
    write_video(path, {"flv": "flv"}.get(kind, "mpeg4"), pipe=True)
    assert abs(video.middles_of_video(path, "pyav", (24, 32))[0].astype(int).mean() - 200) < 8
    # Not every cut can be seen, but one inside a picture can.
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="is cut short"):
        video.middles_of_video(path, "pyav", (24, 32))[0]


def flash_tags(content):
    """Where each tag of a Flash video begins."""
    position = 13
    while position < len(content):
        yield position
        position += 15 + int.from_bytes(content[position + 1 : position + 4])


def test_a_flash_video_cut_between_two_pictures_is_told_by_its_duration(tmp_path):
    path = tmp_path / "film.flv"
    write_video(path, "flv")
    content = path.read_bytes()
    tags = [*flash_tags(content)]
    for count, whole in ((len(tags) - 8, False), (len(tags), True)):
        path.write_bytes(content[: [*tags, len(content)][count]])
        if whole:
            container.require_whole(path)
        else:
            with pytest.raises(ValueError, match="is cut short"):
                container.require_whole(path)


def test_what_stands_behind_a_whole_video_is_no_fault(tmp_path):
    for case in ("flv", "mp4", "avi", "mkv"):
        path = tmp_path / f"film.{case}"
        write_video(path, *VIDEOS[case])
        path.write_bytes(path.read_bytes() + bytes(64))
        container.require_whole(path)


@pytest.mark.parametrize("size", [1, 5, 9, 12, 13, 40, 200])
@pytest.mark.parametrize("case", ["flv", "mp4", "avi", "mkv"])
def test_a_few_first_bytes_are_no_video(tmp_path, case, size):
    path = tmp_path / f"film.{case}"
    write_video(path, *VIDEOS[case])
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="film"):
        video.middles_of_video(path, "pyav", (24, 32))[0]


def test_another_ending_or_decoder_is_refused(tmp_path):
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n")
    with pytest.raises(ValueError, match=r"path's ending: got '\.m3u8'"):
        video.middles_of_video(tmp_path / "list.m3u8", "pyav", (24, 32))[0]
    (tmp_path / "a.flv").write_bytes(b"")
    with pytest.raises(ValueError, match="decoder: got 'vlc'"):
        video.middles_of_video(tmp_path / "a.flv", "vlc", (24, 32))[0]


def test_verify_names_a_cut_video_and_a_cut_sound(tmp_path):
    pytest.importorskip("av", reason="needs PyAV to write videos")
    names = clip_names(12)
    root = make_folder(tmp_path / "CREMA-D", names, jpgs=False, flvs=True, size=(36, 48))
    assert cremad.verify(root).ok
    film = root / cremad_files.VIDEOS / f"{names[3]}.flv"
    cut(film, 25).replace(film)
    sound = root / cremad_files.SOUNDS / f"{names[7]}.wav"
    cut(sound, 99).replace(sound)
    report = cremad.verify(root)
    assert not report.ok
    assert report.damaged == [
        f"path: {film} is cut short, expected a complete video",
        f"path: {sound} is cut short, expected a complete sound file",
    ]
