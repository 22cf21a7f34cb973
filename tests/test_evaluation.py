"""Evaluations: noise in one modality, and whether attention notices."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr

from rollingq_core.data import PairedDataset
from rollingq_core.evaluation import (
    AttentionContrast,
    attention_contrast,
    mix_noise,
    replace_with_noise,
    under_noise,
)
from rollingq_core.evaluation import noise as noise_module
from rollingq_core.model import Predictions, predict
from rollingq_core.training import TrainingConfig, fit
from tests.small import small_data, small_model

levels = st.floats(0, 1)


@pytest.fixture(scope="module")
def data():
    return small_data(train_samples=300, test_samples=300, audio_strength=6.0)


@pytest.fixture(scope="module")
def trained(data):
    model = small_model()
    fit(model, data, TrainingConfig(epochs=6, batch_size=32, lr=0.02))
    return model


def test_mixture_by_hand(monkeypatch):
    toy = PairedDataset({"audio": torch.tensor([[1.0, 2.0]])}, torch.tensor([0]))
    monkeypatch.setattr(noise_module.torch, "randn", lambda *a, **k: torch.tensor([[1.0, -1.0]]))
    assert mix_noise(toy, "audio", 0.5, 0).inputs["audio"].tolist() == [[1.0, 0.5]]
    assert mix_noise(toy, "audio", 0.25, 0).inputs["audio"].tolist() == [[1.0, 1.25]]


def test_level_0_gives_the_same_bits_and_level_1_noise_alone(data):
    clean = data.test.inputs["audio"]
    assert torch.equal(mix_noise(data.test, "audio", 0, 3).inputs["audio"], clean)
    noise = mix_noise(data.test, "audio", 1, 3).inputs["audio"]
    assert noise.shape == clean.shape
    # 9600 draws: five standard errors.
    assert abs(float(noise.mean())) < 0.05
    assert abs(float(noise.std()) - 1) < 0.04
    correlation = torch.corrcoef(torch.stack([noise.flatten(), clean.flatten()]))[0, 1]
    assert abs(float(correlation)) < 0.05
    silent = data.test.with_inputs(audio=torch.zeros_like(clean))
    assert torch.equal(replace_with_noise(silent, "audio", 3).inputs["audio"], noise)


@given(levels, st.integers(0, 5))
def test_noise_of_a_seed_is_the_same_at_each_level(level, seed):
    split = small_data().test
    clean, pure = split.inputs["audio"], mix_noise(split, "audio", 1, seed).inputs["audio"]
    mixed = mix_noise(split, "audio", level, seed).inputs["audio"]
    torch.testing.assert_close(mixed, (1 - level) * clean + level * pure)


def test_only_that_modality_changes_and_the_dataset_stays_as_it_was(data):
    before = {name: values.clone() for name, values in data.test.inputs.items()}
    noisy = mix_noise(data.test, "audio", 0.7, 0)
    assert torch.equal(noisy.inputs["visual"], before["visual"])
    assert torch.equal(noisy.labels, data.test.labels)
    assert not torch.equal(noisy.inputs["audio"], before["audio"])
    assert torch.equal(data.test.inputs["audio"], before["audio"])
    other = mix_noise(data.test, "audio", 0.7, 1)
    assert not torch.equal(noisy.inputs["audio"], other.inputs["audio"])


@pytest.mark.parametrize("level", [-0.1, 1.1, float("nan")])
def test_wrong_level_is_named(data, level):
    with pytest.raises(ValueError, match=r"level: got .*, expected"):
        mix_noise(data.test, "audio", level, 0)


@pytest.mark.parametrize("level", [0, 0.5])
def test_wrong_modality_is_named(data, level):
    message = r"modality: got 'text', expected one of \['audio', 'visual'\]"
    with pytest.raises(ValueError, match=message):
        mix_noise(data.test, "text", level, 0)
    with pytest.raises(ValueError, match=message):
        attention_contrast(small_model(), data.test, "text")


def test_accuracy_falls_as_noise_rises(trained, data):
    found, share = under_noise(trained, data.test, "audio", draws=2)
    clean = predict(trained, data.test)
    assert found.shape == (5,)
    assert float(found[0]) == pytest.approx(clean.accuracy)
    assert share[0].tolist() == pytest.approx(clean.share.mean(0).tolist())
    assert share[-1, 0] < share[0, 0] - 0.05
    assert found[0] > 0.9
    assert found[-1] < 0.7
    assert (found.diff() <= 0.01).all()


def test_accuracy_and_share_are_means_over_draws(trained, data):
    found = under_noise(trained, data.test, "audio", [0.5], draws=3, seed=7)
    each = [predict(trained, mix_noise(data.test, "audio", 0.5, s)) for s in (7, 8, 9)]
    assert len({one.accuracy for one in each}) > 1
    assert float(found.accuracy[0]) == pytest.approx(np.mean([one.accuracy for one in each]))
    assert found.share[0].tolist() == pytest.approx(
        np.mean([one.share.mean(0).tolist() for one in each], axis=0).tolist()
    )


def test_no_draws_are_refused(trained, data):
    with pytest.raises(ValueError, match="draws: got 0"):
        under_noise(trained, data.test, "audio", draws=0)


def contrast_of(normal, noisy, index=0):
    """A contrast with these shares of the modality at ``index``; all else is empty."""
    answers = []
    for share in (normal, noisy):
        share = torch.as_tensor(share, dtype=torch.float32)
        both = torch.stack([share, 1 - share] if index == 0 else [1 - share, share], dim=1)
        nothing = torch.zeros(len(share), 2)
        labels = torch.zeros(len(share), dtype=torch.int64)
        answers.append(Predictions(nothing, labels, both, nothing, nothing, torch.zeros(8), {}))
    return AttentionContrast(("audio", "visual")[index], index, *answers)


@pytest.mark.parametrize("index", [0, 1])
def test_correlation_by_hand(index):
    contrast = contrast_of([0.8, 0.7, 0.9], [0.5, 0.75, 0.4], index)
    torch.testing.assert_close(contrast.share[0], torch.tensor([0.8, 0.7, 0.9]))
    torch.testing.assert_close(contrast.share[1], torch.tensor([0.5, 0.75, 0.4]))
    assert contrast.pearson == pytest.approx(-0.724207, abs=1e-6)


@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)), min_size=2, max_size=9))
def test_correlation_equals_scipys(pairs):
    share = np.float32(pairs)
    expected = 0.0
    if np.ptp(share) >= 1e-3:
        noise = [0] * len(pairs) + [1] * len(pairs)
        expected = pearsonr(share.T.flatten().astype(float), noise).statistic
    elif np.ptp(share) >= 1e-6:
        return  # a share so nearly constant has a correlation of rounding errors only
    assert contrast_of(share[:, 0], share[:, 1]).pearson == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("modality", "index"), [("audio", 0), ("visual", 1)])
def test_contrast_runs_the_model_on_normal_and_replaced_samples(trained, data, modality, index):
    contrast = attention_contrast(trained, data.test, modality, seed=4)
    normal, noisy = contrast.share
    replaced = replace_with_noise(data.test, modality, 4)
    torch.testing.assert_close(normal, predict(trained, data.test).share[:, index])
    torch.testing.assert_close(noisy, predict(trained, replaced).share[:, index])
    assert (contrast.modality, contrast.index) == (modality, index)


def test_trained_attention_leaves_a_modality_that_becomes_noise(trained, data):
    assert attention_contrast(trained, data.test, "audio").pearson < -0.2


def test_uniform_attention_notices_nothing():
    data = small_data()
    short = data.test.with_inputs(visual=data.test.inputs["visual"][:, :3])
    model = small_model(mode="uniform")
    model.encoders["visual"] = torch.nn.Linear(8, 8)
    contrast = attention_contrast(model, short, "audio")
    for share in contrast.share:
        torch.testing.assert_close(share, torch.full((60,), 4 / 7))
    assert contrast.pearson == 0
