"""The cache of prepared samples: what it holds, what it refuses, and what it survives."""

import errno
import json
import pickle
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch

from rollingq_core.data.cache import building as cache_build
from rollingq_core.data.cache import reading as cache
from rollingq_core.data.cache import shards as cache_parts
from rollingq_core.models.predictions import batches

NAMES = [f"item-{number}" for number in range(11)]
PLACES = ["train", "train", "train", "validation", "test"]


def contents(names=NAMES, **options):
    return cache_build.Contents(
        labels={name: position % 3 for position, name in enumerate(names)},
        classes=("a", "b", "c"),
        splits={
            "one": {name: PLACES[position % 5] for position, name in enumerate(names)},
            "other": {name: PLACES[(position + 2) % 5] for position, name in enumerate(names)},
        },
        options=options,
    )


def make(name):
    draw = np.random.default_rng(int(name.partition("-")[2]))
    return {
        "audio": draw.normal(2, 3, size=(1, 4, 5)).astype(np.float16),
        "visual": draw.integers(0, 256, size=(6, 7, 3), dtype=np.uint8),
    }


def as_floats(scale=None, training=None):
    return dict.fromkeys(("audio", "visual"), torch.Tensor.float)


def content_of(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(cache_parts, "PART_SIZE", 4)


@pytest.fixture
def built(tmp_path):
    folder = tmp_path / "whole"
    cache_build.build(folder, contents(), make)
    return folder


def test_rows_are_the_samples_in_order(built, tmp_path):
    dataset = cache.CachedDataset(built, range(len(NAMES)), as_floats())
    inputs, labels = dataset.__getitems__([7, 0, 7])
    for modality, batch in inputs.items():
        assert batch.dtype == torch.float32
        expected = np.stack([make(NAMES[row])[modality] for row in (7, 0, 7)])
        np.testing.assert_array_equal(batch.numpy(), expected)
    assert labels.tolist() == [7 % 3, 0, 7 % 3]
    one, label = dataset[7]
    torch.testing.assert_close(one["audio"], inputs["audio"][0], rtol=0, atol=0)
    assert label == 1
    assert len(dataset) == 11
    assert [*tmp_path.iterdir()] == [built]
    with pytest.raises(IndexError):
        dataset[11]


def test_the_manifest_says_what_is_there(built):
    manifest = cache.read_manifest(built)
    assert manifest["names"] == NAMES
    assert manifest["count"] == 11
    assert manifest["left_out"] == []
    assert manifest["splits"]["one"] == [PLACES[position % 5] for position in range(11)]
    assert sorted(manifest["files"]) == ["audio.npy", "labels.npy", "visual.npy"]
    for split, places in manifest["splits"].items():
        training = [make(n)["audio"] for n, p in zip(NAMES, places, strict=True) if p == "train"]
        mean, deviation = manifest["scale"][split]["audio"]
        np.testing.assert_allclose(mean, np.mean(training, dtype=np.float64), rtol=1e-9)
        np.testing.assert_allclose(deviation, np.std(training, dtype=np.float64), rtol=1e-9)
        assert list(manifest["scale"][split]) == ["audio"]
    cache.verify(built)


def test_splits_are_read_from_the_cache(built):
    splits = {
        name: cache.cached_splits(built, "some", name, as_floats, {"audio": (2, 5)})
        for name in ("one", "other")
    }
    assert splits["one"].classes == ("a", "b", "c")
    assert splits["one"].validation.rows.tolist() == [3, 8]
    assert splits["other"].test.rows.tolist() == [2, 7]
    assert splits["one"].data_hash.startswith(cache.read_manifest(built)["hash"])
    assert splits["one"].data_hash != splits["other"].data_hash
    with pytest.raises(ValueError, match="split: got 'third'"):
        cache.cached_splits(built, "some", "third", as_floats, {})


def test_a_split_without_a_validation_sample_is_refused(tmp_path):
    cache_build.build(tmp_path / "c", contents(NAMES[:3]), make)
    with pytest.raises(ValueError, match="no validation sample in 'one'"):
        cache.cached_splits(tmp_path / "c", "some", "one", as_floats, {})


def test_workers_of_a_loader_map_the_files_themselves(built):
    dataset = cache.CachedDataset(built, range(11), as_floats())
    assert len(pickle.dumps(dataset)) < 2000
    dataset[0]
    copy = pickle.loads(pickle.dumps(dataset))
    torch.testing.assert_close(copy[3], dataset[3])
    plain, parallel = (
        [*batches(dataset, 4, num_workers=n, multiprocessing_context=c)]
        for n, c in ((0, None), (1, "forkserver"))
    )
    torch.testing.assert_close(parallel, plain)


def test_another_number_of_processes_or_parts_changes_nothing(built, tmp_path, monkeypatch):
    cache_build.build(tmp_path / "two", contents(), make, jobs=2)
    monkeypatch.setattr(cache_parts, "PART_SIZE", 3)
    cache_build.build(tmp_path / "parts", contents(), make)
    assert content_of(tmp_path / "two") == content_of(tmp_path / "parts") == content_of(built)


def test_a_finished_cache_is_not_made_again(built):
    manifest = cache_build.build(built, contents(), lambda name: pytest.fail("made again"))
    assert manifest == cache.read_manifest(built)


def reordered():
    return replace(contents(), labels=dict(reversed(contents().labels.items())))


@pytest.mark.parametrize("other", [reordered(), contents(NAMES[1:]), contents(hop=3)])
def test_other_contents_are_not_mixed_into_a_cache(built, other):
    before = content_of(built)
    with pytest.raises(ValueError, match="other items or options"):
        cache_build.build(built, other, make)
    assert content_of(built) == before


def test_an_error_keeps_what_is_finished(built, tmp_path):
    def fragile(name):
        if name == NAMES[9]:
            raise ValueError(f"{name} is damaged")
        return make(name)

    made = []

    def counted(name):
        made.append(name)
        return make(name)

    folder = tmp_path / "fragile"
    with pytest.raises(ValueError, match="item-9 is damaged"):
        cache_build.build(folder, contents(), fragile)
    assert not folder.exists()
    cache_build.build(folder, contents(), counted)
    assert made == NAMES[8:]
    assert content_of(folder) == content_of(built)


@pytest.mark.parametrize("kind", [ValueError, FileNotFoundError])
def test_an_error_in_another_process_is_the_same_error(built, tmp_path, kind):
    def fragile(name):
        if name == NAMES[9]:
            raise kind(f"{name} is damaged")
        return make(name)

    with pytest.raises(kind, match="item-9 is damaged"):
        cache_build.build(tmp_path / "c", contents(), fragile, jobs=2)
    assert not (tmp_path / "c").exists()
    cache_build.build(tmp_path / "c", contents(), make, jobs=2)
    assert content_of(tmp_path / "c") == content_of(built)


def test_items_without_a_sample_are_left_out(tmp_path):
    gone = NAMES[4:8] + NAMES[10:]
    folder = tmp_path / "c"
    manifest = cache_build.build(folder, contents(), lambda n: None if n in gone else make(n))
    assert manifest["left_out"] == gone
    assert manifest["names"] == [name for name in NAMES if name not in gone]
    inputs, labels = cache.CachedDataset(folder, range(6), as_floats())[5]
    np.testing.assert_array_equal(inputs["visual"], make("item-9")["visual"])
    assert labels == 0


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            lambda s: s | {"audio": s["audio"] * np.float16(np.nan)},
            "audio: got values of item-[89]",
        ),
        (lambda s: s | {"audio": s["audio"][:, :3]}, r"audio: got float16 of shape \(1, 3, 5\)"),
        (lambda s: s | {"visual": s["visual"].astype(float)}, "visual: got float64"),
        (lambda s: s | {"smell": s["visual"]}, "smell"),
        (lambda s: {"audio": s["audio"]}, "visual"),
    ],
)
@pytest.mark.parametrize("position", [8, 9])  # a part begins at 8
def test_a_sample_that_does_not_fit_is_named(tmp_path, fault, message, position):
    def faulty(name):
        return fault(make(name)) if name in NAMES[position:] else make(name)

    with pytest.raises(ValueError, match=message):
        cache_build.build(tmp_path / "c", contents(), faulty)
    assert not (tmp_path / "c").exists()


def test_nothing_to_store_or_no_variation_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no item that can be stored"):
        cache_build.build(tmp_path / "c", contents(), lambda name: None)
    with pytest.raises(ValueError, match="audio: got no variation"):
        cache_build.build(tmp_path / "d", contents(), lambda name: {"audio": np.ones((1, 2))})
    assert not (tmp_path / "c").exists()
    assert not (tmp_path / "d").exists()
    with pytest.raises(ValueError, match="jobs: got 0"):
        cache_build.build(tmp_path / "e", contents(), make, jobs=0)


def test_a_damaged_part_is_deleted_and_made_again(built, tmp_path, monkeypatch):
    folder = tmp_path / "c"

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache_build.os, "rename", stop)
        with pytest.raises(KeyboardInterrupt):
            cache_build.build(folder, contents(), make)
    part = sorted((tmp_path / "c.parts").rglob("*.npz"))[1]
    damaged = bytearray(part.read_bytes())
    damaged[300] ^= 0xFF
    part.write_bytes(damaged)
    with pytest.raises(ValueError, match="was damaged"):
        cache_build.build(folder, contents(), make)
    assert not folder.exists()
    cache_build.build(folder, contents(), make)
    assert content_of(folder) == content_of(built)


@pytest.mark.parametrize("damage", ["cut", "flip", "missing", "manifest", "format", "text"])
def test_a_damaged_cache_is_noticed(built, damage):
    path = built / "visual.npy"
    content = bytearray(path.read_bytes())
    manifest = json.loads((built / cache.MANIFEST).read_text())
    if damage == "cut":
        path.write_bytes(content[:-200])
    elif damage == "flip":
        content[-5] ^= 0xFF
        path.write_bytes(content)
    elif damage == "missing":
        path.unlink()
    elif damage == "text":
        (built / cache.MANIFEST).write_text("{")
    else:
        manifest |= {"count": 12} if damage == "manifest" else {"format": "rollingq-cache-0"}
        (built / cache.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises((ValueError, FileNotFoundError), match=r"visual\.npy|manifest\.json"):
        cache.verify(built)
    if damage in ("cut", "missing"):
        with pytest.raises((ValueError, FileNotFoundError)):
            cache.CachedDataset(built, range(3), as_floats())


@pytest.mark.parametrize("name", ["audio", "labels"])
def test_objects_in_a_cache_are_not_loaded(built, name):
    np.save(built / f"{name}.npy", np.array([{}] * 11, dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"allow_pickle|object"):
        cache.CachedDataset(built, range(3), as_floats())


@pytest.mark.parametrize("after", [0, 2, 4])
def test_a_full_disk_is_told_and_the_rest_goes_on_later(built, tmp_path, monkeypatch, after):
    folder, written = tmp_path / "c", []
    room = cache_parts.written_whole

    def full(path):
        written.append(path)
        if len(written) > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        return room(path)

    with monkeypatch.context() as patch:
        patch.setattr(cache_parts, "written_whole", full)
        with pytest.raises(OSError, match="disk is full") as error:
            cache_build.build(folder, contents(), make)
    assert error.value.filename == str(folder)
    assert error.value.errno == errno.ENOSPC
    assert not folder.exists()
    cache_build.build(folder, contents(), make)
    assert content_of(folder) == content_of(built)


def test_a_disk_that_is_really_full(small_disk, tmp_path):
    def large(name):
        return {"audio": np.random.default_rng(int(name[5:])).normal(size=(40, 50))}

    disk = small_disk(tmp_path / "disk", "64k")
    with pytest.raises(OSError, match="disk is full"):
        cache_build.build(disk / "c", contents(), large)
    assert not (disk / "c").exists()
    assert not [p for p in (disk / "c.parts").rglob("*") if p.name.startswith(".")]
    subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
    again = cache_build.build(disk / "c", contents(), large)
    assert again == cache_build.build(tmp_path / "d", contents(), large)


def test_another_error_of_the_disk_is_left_as_it_is(tmp_path):
    (tmp_path / "c.parts").write_text("a file where the folder should be")
    with pytest.raises(NotADirectoryError) as error:
        cache_build.build(tmp_path / "c", contents(), make)
    assert "full" not in str(error.value)
