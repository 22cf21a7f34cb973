"""Evaluations: noise in one modality, and whether attention notices."""

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr

from rollingq_core.data import PairedDataset
from rollingq_core.evaluation import (
    AttentionContrast,
    ConflictDataset,
    NoisyDataset,
    attention_contrast,
    calibration,
    conflict,
    robustness_areas,
    sensitivity,
    under_noise,
)
from rollingq_core.evaluation import noise as noise_module
from rollingq_core.models.predictions import Predictions, predict
from rollingq_core.training.loop import TrainingConfig, fit
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


def read(dataset, modality="audio"):
    return dataset.__getitems__(range(len(dataset)))[0][modality]


@pytest.mark.parametrize(
    ("mechanism", "level", "expected"),
    [
        ("add", 0.5, [1.5, 1.5]),
        ("add", 1, [2.0, 1.0]),
        ("mix", 0.5, [1.0, 0.5]),
        ("mix", 0.25, [1.0, 1.25]),
        ("replace", 0.31, [1.0, -1.0]),
        ("replace", 0.3, [1.0, 2.0]),
        ("zeros", 0.31, [0.0, 0.0]),
        ("zeros", 0.3, [1.0, 2.0]),
        ("offset", 0.31, [0.0, 0.0]),
        ("offset", 0.25, [1.25, 2.25]),
    ],
)
def test_noise_by_hand(mechanism, level, expected, monkeypatch):
    toy = PairedDataset({"audio": torch.tensor([[1.0, 2.0]])}, torch.tensor([0]))
    drawn = (torch.tensor([[1.0, -1.0]]), torch.tensor([0.3]))
    monkeypatch.setattr(noise_module, "_draw", lambda *a: drawn)
    assert read(NoisyDataset(toy, "audio", level, mechanism=mechanism)).tolist() == [expected]


def test_level_0_gives_the_same_bits_and_level_1_noise_alone(data):
    clean = data.test.inputs["audio"]
    for mechanism in get_args(noise_module.Mechanism):
        still = NoisyDataset(data.test, "audio", 0, mechanism=mechanism, seed=3)
        assert torch.equal(read(still), clean)
    noise = read(NoisyDataset(data.test, "audio", 1, seed=3))
    assert noise.shape == clean.shape
    # 9600 draws: five standard errors.
    assert abs(float(noise.mean())) < 0.05
    assert abs(float(noise.std()) - 1) < 0.04
    correlation = torch.corrcoef(torch.stack([noise.flatten(), clean.flatten()]))[0, 1]
    assert abs(float(correlation)) < 0.05
    neighbours = torch.corrcoef(torch.stack([noise[1:].flatten(), noise[:-1].flatten()]))[0, 1]
    assert abs(float(neighbours)) < 0.05
    silent = data.test.with_inputs(audio=torch.zeros_like(clean))
    assert torch.equal(read(NoisyDataset(silent, "audio", 1, seed=3)), noise)
    replaced = NoisyDataset(data.test, "audio", 1, mechanism="replace", seed=3)
    assert torch.equal(read(replaced), noise)


@given(levels, st.integers(0, 5), st.permutations(range(12)))
def test_noise_is_a_samples_own_whatever_the_level_and_order(level, seed, order):
    split = small_data().test
    clean, pure = split.inputs["audio"][order], read(NoisyDataset(split, "audio", 1, seed=seed))
    for mechanism, expected in {
        "mix": (1 - level) * clean + level * pure[order],
        "add": clean + level * pure[order],
    }.items():
        noisy = NoisyDataset(split, "audio", level, mechanism=mechanism, seed=seed)
        torch.testing.assert_close(noisy.__getitems__(order)[0]["audio"], expected)


def test_replaced_samples_are_noise_whole_and_stay_so_as_the_level_rises(data):
    clean = data.test.inputs["audio"]
    pure = read(NoisyDataset(data.test, "audio", 1, seed=5))
    before = torch.zeros(len(clean), dtype=torch.bool)
    for level in (0.25, 0.5, 0.75):
        found = read(NoisyDataset(data.test, "audio", level, mechanism="replace", seed=5))
        gone = (found == pure).flatten(1).all(1)
        assert torch.equal(found[~gone], clean[~gone])
        assert abs(float(gone.float().mean()) - level) < 5 * (level * (1 - level) / 300) ** 0.5
        assert (gone | ~before).all()
        before = gone


def test_only_those_modalities_change_and_the_dataset_stays_as_it_was(data):
    before = {name: values.clone() for name, values in data.test.inputs.items()}
    noisy = NoisyDataset(data.test, "audio", 0.7)
    assert len(noisy) == len(data.test)
    assert torch.equal(read(noisy, "visual"), before["visual"])
    assert torch.equal(noisy.__getitems__([4, 2])[1], data.test.labels[[4, 2]])
    assert not torch.equal(read(noisy), before["audio"])
    assert torch.equal(data.test.inputs["audio"], before["audio"])
    assert not torch.equal(read(noisy), read(NoisyDataset(data.test, "audio", 0.7, seed=1)))
    both = NoisyDataset(data.test, ["visual", "audio"], 0.7)
    assert torch.equal(read(both), read(noisy))
    silent = data.test.with_inputs(**{name: torch.zeros_like(x) for name, x in before.items()})
    pure = NoisyDataset(silent, ["audio", "visual"], 1)
    assert not torch.equal(read(pure, "visual"), read(pure))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("audio", -0.1), r"level: got -0.1, expected"),
        (("audio", 1.1), r"level: got 1.1, expected"),
        (("audio", float("nan")), r"level: got nan, expected"),
        (("text", 0), r"modalities: got 'text', expected some of \['audio', 'visual'\]"),
        ((["audio", "text"], 0.5), r"modalities: got \['audio', 'text'\], expected some of"),
        (([], 0.5), r"modalities: got \[\], expected some of"),
    ],
)
def test_what_is_wrong_is_named(data, arguments, message):
    with pytest.raises(ValueError, match=message):
        NoisyDataset(data.test, *arguments)
    with pytest.raises(ValueError, match=r"mechanism: got 'blur', expected one of \('mix'"):
        NoisyDataset(data.test, "audio", 0.5, mechanism="blur")
    with pytest.raises(ValueError, match="seed: got -1, expected"):
        NoisyDataset(data.test, "audio", 0.5, seed=-1)
    with pytest.raises(ValueError, match="modalities: got 'text'"):
        attention_contrast(small_model(), data.test, "text")


def test_accuracy_falls_as_noise_rises(trained, data):
    found, share, ece, _ = under_noise(trained, data.test, "audio", draws=2)
    assert ece[-1] > ece[0] + 0.05
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
    each = [predict(trained, NoisyDataset(data.test, "audio", 0.5, seed=s)) for s in (7, 8, 9)]
    assert len({one.accuracy for one in each}) > 1
    assert float(found.accuracy[0]) == pytest.approx(np.mean([one.accuracy for one in each]))
    assert found.share[0].tolist() == pytest.approx(
        np.mean([one.share.mean(0).tolist() for one in each], axis=0).tolist()
    )
    errors = [calibration(one.logits, one.labels).ece for one in each]
    assert float(found.ece[0]) == pytest.approx(np.mean(errors))
    # The bins of three draws together are those of all their answers.
    pooled = calibration(torch.cat([o.logits for o in each]), torch.cat([o.labels for o in each]))
    torch.testing.assert_close(found.reliability[0], pooled.reliability)


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
    return AttentionContrast(("audio", "visual")[index], ("audio", "visual"), *answers)


@pytest.mark.parametrize("index", [0, 1])
def test_correlation_by_hand(index):
    contrast = contrast_of([0.8, 0.7, 0.9], [0.5, 0.75, 0.4], index)
    torch.testing.assert_close(contrast.share[0], torch.tensor([0.8, 0.7, 0.9]))
    torch.testing.assert_close(contrast.share[1], torch.tensor([0.5, 0.75, 0.4]))
    assert contrast.pearson == pytest.approx(-0.724207, abs=1e-6)
    # The table's correlation is with the mass elsewhere, and of the opposite sign.
    found = sensitivity(*contrast.share)
    assert found.pearson == pytest.approx(-contrast.pearson, abs=1e-5)
    assert found.pearson == pytest.approx(0.724207, abs=1e-5)


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
    replaced = NoisyDataset(data.test, modality, 1, seed=4)
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


def test_sensitivity_of_the_toy_example():
    found = sensitivity(torch.tensor([0.8, 0.7, 0.9]), torch.tensor([0.5, 0.75, 0.4]))
    assert found.pearson == pytest.approx(0.724207, abs=1e-5)
    assert found.p_value == pytest.approx(0.103604, abs=1e-5)
    assert found.auroc == pytest.approx(8 / 9)
    assert found.low <= found.pearson <= found.high <= 1


def test_sensitivitys_interval_holds_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    held = 0
    for seed in range(60):
        kind = generator.normal(size=(40, 1))  # a sample and its twin are alike
        normal, noisy = (kind + generator.normal(size=(40, 2)) + [0, -1]).T
        pair = (torch.from_numpy(normal), torch.from_numpy(noisy))
        found = sensitivity(*pair, resamples=199, seed=seed)
        truth = 0.5 / (2 + 0.25) ** 0.5
        held += found.low <= truth <= found.high
    assert 51 <= held <= 60


def test_attention_that_cannot_move_detects_nothing():
    found = sensitivity(torch.full((2,), 0.5), torch.full((2,), 0.5))
    assert found == (0.0, 1.0, 0.0, 0.0, 0.5)
    with pytest.raises(ValueError, match="resamples: got 0"):
        sensitivity(torch.zeros(2), torch.ones(2), resamples=0)
    with pytest.raises(ValueError, match=r"noisy: got shape \[3\] with normal \[2\]"):
        sensitivity(torch.zeros(2), torch.ones(3))


@given(st.lists(st.integers(0, 3), min_size=2, max_size=30), st.integers(0, 9))
def test_conflicting_pairs_are_of_other_classes(labels, seed):
    labels = torch.tensor(labels)
    inputs = {"audio": torch.arange(len(labels))[:, None], "visual": labels[:, None]}
    dataset = PairedDataset(inputs, labels)
    if len(set(labels.tolist())) == 1:
        with pytest.raises(ValueError, match="expected two or more classes"):
            ConflictDataset(dataset, "audio", seed)
        return
    swapped = ConflictDataset(dataset, "audio", seed)
    assert (swapped.swapped_labels != labels).all()
    found, kept = swapped.__getitems__(range(len(labels)))
    assert torch.equal(found["audio"][:, 0].long(), swapped.partners)
    assert torch.equal(found["visual"], dataset.inputs["visual"])
    assert torch.equal(kept, labels)
    assert torch.equal(labels[swapped.partners], swapped.swapped_labels)


def test_each_sample_of_another_class_can_be_the_partner():
    dataset = PairedDataset({"audio": torch.zeros(6, 1)}, torch.tensor([2, 0, 1, 0, 2, 1]))
    met = {i: set() for i in range(6)}
    for seed in range(200):
        for i, partner in enumerate(ConflictDataset(dataset, "audio", seed).partners.tolist()):
            met[i].add(partner)
    labels = dataset.labels.tolist()
    assert met == {i: {j for j in range(6) if labels[j] != labels[i]} for i in range(6)}


def test_conflict_is_told_by_answers_and_attention(trained, data):
    found = conflict(trained, data.test)
    # The sound's signal is three times as strong.
    assert found.follows["audio"] > 0.6 > 0.3 > found.follows["visual"]
    assert sum(found.follows.values()) + found.neither == pytest.approx(1)
    swapped = ConflictDataset(data.test, "audio")
    answers = predict(trained, swapped).logits.argmax(1)
    assert found.follows["audio"] == pytest.approx(
        float((answers == swapped.swapped_labels).float().mean())
    )
    assert found.auroc > 0.5
    assert found.share[0] > found.share[1]
    with pytest.raises(ValueError, match="modality: got 'text', expected one of"):
        conflict(trained, data.test, "text")


def test_calibration_by_hand():
    # Confidences .9, .9, .6, of which the second is wrong.
    probabilities = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4]])
    found = calibration(probabilities.log(), torch.tensor([0, 0, 0]), bins=2)
    assert found.ece == pytest.approx(abs(2 / 3 - 0.8))
    assert found.reliability[0].tolist() == [0, 0, 0]
    assert found.reliability[1].tolist() == pytest.approx([1, 0.8, 2 / 3])


@given(st.integers(1, 20), st.integers(0, 100))
def test_calibration_error_is_the_gap_of_its_bins(bins, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(50, 4, generator=generator)
    labels = torch.randint(4, (50,), generator=generator)
    ece, reliability = calibration(logits, labels, bins)
    part, confidence, right = reliability.T
    assert float(part.sum()) == pytest.approx(1)
    assert ece == pytest.approx(float((part * (confidence - right).abs()).sum()), abs=1e-6)


def test_calibration_names_what_is_wrong():
    with pytest.raises(ValueError, match="bins: got 0"):
        calibration(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), bins=0)
    with pytest.raises(ValueError, match=r"labels: got shape \[3\] with logits \[2, 3\]"):
        calibration(torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64))


def test_areas_under_accuracy():
    areas = robustness_areas([0, 0.5, 1], [0.9, 0.7, 0.3], [0.8, 0.5, 0.2])
    assert areas["relative"] == pytest.approx(0.25 * (0.9 + 2 * 0.7 + 0.3))
    # The baseline, lifted by .1 to start at .9, is at .6 and .3.
    assert areas["effective"] == pytest.approx(0.25 * (0 + 2 * 0.1 + 0))
    with pytest.raises(ValueError, match="expected two or more rising levels"):
        robustness_areas([0, 0], [1, 1], [1, 1])
