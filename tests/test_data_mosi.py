"""CMU-MOSI: utterances between their neighbours."""

import numpy as np
import pytest
import torch

from rollingq_core.data import mosi, store


@pytest.fixture(scope="module")
def utterances():
    if not any(
        (root / mosi.LOCATION / "transcripts.csv").is_file() for root in store.search_roots()
    ):
        pytest.skip("CMU-MOSI is not in the data root (ROLLINGQ_DATA)")
    return mosi.read_utterances()


def test_windows_stay_in_their_video_and_in_order():
    videos = np.array(["a", "a", "b", "a", "b"])
    numbers = np.array([10, 2, 1, 1, 2])  # of video a: rows 3, 1, 0
    rows, padding = mosi.windows(videos, numbers, 1)
    shown = np.where(padding, -1, rows)
    assert shown.tolist() == [[1, 0, -1], [3, 1, 0], [-1, 2, 4], [-1, 3, 1], [2, 4, -1]]
    assert rows[:, 1].tolist() == [0, 1, 2, 3, 4]
    assert (rows[padding] == np.repeat(np.arange(5)[:, None], 3, 1)[padding]).all()


def test_no_neighbours_is_the_utterance_alone():
    rows, padding = mosi.windows(np.array(["a", "b"]), np.array([1, 1]), 0)
    assert rows.tolist() == [[0], [1]]
    assert not padding.any()


def test_the_published_numbers(utterances):
    assert {name: utterances[name].shape for name in mosi.PUBLISHED} == {
        "audio": (2199, 73),
        "visual": (2199, 100),
        "text": (2199, 100),
    }
    assert (utterances["split"] == "train").sum() == 1447
    assert (utterances["split"] == "test").sum() == 752
    assert len(np.unique(utterances["video"])) == 93
    sides = {
        v: set(utterances["split"][utterances["video"] == v]) for v in set(utterances["video"])
    }
    assert all(len(found) == 1 for found in sides.values())
    majority = np.bincount(utterances["label"][utterances["split"] == "test"]).max() / 752
    assert majority == pytest.approx(0.62, abs=0.005)


def test_tokens_are_neighbours_standardised_by_training(utterances):
    data = mosi.load(seed=0)
    assert {n: tuple(x.shape[1:]) for n, x in data.train.inputs.items()} == {
        "audio": (5, 73),
        "visual": (5, 100),
        "text": (5, 100),
    }
    assert len(data.train) + len(data.validation) == 1447
    assert len(data.test) == 752
    for name, tokens in data.train.inputs.items():
        centre = tokens[:, 2].double()
        assert centre.mean(0).abs().max() < 1e-4, name
        spread = centre.std(0, correction=0)
        assert (((spread - 1).abs() < 1e-3) | (spread == 0)).all(), name
        assert tokens[data.train.padding[name]].eq(0).all()
    assert not data.train.padding["text"][:, 2].any()
    # The second video's first utterance has nobody before it.
    assert data.test.padding["text"][:, 0].sum() == 2 * 31


def test_validation_is_carved_by_video(utterances):
    chosen = mosi.carve_validation(utterances["video"], utterances["split"], 12, seed=3)
    by_video = {v: set(chosen[utterances["video"] == v]) for v in set(utterances["video"])}
    assert all(len(found) == 1 for found in by_video.values())
    assert sum("validation" in found for found in by_video.values()) == 12
    other = mosi.carve_validation(utterances["video"], utterances["split"], 12, seed=4)
    assert (chosen != other).any()
    assert (chosen[utterances["split"] == "test"] == "test").all()


def test_modalities_are_chosen_and_ordered(utterances):
    data = mosi.load(modalities=("text", "audio"), neighbours=0)
    assert [*data.train.inputs] == ["text", "audio"]
    assert data.train.inputs["text"].shape[1] == 1
    assert torch.equal(
        data.train.inputs["text"][:, 0], mosi.load(neighbours=1).train.inputs["text"][:, 1]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": ()}, "modalities: got"),
        ({"modalities": ("audio", "video")}, r"modalities: got \['audio', 'video'\]"),
        ({"modalities": ("audio", "audio")}, "modalities: got"),
        ({"neighbours": -1}, "neighbours: got -1"),
        ({"neighbours": 1.5}, "neighbours: got 1.5"),
        ({"validation_videos": 0}, "validation_videos: got 0"),
        ({"validation_videos": 62}, "validation_videos: got 62"),
    ],
)
def test_options_out_of_range_are_refused(utterances, options, message):
    with pytest.raises(ValueError, match=message):
        mosi.load(**options)


def test_a_damaged_file_is_named(utterances, tmp_path, monkeypatch):
    (source,) = (
        root / mosi.LOCATION
        for root in store.search_roots()
        if (root / mosi.LOCATION / "transcripts.csv").is_file()
    )
    folder = tmp_path / mosi.LOCATION
    folder.mkdir()
    for path in source.glob("*.csv"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "video_train0.csv").write_text("1,2\n")
    with pytest.raises(ValueError, match=r"video_train0\.csv has SHA-256"):
        mosi._read(tmp_path)
