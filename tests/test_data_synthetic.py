import pytest
import torch

from rollingq_core.data import load_dataset
from tests.small import splits_of


def test_default_setting():
    splits = load_dataset("synthetic")
    assert [len(split) for split in splits_of(splits)] == [2000, 500, 2000]
    for values in splits.test.inputs.values():
        assert values.shape == (2000, 8, 32)
    assert set(splits.train.labels.tolist()) == set(range(10))
    assert len(splits.classes) == 10
    assert splits.patch is None


def test_seed_fixes_everything():
    first, again, other = (load_dataset("synthetic", seed=seed) for seed in (3, 3, 4))
    assert first.data_hash == again.data_hash != other.data_hash
    torch.testing.assert_close(first.test.inputs, again.test.inputs, rtol=0, atol=0)
    assert not torch.equal(first.train.labels, first.test.labels)


def test_signal_has_the_stated_strength_and_frequency():
    splits = load_dataset(
        "synthetic", classes=2, features=512, audio_strength=300.0, visual_strength=200.0
    )
    for name, strength in (("audio", 300), ("visual", 200)):
        lengths = splits.train.inputs[name].norm(dim=-1)
        with_signal = lengths > strength / 2
        assert abs(with_signal.float().mean() - 0.5) < 0.02
        # Signal and noise are nearly at right angles: their squared lengths add.
        expected = (strength**2 + 512) ** 0.5
        assert abs(lengths[with_signal].mean() - expected) < 1
        assert abs(lengths[~with_signal].mean() - 512**0.5) < 1


def test_without_signal_it_is_standard_noise():
    splits = load_dataset("synthetic", signal_probability=0)
    values = splits.train.inputs["audio"]
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1) < 0.01


def test_splits_share_their_prototypes():
    splits = load_dataset("synthetic", signal_probability=1, audio_strength=20.0)

    def centres(split):
        values = split.inputs["audio"].mean(dim=1)
        return torch.stack([values[split.labels == label].mean(dim=0) for label in range(10)])

    similarity = torch.cosine_similarity(centres(splits.train), centres(splits.test), dim=1)
    assert similarity.min() > 0.99


@pytest.mark.parametrize(
    ("option", "value"), [("classes", 0), ("test_samples", -1), ("signal_probability", 1.5)]
)
def test_bad_option_is_named(option, value):
    with pytest.raises(ValueError, match=option):
        load_dataset("synthetic", **{option: value})
