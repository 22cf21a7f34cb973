import numpy as np
import pytest
import soundfile

from rollingq_core.data import audio


def tone(seconds, rate, frequency=440.0):
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        (audio.CREMAD_CODE, (257, 188)),
        (audio.CREMAD_PAPER, (257, 299)),
        (audio.KINETICS_SOUNDS_PAPER, (257, 1004)),
    ],
)
def test_shapes_of_the_published_settings(settings, shape):
    picture = settings(tone(1.7, settings.sample_rate))
    assert picture.shape == shape
    assert picture.dtype == np.float32


@pytest.mark.parametrize(
    ("rate", "hop", "center", "frames"),
    [(22050, 353, True, 188), (22050, 159, True, 417), (16000, 353, True, 136)],
)
def test_frame_arithmetic(rate, hop, center, frames):
    assert audio.log_stft(tone(3, rate), 512, hop, center).shape == (257, frames)


def test_log_stft_of_a_tone_peaks_at_its_frequency():
    picture = audio.log_stft(tone(1, 16000, frequency=2000.0), 512, 159, False)
    assert (picture.argmax(axis=0) == 2000 * 512 // 16000).all()


def test_log_stft_of_silence_is_the_floor():
    picture = audio.log_stft(np.zeros(4000), 512, 159, False)
    np.testing.assert_allclose(picture, np.log(1e-7), rtol=1e-6)
    np.testing.assert_allclose(picture[0, 0], -16.118, atol=1e-3)


def test_log_stft_refuses_less_than_a_frame():
    with pytest.raises(ValueError, match="512"):
        audio.log_stft(np.ones(511), 512, 159, False)


@pytest.mark.parametrize("samples", [100, 4096, 9000])
def test_log_mel_has_one_shape(samples):
    picture = audio.log_mel(tone(samples / 8000, 8000))
    assert picture.shape == (32, 49)
    assert np.isfinite(picture).all()


def test_log_mel_reads_nothing_after_half_a_second():
    wave = tone(1, 8000)
    louder = wave.copy()
    louder[4096:] *= 100
    np.testing.assert_array_equal(audio.log_mel(wave), audio.log_mel(louder))
    louder[4095] = 9
    assert not np.array_equal(audio.log_mel(wave), audio.log_mel(louder))


def test_log_mel_of_a_higher_tone_lies_higher():
    low, high = (audio.log_mel(tone(0.6, 8000, f)).mean(axis=1).argmax() for f in (300.0, 3000.0))
    assert low < high


def test_tiling_repeats_cuts_and_pads():
    wave = np.array([1.0, 2.0, 3.0])
    assert audio.tile_to_length(wave, 7).tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert audio.tile_to_length(wave, 2).tolist() == [1, 2]
    assert audio.tile_to_length(wave, 8, copies=2).tolist() == [1, 2, 3, 1, 2, 3, 0, 0]
    with pytest.raises(ValueError, match="length"):
        audio.tile_to_length(wave, 0)


@pytest.mark.parametrize("wave", [np.zeros(0), np.zeros((2, 3)), np.array([0.0, np.nan])])
@pytest.mark.parametrize("use", [audio.log_mel, lambda wave: audio.tile_to_length(wave, 5)])
def test_bad_waves_are_refused(use, wave):
    with pytest.raises(ValueError, match="wave"):
        use(wave)


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", "PCM_16"), ("a.flac", "PCM_16")])
def test_reading_gives_what_was_written(tmp_path, name, subtype):
    wave = tone(0.5, 8000)
    soundfile.write(tmp_path / name, wave, 8000, subtype=subtype)
    read = audio.load_wave(tmp_path / name, 8000)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, wave, atol=1e-4)


def test_channels_are_averaged(tmp_path):
    wave = tone(0.1, 8000)
    soundfile.write(tmp_path / "stereo.wav", np.stack([wave, 0.5 * wave], axis=1), 8000)
    np.testing.assert_allclose(
        audio.load_wave(tmp_path / "stereo.wav", 8000), 0.75 * wave, atol=1e-4
    )


def test_another_rate_is_resampled(tmp_path):
    soundfile.write(tmp_path / "fast.wav", tone(1, 16000), 16000)
    read = audio.load_wave(tmp_path / "fast.wav", 8000)
    assert len(read) == 8000
    np.testing.assert_allclose(read[400:-400], tone(1, 8000)[400:-400], atol=0.01)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_a_truncated_file_is_named(tmp_path, suffix):
    path = tmp_path / f"cut{suffix}"
    soundfile.write(path, np.random.default_rng(0).normal(size=8000) * 0.1, 8000)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"cut{suffix}"):
        audio.load_wave(path, 8000)


def test_other_broken_files_are_named(tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 8000, subtype="FLOAT")
    for name in ("text.wav", "empty.wav", "nan.wav"):
        with pytest.raises(ValueError, match=name):
            audio.load_wave(tmp_path / name, 8000)
    with pytest.raises(FileNotFoundError, match=r"none\.wav"):
        audio.load_wave(tmp_path / "none.wav", 8000)
