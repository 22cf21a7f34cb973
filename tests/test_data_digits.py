import csv
import json
import shutil

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from rollingq_core.data import digits, load_dataset, store

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("digits")


@pytest.fixture(scope="module")
def clean(root):
    return load_dataset("digits", token_noise=0, root=root)


def test_shapes_and_sizes(clean):
    sizes = {"train": 900, "validation": 300, "test": 597}
    for name, size in sizes.items():
        split = getattr(clean, name)
        assert split.inputs["audio"].shape == (size, 1, 32, 49)
        assert split.inputs["visual"].shape == (size, 1, 8, 8)
        assert set(split.labels.tolist()) == set(range(10))
    assert clean.patch == {"audio": (32, 7), "visual": (1, 8)}
    assert clean.classes == tuple("0123456789")


def test_seed_fixes_pairs_and_noise(root):
    first, again, other = (load_dataset("digits", seed=seed, root=root) for seed in (1, 1, 2))
    assert first.data_hash == again.data_hash != other.data_hash
    torch.testing.assert_close(first.test.inputs, again.test.inputs, rtol=0, atol=0)


def test_fewer_training_pairs_keep_the_pairs_of_the_other_splits(root, clean):
    small = load_dataset("digits", train_pairs=50, token_noise=0, root=root)
    assert len(small.train) == 50
    torch.testing.assert_close(small.test.labels, clean.test.labels)


@pytest.mark.parametrize("pairs", [0, 901, 50.0, True])
def test_train_pairs_out_of_range(pairs):
    with pytest.raises(ValueError, match="train_pairs"):
        load_dataset("digits", train_pairs=pairs)


def test_labels_agree_and_splits_share_no_clip_and_no_image(root, clean):
    clips = digits.spoken_clips(root)
    images = load_digits()
    audio = torch.from_numpy(clips["log_mel"]).flatten(1)
    visual = torch.from_numpy(images.images).flatten(1).float()
    used_images, used_clips = {}, {}
    for name, (first, last) in digits.IMAGE_RANGES.items():
        split = getattr(clean, name)
        image = _nearest(split.inputs["visual"], visual)
        clip = _nearest(split.inputs["audio"], audio)
        assert (images.target[image] == split.labels.numpy()).all()
        assert (clips["digit"][clip] == split.labels.numpy()).all()
        assert (clips["split"][clip] == name).all()
        used_images[name], used_clips[name] = set(image.tolist()), set(clip.tolist())
        assert used_images[name] <= set(range(first, last))
    assert not used_images["train"] & used_images["test"]
    assert not used_clips["train"] & used_clips["test"]


def _nearest(inputs, candidates):
    """Find each standardised sample among raw candidates by its correlation with them."""

    def unit(rows):
        rows = rows - rows.mean(dim=1, keepdim=True)
        return torch.nn.functional.normalize(rows, dim=1)

    similarity = unit(inputs.flatten(1)) @ unit(candidates).T
    best, place = similarity.max(dim=1)
    assert best.min() > 0.9999
    return place.numpy()


def test_speakers_belong_to_one_split(root):
    clips = digits.spoken_clips(root)
    speakers = {name: set(clips["speaker"][clips["split"] == name]) for name in digits.IMAGE_RANGES}
    assert {name: len(names) for name, names in speakers.items()} == {
        "train": 20,
        "validation": 4,
        "test": 10,
    }
    assert len(set.union(*speakers.values())) == 34
    assert (clips["split"] == "train").sum() >= 1000
    assert len(clips["digit"]) >= 1800


def test_standardised_by_the_training_split(clean):
    for values in clean.train.inputs.values():
        assert abs(values.mean()) < 1e-4
        assert abs(values.std() - 1) < 1e-3
    assert abs(clean.test.inputs["audio"].mean()) > 1e-3


def test_noise_hits_about_a_fifth_of_the_tokens(root, clean):
    noisy = load_dataset("digits", root=root)
    for name, (height, width) in clean.patch.items():
        for split in ("train", "validation", "test"):
            before, after = (getattr(data, split).inputs[name] for data in (clean, noisy))
            hit = (before != after).float()
            tokens = torch.nn.functional.avg_pool2d(hit, (height, width))
            assert ((tokens == 0) | (tokens == 1)).all()
            assert abs(tokens.mean() - 0.2) < 0.03


def test_second_load_reads_no_sound(root, clean, monkeypatch):
    monkeypatch.setattr(digits.audio, "load_wave", lambda *_: pytest.fail("read a sound file"))
    assert load_dataset("digits", token_noise=0, root=root).data_hash == clean.data_hash


def test_shipped_files_are_small_complete_and_as_recorded():
    hashes = json.loads((digits.FOLDER / "sha256.json").read_text())
    for name, sha256 in hashes.items():
        store.verify_file(digits.FOLDER / name, sha256)
    on_disk = {path.name for path in digits.FOLDER.iterdir()}
    assert on_disk == set(hashes) | {"sha256.json", "README.md"}
    assert sum(path.stat().st_size for path in digits.FOLDER.iterdir()) < 2.5 * MEGABYTE


def test_index_points_into_the_sound(root):
    with (digits.FOLDER / "index.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    by_speaker = {}
    for line in lines:
        by_speaker.setdefault(line["speaker"], []).append(line)
    wave = digits.audio.load_wave(digits.FOLDER / "m1.ogg", 8000)
    inside = np.zeros(len(wave), dtype=bool)
    for line in by_speaker["m1"]:
        inside[int(line["start"]) : int(line["start"]) + int(line["length"])] = True
    assert inside.sum() == sum(int(line["length"]) for line in by_speaker["m1"])
    assert np.abs(wave[inside]).max() > 0.5
    assert np.sqrt(np.mean(wave[~inside] ** 2)) < 0.05 * np.sqrt(np.mean(wave[inside] ** 2))
    assert all(130 <= int(line["rate"]) <= 200 for line in lines)
    assert all(0 <= int(line["pitch"]) <= 99 for line in lines)


def test_a_damaged_clip_is_named(tmp_path, monkeypatch):
    folder = tmp_path / "spoken_digits"
    shutil.copytree(digits.FOLDER, folder)
    content = (folder / "m4.ogg").read_bytes()
    (folder / "m4.ogg").write_bytes(content[:-1000])
    monkeypatch.setattr(digits, "FOLDER", folder)
    with pytest.raises(ValueError, match=r"m4\.ogg"):
        load_dataset("digits", root=tmp_path)
