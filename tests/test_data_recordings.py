"""Recorded digits and MNIST: reading, verifying, downloading.

Most tests run on a small stand-in made here. Those on the real files need the data root.
"""

import functools
import gzip
import hashlib
import http.server
import os
import shutil
import struct
import tarfile
import threading

import numpy as np
import pytest
import soundfile
import torch

from rollingq_core.data import avmnist, fsdd, load_dataset, mnist, store
from tests.small import splits_of

HAS_REAL_FILES = all(
    (store.data_root() / place).exists()
    for place in (fsdd.LOCATION, *(mnist.LOCATION / name for name in mnist.FILES))
)
real = pytest.mark.skipif(
    not HAS_REAL_FILES, reason="needs ROLLINGQ_DATA with the recordings and MNIST's test file"
)


def idx(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Files laid out as the public downloads are: two speakers, 11 takes, 1000 images."""
    folder = tmp_path_factory.mktemp("source")
    draw = np.random.default_rng(0)
    recordings = folder / "free-spoken-digit-dataset-1.0.10" / "recordings"
    recordings.mkdir(parents=True)
    for digit in range(10):
        for speaker in ("george", "theo"):
            for index in range(11):
                tone = np.sin(np.arange(3000) * (0.2 + 0.2 * digit)) * 0.3
                wave = tone + 0.1 * draw.normal(size=3000)
                soundfile.write(recordings / f"{digit}_{speaker}_{index}.wav", wave, 8000)
    lines = [
        f"{store.sha256_file(path)}  {path.name}\n" for path in sorted(recordings.glob("*.wav"))
    ]
    (folder / "manifest.gz").write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
    with tarfile.open(folder / "v1.0.10.tar.gz", "w:gz") as archive:
        archive.add(recordings.parent, recordings.parent.name)
    labels = np.arange(1000) % 10
    images = draw.integers(0, 200, size=(1000, 28, 28)) + labels[:, None, None]
    for name, array in zip(mnist.FILES, (images, labels), strict=True):
        (folder / name).write_bytes(idx(array))
    return folder


@pytest.fixture
def root(tmp_path, monkeypatch, source):
    """Stand in for the known hashes; the data root is an empty folder."""
    monkeypatch.setattr(fsdd, "MANIFEST", source / "manifest.gz")
    hashes = {name: store.sha256_file(source / name) for name in mnist.FILES}
    monkeypatch.setattr(mnist, "FILES", hashes)
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def filled_root(root, source):
    shutil.copytree(
        source / "free-spoken-digit-dataset-1.0.10" / "recordings", root / fsdd.LOCATION
    )
    (root / mnist.LOCATION).mkdir(parents=True)
    for name in mnist.FILES:
        shutil.copy(source / name, root / mnist.LOCATION / name)
    return root


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch, source):
    """Serve a copy of the source on this machine, in place of the public addresses."""
    folder = tmp_path / "served"
    shutil.copytree(source, folder)
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{host.server_port}/"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(fsdd, "ARCHIVE_URL", address + "v1.0.10.tar.gz")
        monkeypatch.setattr(mnist, "MIRROR", address)
        yield folder
        host.shutdown()
        thread.join()


@pytest.fixture
def offline(monkeypatch):
    """Point both addresses at a port that nothing listens on."""
    with http.server.HTTPServer(("127.0.0.1", 0), QuietHandler) as host:
        address = f"http://127.0.0.1:{host.server_port}/"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fsdd, "ARCHIVE_URL", address + "v1.0.10.tar.gz")
    monkeypatch.setattr(mnist, "MIRROR", address)


def sizes(pairs=10):
    return {"train_pairs": pairs, "validation_pairs": pairs, "test_pairs": pairs}


def files_under(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_downloads_give_the_same_data_as_files_on_disk(root, server, source, tmp_path):
    downloaded = load_dataset("avmnist", root=root, **sizes())
    assert len(list((root / fsdd.LOCATION).glob("*.wav"))) == 220
    other = tmp_path / "other"
    shutil.copytree(root, other, ignore=shutil.ignore_patterns("cache"))
    shutil.rmtree(server)
    assert load_dataset("avmnist", root=other, **sizes()).data_hash == downloaded.data_hash
    assert not [name for name in files_under(root) if name.endswith((".part", ".tar.gz"))]


def test_a_tampered_image_file_is_refused_and_not_kept(root, server):
    name = next(iter(mnist.FILES))
    (server / name).write_bytes((server / name).read_bytes() + b"!")
    with pytest.raises(ValueError, match="gave a file with SHA-256"):
        mnist.read_images(root)
    assert files_under(root) == []


@pytest.mark.parametrize("fault", ["changed", "missing", "truncated"])
def test_a_wrong_archive_is_refused_and_not_kept(root, server, fault):
    recordings = server / "free-spoken-digit-dataset-1.0.10" / "recordings"
    if fault == "changed":
        (recordings / "3_theo_4.wav").write_bytes((recordings / "3_theo_5.wav").read_bytes())
    if fault == "missing":
        (recordings / "3_theo_4.wav").unlink()
    with tarfile.open(server / "v1.0.10.tar.gz", "w:gz") as archive:
        archive.add(recordings.parent, recordings.parent.name)
    if fault == "truncated":
        content = (server / "v1.0.10.tar.gz").read_bytes()
        (server / "v1.0.10.tar.gz").write_bytes(content[: len(content) // 2])
    expected = "damaged" if fault == "truncated" else "3_theo_4"
    with pytest.raises(ValueError, match=expected):
        fsdd.recordings_folder(root)
    assert files_under(root) == []


class ShortHandler(QuietHandler):
    """Promises more than it sends."""

    def copyfile(self, source, outputfile):
        outputfile.write(source.read(100))
        self.close_connection = True


def page(server):
    """Put a page that says "log in" where the data was."""
    for name in ("v1.0.10.tar.gz", *mnist.FILES):
        (server / name).write_text("<html>Log in to this network</html>")


@pytest.mark.parametrize(
    ("use", "name"), [(mnist.read_images, "MNIST"), (fsdd.recordings_folder, "v1.0.10")]
)
@pytest.mark.parametrize("fault", ["page", "cut off", "no answer", "full disk"])
def test_a_failed_download_is_one_line_and_leaves_nothing(
    root, server, monkeypatch, small_disk, tmp_path, use, name, fault
):
    error = ValueError
    if fault == "page":
        page(server)
    elif fault == "cut off":
        monkeypatch.setattr(QuietHandler, "copyfile", ShortHandler.copyfile)
        error = ConnectionError
    elif fault == "no answer":
        monkeypatch.setattr(mnist, "MIRROR", "http://no.such.host.invalid/")
        monkeypatch.setattr(fsdd, "ARCHIVE_URL", "http://no.such.host.invalid/v1.0.10")
        error = ConnectionError
    else:
        root = small_disk(tmp_path / "disk", "64k")
        error = OSError
    with pytest.raises(error, match=name if fault != "full disk" else "No space left") as raised:
        use(root)
    assert "\n" not in str(raised.value)
    assert files_under(root) == []
    if fault != "full disk":
        assert "ROLLINGQ_DATA" in str(raised.value) or "try again later" in str(raised.value)


def test_what_a_killed_download_left_is_cleared_away(root, server):
    left = root / fsdd.LOCATION.parent / ".recordings.unfinished"
    left.mkdir(parents=True)
    (left / "fsdd.tar.gz").write_bytes(b"half")
    folder = fsdd.recordings_folder(root)
    assert len(files_under(root)) == len(files_under(folder)) == 220
    assert not left.exists()


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_what_is_downloaded_follows_the_umask(root, server, umask):
    before = os.umask(umask)
    try:
        fsdd.recordings_folder(root)
        mnist.read_images(root)
    finally:
        os.umask(before)
    assert {oct(p.stat().st_mode & 0o777) for p in root.rglob("*") if p.is_file()} == {
        oct(0o666 & ~umask)
    }
    assert {oct(p.stat().st_mode & 0o777) for p in root.rglob("*") if p.is_dir()} == {
        oct(0o777 & ~umask)
    }


def test_an_archive_can_only_write_known_names(root, server):
    recordings = server / "free-spoken-digit-dataset-1.0.10" / "recordings"
    with tarfile.open(server / "v1.0.10.tar.gz", "w:gz") as archive:
        archive.add(recordings.parent, recordings.parent.name)
        archive.add(recordings / "0_theo_0.wav", "../../escaped.wav")
    folder = fsdd.recordings_folder(root)
    assert len(files_under(root)) == len(files_under(folder)) == 220
    assert not list(root.parent.rglob("escaped.wav"))


def test_offline_says_what_is_missing_and_what_to_do(root, offline):
    with pytest.raises(ConnectionError, match="MNIST") as images:
        mnist.read_images(root)
    with pytest.raises(ConnectionError, match="Free Spoken Digit Dataset") as recordings:
        fsdd.recordings_folder(root)
    for error, address, place in (
        (images, mnist.MIRROR, mnist.LOCATION),
        (recordings, fsdd.ARCHIVE_URL, fsdd.LOCATION),
    ):
        assert address in str(error.value)
        assert str(root / place) in str(error.value)
        assert "ROLLINGQ_DATA" in str(error.value)
    assert files_under(root) == []


def test_an_absent_file_on_the_server_is_a_clear_error(root, server):
    for name in mnist.FILES:
        (server / name).unlink()
    with pytest.raises(ConnectionError, match="HTTPError"):
        mnist.read_images(root)


def test_a_read_only_root_is_read_and_left_alone(filled_root, offline, monkeypatch, tmp_path):
    monkeypatch.setattr(store.platformdirs, "user_cache_path", lambda name: tmp_path / name)
    filled_root.chmod(0o555)
    before = files_under(filled_root)
    load_dataset("avmnist", root=filled_root, **sizes())
    assert files_under(filled_root) == before
    assert list((tmp_path / "rollingq" / "cache").glob("fsdd-*.npz"))
    filled_root.chmod(0o755)


def test_a_changed_recording_in_the_root_is_named(filled_root):
    folder = filled_root / fsdd.LOCATION
    shutil.copy(folder / "7_theo_2.wav", folder / "7_theo_3.wav")
    with pytest.raises(ValueError, match=r"7_theo_3\.wav has SHA-256"):
        load_dataset("avmnist", root=filled_root, **sizes())


def test_a_changed_image_file_in_the_root_is_named(filled_root):
    name = next(iter(mnist.FILES))
    (filled_root / mnist.LOCATION / name).write_bytes(idx(np.zeros((1000, 28, 28))))
    with pytest.raises(ValueError, match=f"{name} has SHA-256"):
        load_dataset("avmnist", root=filled_root, **sizes())


def test_second_load_reads_no_recording(filled_root, monkeypatch):
    first = load_dataset("avmnist", root=filled_root, **sizes())
    shutil.rmtree(filled_root / fsdd.LOCATION)
    assert load_dataset("avmnist", root=filled_root, **sizes()).data_hash == first.data_hash


def test_seed_fixes_pairs_and_noise(filled_root):
    first, again, other = (
        load_dataset("avmnist", seed=seed, root=filled_root, **sizes(50)).data_hash
        for seed in (1, 1, 2)
    )
    assert first == again != other


def places_of(values, candidates):
    """Find each standardised sample among the raw candidates it may have come from."""

    def unit(rows):
        rows = rows.flatten(1).double()
        return torch.nn.functional.normalize(rows - rows.mean(dim=1, keepdim=True), dim=1)

    best, place = (unit(values) @ unit(candidates).T).max(dim=1)
    assert best.min() > 0.999999
    return place.numpy()


@pytest.mark.parametrize("held_out", [None, "theo"])
def test_splits_share_nothing_and_labels_agree(filled_root, held_out):
    splits = load_dataset(
        "avmnist", root=filled_root, token_noise=0, held_out_speaker=held_out, **sizes(100)
    )
    clips = fsdd.spoken_recordings(filled_root)
    images, labels = mnist.read_images(filled_root)
    used_images, used_clips = [], []
    for split in splits_of(splits):
        image = places_of(split.inputs["visual"], torch.from_numpy(images))
        clip = places_of(split.inputs["audio"], torch.from_numpy(clips["log_mel"]))
        assert (labels[image] == split.labels.numpy()).all()
        assert (clips["digit"][clip] == split.labels.numpy()).all()
        assert np.bincount(split.labels).tolist() == [10] * 10
        assert len(set(image.tolist())) == 100
        used_images.append(set(image.tolist()))
        used_clips.append(clip)
    assert not set.intersection(*used_images[:2]) | (used_images[0] & used_images[2])
    assert not used_images[1] & used_images[2]
    train, validation, test = (
        (clips["speaker"][clip], clips["index"][clip]) for clip in used_clips
    )
    assert (train[1] >= 10).all()
    assert (validation[1] >= 5).all()
    assert (validation[1] < 10).all()
    if held_out:
        assert set(test[0]) == {"theo"}
        assert "theo" not in {*train[0], *validation[0]}
        assert test[1].max() >= 10
    else:
        assert (test[1] < 5).all()


def test_the_papers_input_sizes(filled_root, monkeypatch):
    small = load_dataset("avmnist", root=filled_root, token_noise=0, **sizes(20))
    full = load_dataset("avmnist_full", root=filled_root, **sizes(20))
    for split in ("train", "validation", "test"):
        inputs, labels = getattr(full, split).__getitems__(range(20))
        assert inputs["audio"].shape == (20, 1, 257, 188)
        assert inputs["visual"].shape == (20, 3, 224, 224)
        same = getattr(small, split)
        assert torch.equal(labels, same.labels)
        # Both show the same image: one scaled, one not.
        shrunk = torch.nn.functional.avg_pool2d(inputs["visual"][:, :1], 8)
        pairs = zip(shrunk.flatten(1), same.inputs["visual"].flatten(1), strict=True)
        assert min(torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs) > 0.9
    mean = full.train.__getitems__(range(20))[0]["audio"].double().mean()
    assert abs(mean) < 1e-3
    with monkeypatch.context() as patch:
        patch.setattr(fsdd, "recordings_folder", lambda root: pytest.fail("built again"))
        again = load_dataset("avmnist_full", root=filled_root, **sizes(20))
    other = load_dataset("avmnist_full", root=filled_root, seed=1, **sizes(20))
    assert full.data_hash == again.data_hash != other.data_hash
    assert len(list((filled_root / "cache").glob("avmnist-full-*"))) == 2


def test_a_changed_recording_is_not_cached_at_full_size(filled_root):
    folder = filled_root / fsdd.LOCATION
    for path in folder.glob("7_*.wav"):
        shutil.copy(folder / "6_theo_3.wav", path)
    with pytest.raises(ValueError, match=r"7_\w+\.wav has SHA-256"):
        load_dataset("avmnist_full", root=filled_root, **sizes(20))
    assert not list((filled_root / "cache").rglob("manifest.json"))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"held_out_speaker": "nobody"}, "held_out_speaker"),
        ({"train_pairs": 5000}, "count"),
        ({"train_pairs": 10.0}, "train_pairs: got 10.0, expected an integer"),
        ({"test_pairs": True}, "test_pairs: got True, expected an integer"),
        ({"validation_pairs": 0}, "validation_pairs: got 0, expected an integer"),
        ({"seed": 1.5}, "seed: got 1.5, expected an integer"),
        ({"token_noise": -0.1}, "probability"),
    ],
)
def test_bad_options_are_named(filled_root, option, message):
    with pytest.raises(ValueError, match=message):
        load_dataset("avmnist", root=filled_root, **{**sizes(), **option})


def test_image_splits_cover_both_halves():
    split = avmnist.image_splits(10_000)
    for half in (split[:5000], split[5000:]):
        counts = {name: int((half == name).sum()) for name in avmnist.SPLITS}
        assert counts == {"train": 3000, "validation": 500, "test": 1500}


@pytest.mark.parametrize("shape", [(7,), (3, 4, 5)])
def test_idx_is_read_back(tmp_path, shape):
    array = np.random.default_rng(0).integers(0, 256, size=shape)
    (tmp_path / "a.gz").write_bytes(idx(array))
    np.testing.assert_array_equal(mnist.read_idx(tmp_path / "a.gz"), array)


@pytest.mark.parametrize(
    "content",
    [
        idx(np.zeros((3, 4)))[:-9],
        gzip.compress(gzip.decompress(idx(np.zeros((3, 4))))[:-1]),
        gzip.compress(gzip.decompress(idx(np.zeros((3, 4)))) + b"x"),
        gzip.compress(b"\0\0\x08\x03\0\0"),
        gzip.compress(b"\0\0\x0d\x01\0\0\0\0"),
        gzip.compress(b""),
        b"no gzip",
    ],
    ids=["cut", "too short", "too long", "header cut", "floats", "empty", "plain"],
)
def test_damaged_idx_is_named(tmp_path, content):
    (tmp_path / "bad.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.gz"):
        mnist.read_idx(tmp_path / "bad.gz")


def test_manifest_lists_fifty_of_each_digit_and_speaker():
    manifest = fsdd.read_manifest()
    expected = {
        f"{digit}_{speaker}_{index}.wav"
        for digit in range(10)
        for speaker in fsdd.SPEAKERS
        for index in range(50)
    }
    assert set(manifest) == expected
    assert len(set(manifest.values())) > 2990
    assert all(
        len(bytes.fromhex(sha256)) == hashlib.sha256().digest_size for sha256 in manifest.values()
    )


@real
def test_real_files():
    splits = load_dataset("avmnist")
    assert [len(split) for split in splits_of(splits)] == [900, 300, 900]
    assert splits.test.inputs["audio"].shape == (900, 1, 32, 49)
    assert splits.test.inputs["visual"].shape == (900, 1, 28, 28)
    for split in splits_of(splits):
        assert np.bincount(split.labels).tolist() == [len(split) // 10] * 10
    assert load_dataset("avmnist").data_hash == splits.data_hash


@real
def test_real_held_out_speaker_differs_from_the_official_test():
    clips = fsdd.spoken_recordings()
    split = avmnist.recording_splits(clips["speaker"], clips["index"], "theo")
    assert {name: int((split == name).sum()) for name in np.unique(split)} == {
        "train": 2000,
        "validation": 250,
        "test": 500,
        "none": 250,
    }
