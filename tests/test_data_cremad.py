"""CREMA-D from files on disk to batches, on a small folder in its layout."""

import codecs
import functools
import http.server
import shutil
import threading
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from benchmarks.cremad_folder import clip_names, make_folder, write_flv
from rollingq_core import AttentionFusion
from rollingq_core.data import audio, cremad, cremad_files, load_dataset, store, video
from rollingq_core.data.cache import reading as cache
from rollingq_core.data.cache import shards as cache_parts
from rollingq_core.models.encoders import small_vit
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.settings import TrainingConfig
from rollingq_core.training import fit
from tests.killed import kill_at
from tests.refused import refused

NAMES = clip_names(24)
# It trains in both splits.
CLIP = NAMES[3]
HAS_PUBLISHED = (store.data_root() / "published-splits" / "CREMAD" / "test.csv").exists()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("source") / "CREMA-D", NAMES, size=(36, 48))


@pytest.fixture
def root(source, tmp_path, monkeypatch):
    """A copy of the small folder, cut into four parts of a cache; nothing is to be downloaded."""
    monkeypatch.setattr(cache_parts, "PART_SIZE", 6)
    monkeypatch.setattr(cremad_files, "SPLIT_ADDRESS", "http://127.0.0.1:9/")
    monkeypatch.setenv("ROLLINGQ_DATA", str(tmp_path / "no data"))
    return Path(shutil.copytree(source, tmp_path / "CREMA-D"))


def wav(root, name=CLIP):
    return root / cremad_files.SOUNDS / f"{name}.wav"


def pictures_of(root, name=CLIP):
    return sorted((root / cremad_files.PICTURES / name).iterdir())


def as_stored(root, split="train", **options):
    """A part of the published split, and its rows in the order of the split files."""
    dataset = getattr(load_dataset("cremad", root=root, **options), split)
    return dataset, cache.read_manifest(dataset.folder)


def test_facts_of_the_dataset():
    assert len(cremad_files.ACTORS) == 91
    assert len(set(cremad_files.SENTENCES)) == 12
    assert cremad_files.EMOTIONS.index("NEU") == 0
    assert cremad_files.EMOTIONS.index("ANG") == 5
    assert not set(cremad_files.VALIDATION_ACTORS) & set(cremad_files.TEST_ACTORS)
    assert cremad_files.parse_name("1064_IEO_DIS_MD") == (1064, "IEO", "DIS", "MD")
    for name in cremad_files.KNOWN_BAD:
        cremad_files.parse_name(name)


@pytest.mark.parametrize(
    "name", ["", "1001_IEO_ANG", "1000_IEO_ANG_HI", "1001_XXX_ANG_HI", "1001_IEO_JOY_HI",
             "1001_IEO_ANG_XL", "../1001_IEO_ANG_HI", "1001_IEO_ANG_HI_2"]
)  # fmt: skip
def test_a_name_of_another_form_is_refused(name):
    with pytest.raises(ValueError, match="name: got"):
        cremad_files.parse_name(name)


@pytest.mark.skipif(not HAS_PUBLISHED, reason="needs ROLLINGQ_DATA with the published split files")
def test_the_published_split(tmp_path):
    place_of = cremad_files.read_split(tmp_path)
    assert cremad_files.is_published(tmp_path)
    train, test = (
        [cremad_files.parse_name(name) for name, own in place_of.items() if own == place]
        for place in ("train", "test")
    )
    counts = [[sum(c.emotion == e for c in side) for e in cremad_files.EMOTIONS]
              for side in (train, test)]  # fmt: skip
    assert counts == [[973, 1148, 1131, 1138, 1142, 1166], [114, 123, 140, 133, 129, 105]]
    assert {c.actor for c in train} == {c.actor for c in test} == set(cremad_files.ACTORS)
    assert {c.sentence for c in train} == set(cremad_files.SENTENCES)
    assert set(cremad_files.KNOWN_BAD) < set(place_of)
    for split, sizes in (("published", (5957, 741, 744)), ("speaker", (5885, 820, 737))):
        places = [*cremad_files.places(place_of, split).values()]
        assert tuple(places.count(place) for place in cache.PLACES) == sizes


def test_other_line_ends_are_the_same_split(root, monkeypatch):
    hashes = {name: store.sha256_file(root / name) for name in cremad_files.SPLIT_FILES}
    monkeypatch.setattr(cremad_files, "SPLIT_FILES", hashes)
    for name in hashes:
        (root / name).write_bytes((root / name).read_bytes().replace(b"\r\n", b"\n"))
    expected = cremad_files.read_split(root)
    for name in hashes:
        (root / name).write_bytes(codecs.BOM_UTF8 + (root / name).read_bytes())
    assert cremad_files.is_published(root)
    assert cremad_files.read_split(root) == expected
    (root / "test.csv").write_bytes((root / "test.csv").read_bytes() + b"1091_WSI_ANG_XX,ANG\n")
    assert not cremad_files.is_published(root)


def test_prepare_verify_load(root):
    report = cremad.verify(root)
    assert report.ok
    assert (report.clips, report.pictures) == ({"train": 20, "test": 4}, "jpg")
    assert set(report.classes.values()) == {4}
    assert not report.published
    assert str(report).splitlines()[-1] == "ok"
    assert cremad.prepare(root) == root / "cache" / "cremad-code"
    data = load_dataset("cremad", root=root)
    assert data.classes == cremad_files.EMOTIONS
    assert [len(part) for part in (data.train, data.validation, data.test)] == [16, 4, 4]
    for part in (data.train, data.validation, data.test):
        names = [cache.read_manifest(part.folder)["names"][row] for row in part.rows]
        felt = [cremad_files.EMOTIONS.index(name.split("_")[2]) for name in names]
        inputs, labels = part.__getitems__(range(len(part)))
        assert labels.tolist() == felt
        assert inputs["audio"].shape == (len(part), 1, 257, 188)
        assert inputs["visual"].shape == (len(part), 3, 224, 224)
        assert all(x.dtype == torch.float32 and x.isfinite().all() for x in inputs.values())
    audio_values = data.train.__getitems__(range(16))[0]["audio"].double()
    assert abs(audio_values.mean()) < 1e-3
    assert abs(audio_values.std() - 1) < 1e-3


def test_a_speaker_is_on_one_side_only(root):
    cremad.prepare(root)
    data = cremad.load("speaker", root)
    names = cache.read_manifest(data.train.folder)["names"]
    actors = [{names[row][:4] for row in part.rows}
              for part in (data.train, data.validation, data.test)]  # fmt: skip
    assert actors == [{"1002", "1003"}, {"1001"}, {"1006"}]
    assert data.data_hash != cremad.load("published", root).data_hash


def test_stored_is_the_released_codes_spectrogram_and_the_middle_picture(root):
    cremad.prepare(root)
    dataset, manifest = as_stored(root)
    row = manifest["names"].index(CLIP)
    stored = np.load(dataset.folder / "audio.npy")[row, 0].astype(np.float32)
    exact = audio.CREMAD_CODE(audio.load_wave(wav(root), 22050))
    assert abs(stored - exact).max() < 0.0079
    with Image.open(pictures_of(root)[1]) as picture:
        scaled = picture.resize((320, 240), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(np.load(dataset.folder / "visual.npy")[row], scaled)


def test_the_papers_spectrogram_is_another_cache(root):
    cremad.prepare(root)
    cremad.prepare(root, audio="paper")
    inputs, _ = load_dataset("cremad", root=root, audio="paper").test[0]
    assert inputs["audio"].shape == (1, 257, 299)
    assert load_dataset("cremad", root=root).test[0][0]["audio"].shape == (1, 257, 188)


def test_augmentation_follows_torchs_generator_and_is_for_training(root):
    cremad.prepare(root)
    data = cremad.load(root=root)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(data.train.__getitems__([0, 0, 0, 0])[0])
    assert torch.equal(draws[0]["visual"], draws[1]["visual"])
    assert not torch.equal(draws[0]["visual"], draws[2]["visual"])
    assert not torch.equal(draws[0]["visual"][0], draws[0]["visual"][1])
    assert torch.equal(draws[0]["audio"], draws[2]["audio"])
    assert torch.equal(data.test[0][0]["visual"], data.test[0][0]["visual"])


def test_prepared_once_the_sources_are_not_read_again(root):
    cremad.prepare(root)
    first = cremad.load(root=root).data_hash
    for folder in (cremad_files.SOUNDS, cremad_files.PICTURES):
        shutil.rmtree(root / folder)
    (root / "train.csv").unlink()
    assert cremad.load(root=root).data_hash == first


def test_not_prepared_says_what_to_run(root):
    with pytest.raises(FileNotFoundError, match=f"data prepare cremad --root {root}"):
        cremad.load(root=root)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


HOSTILE = {
    "truncated sound": (lambda root: truncate(wav(root)), "is cut short"),
    "no sound": (lambda root: wav(root).unlink(), "missing"),
    "empty sound": (lambda root: soundfile.write(wav(root), np.zeros(0), 16000), "no samples"),
    "NaN": (
        lambda root: soundfile.write(wav(root), np.full(9000, np.nan), 16000, subtype="FLOAT"),
        "not finite",
    ),
    "LFS pointer": (
        lambda root: wav(root).write_text("version https://git-lfs.github.com/spec/v1\noid s"),
        "git lfs pull",
    ),
    "zero-length picture": (lambda root: pictures_of(root)[1].write_bytes(b""), "as a picture"),
    "truncated picture": (lambda root: truncate(pictures_of(root)[1]), "as a picture"),
    "no picture": (lambda root: [p.unlink() for p in pictures_of(root)], "holds no .jpg"),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_damaged_file_is_named_and_nothing_looks_finished(root, fault, capsys):
    if fault == "truncated picture":
        Image.effect_noise((600, 600), 90).save(pictures_of(root)[1])
    damage, message = HOSTILE[fault]
    damage(root)
    said = refused(capsys, "data", "prepare", "cremad", "--root", root)
    assert CLIP in said
    assert message in said
    assert not list(root.rglob("manifest.json"))
    assert not list(root.rglob(".*"))  # nothing is half-written
    with pytest.raises(FileNotFoundError, match="no prepared"):
        cremad.load(root=root)
    report = cremad.verify(root)
    assert not report.ok
    faults = report.missing + report.damaged
    assert len(faults) == 1
    assert CLIP in faults[0]
    assert str(report).splitlines()[-1] == "not ok"


def test_another_rate_and_two_channels_are_read(root):
    wave, rate = soundfile.read(wav(root))
    soundfile.write(wav(root), np.stack([wave, wave], axis=1), rate)
    fast = np.repeat(wave, 2)
    soundfile.write(wav(root, NAMES[4]), fast, 2 * rate)
    cremad.prepare(root)
    dataset, manifest = as_stored(root)
    stored = np.load(dataset.folder / "audio.npy")[manifest["names"].index(CLIP), 0]
    mono = audio.CREMAD_CODE(audio.load_wave(wav(root), 22050))
    assert abs(stored - mono).max() < 0.0079


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1090_WSI_ANG_XX,ANG", "1090_WSI_ANG_XX.wav is missing"),
        ("1090_WSI_JOY_XX,JOY", "test.csv, line 5: name: got '1090_WSI_JOY_XX'"),
        ("1090_WSI_ANG_XX,SAD", "test.csv, line 5: got emotion 'SAD'"),
        ("1090_WSI_ANG_XX", "test.csv, line 5: got emotion ''"),
        (f"{CLIP},{CLIP.split('_')[2]}", f"line 5: {CLIP} is listed a second time"),
        ("\xff\xfe", "test.csv, line 5"),
    ],
)
def test_a_wrong_split_file_is_named(root, line, message, capsys):
    with (root / "test.csv").open("ab") as file:
        file.write(line.encode("latin1"))
    assert message in refused(capsys, "data", "prepare", "cremad", "--root", root)
    assert not (root / "cache").exists()


def test_a_known_bad_clip_is_left_out(root):
    name = "1076_MTI_SAD_XX"
    with (root / "train.csv").open("a") as file:
        file.write(f"{name},SAD\n")
    report = cremad.verify(root)
    assert report.ok
    assert len(report.left_out) == 1
    assert name in report.left_out[0]
    manifest = cache.read_manifest(cremad.prepare(root))
    assert manifest["left_out"] == [name]
    assert manifest["count"] == 24


def test_a_folder_without_the_media_says_where_they_come_from(tmp_path, source, root):
    shutil.rmtree(root / cremad_files.PICTURES)
    for call in (cremad.prepare, cremad.verify):
        with pytest.raises(FileNotFoundError, match="VideoFlash") as error:
            call(root)
        for word in (cremad_files.ADDRESS, "git lfs install", str(root)):
            assert word in str(error.value)


def test_missing_split_files_say_where_they_come_from(root):
    (root / "test.csv").unlink()
    with pytest.raises(ConnectionError, match=r"test\.csv"):
        cremad.prepare(root)


@pytest.fixture
def served(root, source, tmp_path, monkeypatch):
    """A folder served on this machine in place of the public address of the split files."""
    folder = tmp_path / "served"
    folder.mkdir()
    for name in cremad_files.SPLIT_FILES:
        shutil.copy(source / name, folder)
    hashes = {name: store.sha256_file(folder / name) for name in cremad_files.SPLIT_FILES}
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(cremad_files, "SPLIT_FILES", hashes)
        address = f"http://127.0.0.1:{host.server_port}/"
        monkeypatch.setattr(cremad_files, "SPLIT_ADDRESS", address)
        yield folder
        host.shutdown()
        thread.join()


def test_split_files_are_downloaded_and_verified(root, served):
    expected = cremad_files.read_split(root)
    for name in cremad_files.SPLIT_FILES:
        (root / name).unlink()
    content = (served / "test.csv").read_bytes()
    (served / "test.csv").write_bytes(content + b"!")
    with pytest.raises(ValueError, match="gave a file with SHA-256"):
        cremad.prepare(root)
    assert not (root / "test.csv").exists()
    (served / "test.csv").write_bytes(content)
    assert cremad_files.read_split(root) == expected
    assert cremad.verify(root).published


def test_videos_without_a_decoder_say_what_to_install(root, monkeypatch):
    (root / cremad_files.VIDEOS).mkdir()
    monkeypatch.setattr(video, "find_spec", lambda name: None)
    monkeypatch.setattr(video.shutil, "which", lambda name: None)
    assert cremad_files.choose_pictures(root) == "jpg"
    shutil.rmtree(root / cremad_files.PICTURES)
    with pytest.raises(FileNotFoundError, match=r"rollingq-core\[video\].*ffmpeg"):
        cremad.prepare(root)


def decoders():
    return [name for name, there in (("pyav", video.find_spec("av")),
                                     ("ffmpeg", shutil.which("ffmpeg"))) if there]  # fmt: skip


@pytest.fixture
def flv(tmp_path):
    """A second and a half: first dark, then light. Two pictures at one a second."""
    pytest.importorskip("av", reason="needs PyAV to write a video")
    path = tmp_path / "clip.flv"
    write_flv(path, [np.full((36, 48, 3), value, dtype=np.uint8) for value in (40, 200)])
    return path


@pytest.mark.parametrize("decoder", ["pyav", "ffmpeg"])
def test_the_middle_picture_of_a_video(flv, decoder):
    if decoder not in decoders():
        pytest.skip(f"needs {decoder}")
    picture = video.middles_of_video(flv, decoder, (24, 32))[0]
    assert picture.shape == (24, 32, 3)
    assert abs(picture.astype(int) - 200).max() < 8
    flv.write_bytes(flv.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"clip\.flv"):
        video.middles_of_video(flv, decoder, (24, 32))[0]
    for content in (b"", b"no video at all"):
        flv.write_bytes(content)
        with pytest.raises(ValueError, match=r"clip\.flv can't be decoded"):
            video.middles_of_video(flv, decoder, (24, 32))[0]
    flv.unlink()
    with pytest.raises(FileNotFoundError, match=r"clip\.flv"):
        video.middles_of_video(flv, decoder, (24, 32))[0]


def test_from_videos(tmp_path, monkeypatch):
    pytest.importorskip("av", reason="needs PyAV to write videos")
    names = NAMES[:12]
    root = make_folder(tmp_path / "CREMA-D", names, jpgs=False, flvs=True, size=(36, 48))
    assert cremad.verify(root).pictures == "pyav"
    (root / cremad_files.VIDEOS / f"{names[5]}.flv").rename(tmp_path / "away.flv")
    with pytest.raises(FileNotFoundError, match=rf"{names[5]}\.flv is missing"):
        cremad.prepare(root)
    (tmp_path / "away.flv").rename(root / cremad_files.VIDEOS / f"{names[5]}.flv")
    manifest = cache.read_manifest(cremad.prepare(root))
    assert manifest["options"]["pictures"] == "pyav"
    assert manifest["count"] == 12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "jobs", "parts"),
    [
        ("fsync 3", "1", 2),  # the third of four parts is written, but not yet named
        ("fsync 6", "1", 4),  # putting together: labels are done, the first modality is not
        ("rename 1", "1", 4),  # all is done but the last step
        ("update 1", "2", None),  # a part is there, and two processes go on with others
    ],
)
def test_killed_it_goes_on_and_ends_the_same(root, tmp_path, moment, jobs, parts):
    whole = Path(shutil.copytree(root, tmp_path / "whole"))
    expected = cache.read_manifest(cremad.prepare(whole))
    workplace = root / "cache" / "cremad-code.parts"

    def finished():
        return sorted(workplace.glob("*/*.npz"))

    kill_at(tmp_path, moment, "data", "prepare", "cremad", "--root", root, "--jobs", jobs)
    assert not (root / "cache" / "cremad-code").exists()
    with pytest.raises(FileNotFoundError, match="no prepared"):
        cremad.load(root=root)
    done = finished()
    assert len(done) == parts if parts else done
    # Parts that are there are not read again: their sounds may even be gone.
    order = [*cremad_files.read_split(root)]
    for name in [n for path in done for n in order[slice(*map(int, path.stem.split("-")))]]:
        soundfile.write(wav(root, name), np.zeros(100), 16000)
    assert cache.read_manifest(cremad.prepare(root)) == expected
    assert [path.name for path in (root / "cache").iterdir()] == ["cremad-code"]
    cache.verify(root / "cache" / "cremad-code")
    files = {path.name for path in (root / "cache" / "cremad-code").iterdir()}
    assert files == {*expected["files"], cache.MANIFEST}


def test_a_model_trains_on_it(root):
    cremad.prepare(root)
    data = cremad.load(root=root)
    torch.manual_seed(0)
    encoders = {
        "audio": small_vit((257, 188), data.patch["audio"], dim=8, depth=1),
        "visual": small_vit((224, 224), data.patch["visual"], channels=3, dim=8, depth=1),
    }
    model = MultimodalModel(encoders, AttentionFusion(8, len(data.classes)), len(data.classes))
    results = [
        fit(deepcopy(model), data, TrainingConfig(epochs=1, batch_size=8, seed=seed)).history
        for seed in (0, 0, 1)
    ]
    assert results[0] == results[1] != results[2]
