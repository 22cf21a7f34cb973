import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from rollingq_core.data import PairedDataset, load_dataset
from rollingq_core.data.dataset import corrupt_splits, corrupt_tokens, hash_splits, standardise
from rollingq_core.data.pairing import balanced_choice, match_labels


def paired(n=12, seed=0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return PairedDataset(
        {
            "audio": torch.randn(n, 1, 4, 6, generator=generator) * 3 + 5 + shift,
            "visual": torch.randn(n, 1, 2, 2, generator=generator) - 7 + shift,
        },
        torch.arange(n) % 3,
    )


def test_one_sample_and_a_batch_agree():
    data = paired()
    inputs, labels = data.__getitems__([4, 1])
    for row, index in enumerate((4, 1)):
        sample, label = data[index]
        assert label == labels[row]
        for name in ("audio", "visual"):
            torch.testing.assert_close(inputs[name][row], sample[name], rtol=0, atol=0)


def test_loader_fetches_whole_batches():
    batches = list(DataLoader(paired(), batch_size=5, collate_fn=lambda batch: batch))
    assert [len(labels) for _, labels in batches] == [5, 5, 2]
    assert batches[0][0]["audio"].shape == (5, 1, 4, 6)


def test_types_are_float32_and_int64():
    data = PairedDataset(
        {"audio": torch.ones(3, 2, dtype=torch.float64)}, torch.zeros(3, dtype=torch.int32)
    )
    assert data.inputs["audio"].dtype == torch.float32
    assert data.labels.dtype == torch.int64


def test_replacing_a_modality_leaves_the_original():
    data = paired()
    other = data.with_inputs(audio=torch.zeros(12, 1, 4, 6))
    assert other.inputs["audio"].abs().sum() == 0
    assert data.inputs["audio"].abs().sum() > 0
    assert other.inputs["visual"] is data.inputs["visual"]
    with pytest.raises(ValueError, match="smell"):
        data.with_inputs(smell=torch.zeros(12, 1))


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        ({}, torch.zeros(2, dtype=torch.int64), "inputs"),
        ({"audio": torch.zeros(3, 2)}, torch.zeros(2, dtype=torch.int64), r"inputs\['audio'\]"),
        ({"audio": torch.zeros(2, 2)}, torch.zeros(2, 1, dtype=torch.int64), "labels"),
        ({"audio": torch.zeros(2, 2)}, torch.zeros(2), "labels"),
    ],
)
def test_bad_tensors_are_named(inputs, labels, message):
    with pytest.raises(ValueError, match=message):
        PairedDataset(inputs, labels)


def test_unknown_dataset_is_named():
    with pytest.raises(ValueError, match="name: got 'movies'"):
        load_dataset("movies")


def test_hash_sees_every_value_and_label():
    data = paired()
    altered = data.inputs["audio"].clone()
    altered[-1, 0, -1, -1] += 1
    relabelled = PairedDataset(data.inputs, (data.labels + 1) % 3)
    hashes = {hash_splits(data), hash_splits(data.with_inputs(audio=altered))}
    hashes |= {hash_splits(relabelled), hash_splits(data, data)}
    assert len(hashes) == 4
    assert hash_splits(data) == hash_splits(paired())


def test_standardising_uses_training_statistics_only():
    train, test = standardise(paired(), paired(seed=1))
    for values in train.inputs.values():
        assert values.mean().abs() < 1e-5
        assert (values.std(correction=0) - 1).abs() < 1e-5
    same_train, shifted = standardise(paired(), paired(seed=1, shift=100.0))
    torch.testing.assert_close(same_train.inputs, train.inputs, rtol=0, atol=0)
    deviation = paired().inputs["audio"].std(correction=0)
    torch.testing.assert_close(
        shifted.inputs["audio"] - test.inputs["audio"],
        torch.full_like(test.inputs["audio"], 100 / deviation.item()),
        rtol=1e-4,
        atol=1e-4,
    )


def test_standardising_a_constant_is_refused():
    data = paired()
    with pytest.raises(ValueError, match="visual"):
        standardise(data.with_inputs(visual=torch.ones(12, 1, 2, 2)))


@settings(deadline=None, max_examples=25)
@given(
    grid=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    patch=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    probability=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_noise_replaces_whole_patches_or_nothing(grid, patch, probability, seed):
    shape = (5, 1, grid[0] * patch[0], grid[1] * patch[1])
    # No normal draw reaches this value, so it marks what was left alone.
    inputs = torch.full(shape, 1e6)
    noisy = corrupt_tokens(inputs, patch, probability, torch.Generator().manual_seed(seed))
    kept = (noisy == inputs).view(5, grid[0], patch[0], grid[1], patch[1])
    per_patch = kept.float().mean(dim=(2, 4))
    assert ((per_patch == 0) | (per_patch == 1)).all()
    if probability in (0, 1):
        assert (per_patch == 1 - probability).all()


def test_noise_is_standard_normal_and_as_frequent_as_asked():
    inputs = torch.full((4000, 1, 4, 4), 50.0)
    noisy = corrupt_tokens(inputs, (2, 4), 0.2, torch.Generator().manual_seed(0))
    hit = noisy != inputs
    assert abs(hit.float().mean() - 0.2) < 0.02
    assert abs(noisy[hit].mean()) < 0.03
    assert abs(noisy[hit].std() - 1) < 0.03


def test_noise_of_a_split_does_not_depend_on_the_others():
    patch = {"audio": (4, 3), "visual": (1, 2)}
    small = corrupt_splits((paired(3), paired()), patch, 0.5, seed=1)
    large = corrupt_splits((paired(9), paired()), patch, 0.5, seed=1)
    torch.testing.assert_close(small[1].inputs, large[1].inputs, rtol=0, atol=0)
    other = corrupt_splits((paired(9), paired()), patch, 0.5, seed=2)
    assert not torch.equal(other[1].inputs["audio"], large[1].inputs["audio"])
    twice = corrupt_splits((paired(), paired()), patch, 0.5, seed=1)
    assert not torch.equal(twice[0].inputs["audio"], twice[1].inputs["audio"])


@pytest.mark.parametrize(
    ("patch", "probability", "message"),
    [((3, 3), 0.2, "patch"), ((2, 2), 1.2, "probability"), ((2, 2), float("nan"), "probability")],
)
def test_bad_noise_arguments_are_named(patch, probability, message):
    with pytest.raises(ValueError, match=message):
        corrupt_tokens(torch.zeros(2, 1, 4, 4), patch, probability, torch.Generator())


@settings(deadline=None, max_examples=50)
@given(
    labels=st.lists(st.integers(0, 3), min_size=8, max_size=40),
    wanted=st.lists(st.integers(0, 3), max_size=40),
    seed=st.integers(0, 1000),
)
def test_matches_have_the_wanted_class_and_reuse_evenly(labels, wanted, seed):
    labels, wanted = np.array([*labels, 0, 1, 2, 3]), np.array(wanted, dtype=int)
    matched = match_labels(wanted, labels, np.random.default_rng(seed))
    assert (labels[matched] == wanted).all()
    for label in np.unique(wanted):
        uses = np.bincount(matched, minlength=len(labels))[labels == label]
        assert uses.max() - uses.min() <= 1


def test_a_class_without_candidates_is_named():
    with pytest.raises(ValueError, match="class 7"):
        match_labels(np.array([7]), np.array([1, 2]), np.random.default_rng(0))


def test_balanced_choice_is_balanced_without_repeats():
    labels = np.repeat([0, 1, 2], [5, 9, 30])
    chosen = balanced_choice(labels, 14, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 14
    assert np.bincount(labels[chosen]).tolist() == [5, 5, 4]
    with pytest.raises(ValueError, match="class 0"):
        balanced_choice(labels, 16, np.random.default_rng(0))
    with pytest.raises(ValueError, match="count"):
        balanced_choice(labels, 0, np.random.default_rng(0))
