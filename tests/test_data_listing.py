"""Files beside the data that are no data, met by every dataset; on a case-sensitive disk."""

import shutil

import numpy as np
import pytest
import soundfile
from PIL import Image

from benchmarks.cremad_folder import clip_names, make_folder
from rollingq_core.data import cremad, cremad_files, fsdd, mnist, store, video
from rollingq_core.data.cache import reading as cache
from rollingq_core.data.listing import data_file, data_files

STRANGERS = (
    ".DS_Store",
    "._a.wav",
    ".a.wav",
    "~$a.wav",
    "Thumbs.db",
    "desktop.ini",
    "a.wav.part",
    "a.wav.txt",
    "a.wave",
    "wav",
)


@pytest.fixture(autouse=True)
def _case_sensitive(tmp_path):
    (tmp_path / "probe").touch()
    if (tmp_path / "PROBE").exists():
        pytest.skip("needs a disk on which the case of a name counts")


def add_strangers(folder):
    for name in STRANGERS:
        (folder / name).write_bytes(b"no data")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "a.wav").write_bytes(b"no data")
    (folder / "folder.wav").mkdir()


def test_only_data_is_listed_in_order_whatever_the_case_of_its_ending(tmp_path):
    add_strangers(tmp_path)
    for name in ("b.WAV", "a.wav", "c.Wav", "B2.wav", "d.jpg"):
        (tmp_path / name).touch()
    found = data_files(tmp_path, ".wav")
    assert [*found] == ["B2.wav", "a.wav", "b.wav", "c.wav"]
    assert [path.name for path in found.values()] == ["B2.wav", "a.wav", "b.WAV", "c.Wav"]
    assert [*data_files(tmp_path, ".wav", ".jpg")][-1] == "d.jpg"
    assert data_files(tmp_path / "nowhere", ".wav") == {}
    for name, actual in (("a.wav", "a.wav"), ("b.wav", "b.WAV"), ("e.wav", "e.wav")):
        assert data_file(tmp_path, name) == tmp_path / actual
    (tmp_path / "b.wav").touch()
    with pytest.raises(ValueError, match=r"got both .*b\.WAV and b\.wav"):
        data_files(tmp_path, ".wav")


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(cremad_files, "SPLIT_ADDRESS", "http://127.0.0.1:9/")
    monkeypatch.setenv("ROLLINGQ_DATA", str(tmp_path / "no data"))
    return make_folder(tmp_path / "CREMA-D", clip_names(12), size=(36, 48))


def prepared(root):
    shutil.rmtree(root / "cache", ignore_errors=True)
    folder = cremad.prepare(root)
    return {
        name: np.load(folder / f"{name}.npy")
        for name in cache.read_manifest(folder)["scale"]["speaker"] | {"visual": 0}
    }


def test_cremad_is_the_same_with_strangers_and_other_endings(root):
    name = clip_names(12)[4]
    sounds, pictures = root / cremad_files.SOUNDS, root / cremad_files.PICTURES
    expected = prepared(root)
    add_strangers(sounds)
    add_strangers(pictures)
    (sounds / f"._{name}.wav").write_bytes(b"AppleDouble")
    for stranger in ("._00000.jpg", ".00001.jpg", "00090.jpg.part", "Thumbs.db"):
        (pictures / name / stranger).write_bytes(b"no picture")
    (sounds / f"{name}.wav").rename(sounds / f"{name}.WAV")
    (pictures / name / "00030.jpg").rename(pictures / name / "00030.JPG")
    (root / "test.csv").rename(root / "test.CSV")
    report = cremad.verify(root)
    assert report.ok
    assert report.unlisted == []
    for modality, rows in prepared(root).items():
        np.testing.assert_array_equal(rows, expected[modality])


def test_verify_names_a_sound_that_no_list_has_whatever_its_ending(root):
    sounds = root / cremad_files.SOUNDS
    for stranger in ("extra.wav", "other.WAV"):
        (sounds / stranger).write_bytes(b"")
    assert cremad.verify(root).unlisted == ["extra", "other"]


def test_two_files_of_one_name_are_refused(root):
    name = clip_names(12)[4]
    sounds = root / cremad_files.SOUNDS
    shutil.copy(sounds / f"{name}.wav", sounds / f"{name}.WAV")
    for call in (cremad.prepare, cremad.verify):
        with pytest.raises(ValueError, match=f"got both .*{name}"):
            call(root)


def test_a_half_renamed_clip_is_missing_and_its_file_is_named(root):
    name = clip_names(12)[4]
    sounds = root / cremad_files.SOUNDS
    (sounds / f"{name}.wav").rename(sounds / f"{name}.wav.part")
    report = cremad.verify(root)
    assert len(report.missing) == 1
    assert f"{name}.wav" in report.missing[0]


def test_the_middle_picture_is_that_of_the_pictures(tmp_path):
    for number, value in enumerate((10, 120, 240)):
        ending = ("jpg", "JPG", "jpeg")[number]
        Image.new("RGB", (8, 8), (value,) * 3).save(tmp_path / f"{number}.{ending}", "JPEG")
    for stranger in ("._0.jpg", "._1.JPG", ".2.jpg", "~$3.jpg"):
        (tmp_path / stranger).write_bytes(b"")
    assert video.middles_of_folder(tmp_path, (4, 4))[0].mean() == pytest.approx(120, abs=3)


def test_spoken_digits_are_found_with_strangers_and_other_endings(tmp_path, monkeypatch):
    folder = tmp_path / fsdd.LOCATION
    folder.mkdir(parents=True)
    manifest = {}
    for number in range(3):
        path = folder / f"{number}_theo_0.wav"
        soundfile.write(path, np.random.default_rng(number).normal(size=4000) * 0.1, 8000)
        manifest[path.name] = store.sha256_file(path)
    monkeypatch.setattr(fsdd, "read_manifest", lambda: manifest)
    monkeypatch.setattr(fsdd, "_download", lambda *_: pytest.fail("downloaded"))
    add_strangers(folder)
    (folder / "1_theo_0.wav").rename(folder / "1_theo_0.WAV")
    (folder / "._2_theo_0.wav").write_bytes(b"AppleDouble")
    clips = fsdd.spoken_recordings(tmp_path)
    assert clips["digit"].tolist() == [0, 1, 2]


def test_images_are_found_with_another_ending(tmp_path, monkeypatch):
    folder = tmp_path / mnist.LOCATION
    folder.mkdir(parents=True)
    name = next(iter(mnist.FILES))
    (folder / name.replace(".gz", ".GZ")).write_bytes(b"some")
    (folder / f"._{name}").write_bytes(b"other")
    sha256 = store.sha256_file(folder / name.replace(".gz", ".GZ"))
    monkeypatch.setattr(store, "fetch", lambda *_: pytest.fail("downloaded"))
    assert mnist._locate(name, sha256, tmp_path).name == name.replace(".gz", ".GZ")
