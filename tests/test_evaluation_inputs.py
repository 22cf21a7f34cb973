"""What the evaluations take and refuse: levels, labels, half precision, padding, and defaults."""

import inspect
import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from rollingq_core import AttentionFusion
from rollingq_core.data import PairedDataset
from rollingq_core.evaluation import (
    EVALUATIONS,
    LEVELS,
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
from rollingq_core.fusion.concat import ConcatFusion
from rollingq_core.models.encoders import TokenMLP
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.models.predictions import Predictions, predict
from tests.small import small_data, small_model

CONFIDENCES = [round(0.1 * k, 1) for k in range(1, 11)]


@pytest.fixture(scope="module")
def data():
    return small_data()


def logits_of(confidences, dtype=torch.float64, classes=11):
    """Logits whose largest probability, that of class 0, is the confidence."""
    top = torch.tensor(confidences, dtype=torch.float64)[:, None]
    rest = ((1 - top) / (classes - 1)).expand(-1, classes - 1)
    return torch.cat([top, rest], dim=1).to(dtype).log()


def answers_of(logits, labels, share=None):
    nothing = torch.zeros(len(logits), 2)
    share = torch.full((len(logits), 2), 0.5) if share is None else share
    return Predictions(logits, labels, share, nothing, nothing, torch.zeros(8), {})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bins", [5, 10, 20])
def test_a_confidence_on_an_edge_is_in_the_bin_below_it_in_diagram_and_error(dtype, bins):
    for confidence in CONFIDENCES:
        labels = torch.tensor([0, 1, 0])
        ece, reliability = calibration(logits_of([confidence] * 3, dtype), labels, bins)
        filled = reliability[:, 0].nonzero().flatten().tolist()
        assert filled == [math.ceil(round(confidence * bins, 6)) - 1], confidence
        assert reliability[filled[0]].tolist() == pytest.approx([1, confidence, 2 / 3])
        assert ece == pytest.approx(abs(confidence - 2 / 3))
    # All at once: an error that binned in another way would mix neighbours.
    right = torch.tensor([0, 1] * 5)
    ece, reliability = calibration(logits_of(CONFIDENCES, dtype), right, bins)
    part, confidence, accuracy = reliability.T
    assert ece == pytest.approx(float((part * (confidence - accuracy).abs()).sum()), abs=1e-12)


@given(
    st.integers(1, 25),
    st.lists(st.tuples(st.sampled_from(CONFIDENCES), st.booleans()), min_size=1, max_size=40),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_error_is_the_sum_over_the_diagrams_bins_even_on_edges(bins, answers, dtype):
    confidences, right = zip(*answers, strict=True)
    labels = torch.tensor([0 if one else 1 for one in right])
    ece, reliability = calibration(logits_of(confidences, dtype), labels, bins)
    part, confidence, accuracy = reliability.T
    assert ece == pytest.approx(float((part * (confidence - accuracy).abs()).sum()), abs=1e-12)
    assert float(part.sum()) == pytest.approx(1)
    assert float((part * accuracy).sum()) == pytest.approx(np.mean(right))
    assert float((part * confidence).sum()) == pytest.approx(np.mean(confidences), abs=1e-6)
    for low, mean, high in zip(range(bins), confidence.tolist(), range(1, bins + 1), strict=True):
        assert mean == 0 or low / bins - 1e-7 <= mean <= high / bins + 1e-7


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_number_have_no_calibration_error(bad, data, monkeypatch):
    logits = torch.zeros(5, 3)
    logits[1, 2] = logits[4, 0] = bad
    with pytest.raises(ValueError, match=r"logits: got 2 rows of 5 with NaN or infinity, expected"):
        calibration(logits, torch.zeros(5, dtype=torch.int64))
    broken = small_model()
    with torch.no_grad():
        broken.fusion.head.bias[1] = bad
    for evaluation in (under_noise, conflict):
        with pytest.raises(ValueError, match="logits: got 60 rows of 60 with NaN or infinity"):
            evaluation(broken, data.test, "audio")


def test_a_logit_of_minus_infinity_is_a_probability_of_0():
    sure = calibration(torch.tensor([[0.0, -math.inf]] * 2), torch.tensor([0, 1]), bins=4)
    assert sure.ece == 0.5
    assert sure.reliability.tolist()[-1] == [1, 1, 0.5]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_before_anything_is_computed(dtype):
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(400, 6, generator=generator)).to(dtype)
    labels = torch.randint(6, (400,), generator=generator)
    found, wide = calibration(logits, labels), calibration(logits.double(), labels)
    assert found.ece == wide.ece
    assert torch.equal(found.reliability, wide.reliability)
    normal, noisy = torch.rand(2, 400, generator=generator).to(dtype)
    assert sensitivity(normal, noisy, 50) == sensitivity(normal.double(), noisy.double(), 50)
    pair = [
        answers_of(logits, labels, torch.stack([share, 1 - share], dim=1))
        for share in (normal, noisy)
    ]
    contrast = AttentionContrast("audio", ("audio", "visual"), *pair)
    expected = AttentionContrast(
        *contrast[:2], *(answers._replace(share=answers.share.float()) for answers in pair)
    )
    assert contrast.pearson == expected.pearson != 0


def test_a_model_under_autocast_is_judged_in_single_precision(data):
    model = small_model()
    with torch.autocast("cpu", torch.bfloat16):
        half = predict(model, data.test)
        response = under_noise(model, data.test, "audio", [0, 1], draws=1)
        report = conflict(model, data.test)
    for one in (half.logits, half.share, half.cosines, half.key_norms):
        assert one.dtype == torch.float32
    assert response.accuracy[0] == pytest.approx(half.accuracy)
    whole = predict(model, data.test)
    torch.testing.assert_close(half.logits, whole.logits, atol=0.05, rtol=0.05)
    assert sum(report.follows.values()) + report.neither == pytest.approx(1)


LABELS = torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 2, 3]), r"labels: got classes 0 to 3, expected 0 to 2"),
        (torch.tensor([1, 2, 3, 1]), r"labels: got classes 1 to 3, expected 0 to 2"),
        (torch.tensor([0, -1, 2, 1]), r"labels: got classes -1 to 2, expected 0 or more"),
        (torch.tensor([0, -100, 2, 1]), r"labels: got classes -100 to 2, expected 0 or more"),
        (torch.tensor([0.0, 1.0, 2.0, 1.0]), r"labels: got dtype torch.float32, expected integers"),
        (torch.tensor([True, False, True, True]), r"labels: got dtype torch.bool, expected"),
        ("abca", r"labels: got str, expected integers \[N\]"),
        (torch.zeros(4, 1, dtype=torch.int64), r"labels: got shape \[4, 1\], expected"),
        (torch.zeros(3, dtype=torch.int64), r"labels: got shape \[3\] with logits \[4, 3\]"),
        (torch.zeros(0, dtype=torch.int64), r"labels: got shape \[0\] with logits \[4, 3\]"),
    ],
)
def test_labels_that_are_no_class_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        calibration(torch.zeros(4, 3), labels)


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (torch.zeros(4), r"logits: got shape \[4\], expected \[N, C\], not empty"),
        (torch.zeros(4, 0), r"logits: got shape \[4, 0\], expected \[N, C\], not empty"),
        (torch.zeros(4, 3, dtype=torch.int64), r"logits: got dtype torch.int64, expected a float"),
        (np.zeros((4, 3)), r"logits: got ndarray, expected a float tensor"),
    ],
)
def test_logits_that_are_none_are_refused(logits, message):
    with pytest.raises(ValueError, match=message):
        calibration(logits, LABELS)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int32, torch.int64])
def test_labels_of_any_integer_type_are_taken(kind):
    logits = torch.eye(3)
    assert (
        calibration(logits, torch.arange(3).to(kind))[0] == calibration(logits, torch.arange(3)).ece
    )


def test_labels_of_a_model_with_fewer_classes_are_refused(data):
    few = small_data(classes=3)
    labels = few.test.labels + 2
    dataset = PairedDataset(few.test.inputs, labels)
    for evaluation in (under_noise, conflict):
        with pytest.raises(ValueError, match="labels: got classes 2 to 4, expected 0 to 3"):
            evaluation(small_model(), dataset, "audio")
    dataset.labels = labels - 3  # a dataset of one's own may hold anything
    with pytest.raises(ValueError, match=r"labels: got classes -1 to 1, expected 0 or more"):
        ConflictDataset(dataset, "audio")
    dataset.labels = labels.double()
    with pytest.raises(ValueError, match=r"labels: got dtype torch.float64, expected integers"):
        ConflictDataset(dataset, "audio")


@pytest.mark.parametrize("value", [2.7, 1.0, 0, -1, math.nan, "3", None])
def test_counts_are_whole_numbers(value, data):
    share = torch.rand(4)
    with pytest.raises(ValueError, match=r"bins: got .*, expected"):
        calibration(torch.zeros(4, 3), LABELS, bins=value)
    with pytest.raises(ValueError, match=r"resamples: got .*, expected"):
        sensitivity(share, share.flip(0), resamples=value)
    with pytest.raises(ValueError, match=r"draws: got .*, expected"):
        under_noise(small_model(), data.test, "audio", draws=value)


@pytest.mark.parametrize("value", [0.5, -1, math.nan, "3", None])
def test_seeds_are_whole_numbers(value, data):
    model, share = small_model(), torch.rand(4)
    for call in (
        lambda: NoisyDataset(data.test, "audio", 0.5, seed=value),
        lambda: ConflictDataset(data.test, "audio", seed=value),
        lambda: under_noise(model, data.test, "audio", seed=value),
        lambda: conflict(model, data.test, seed=value),
        lambda: attention_contrast(model, data.test, "audio", seed=value),
        lambda: sensitivity(share, share.flip(0), seed=value),
    ):
        with pytest.raises(ValueError, match=r"seed: got .*, expected"):
            call()


@pytest.mark.parametrize("level", ["0.5", "", None, -0.1, 1.1, math.nan, math.inf, True, [0.5]])
def test_a_level_that_is_no_fraction_is_refused(level, data):
    with pytest.raises(ValueError, match=r"level: got .*, expected a number in \[0, 1\]"):
        NoisyDataset(data.test, "audio", level)
    with pytest.raises(ValueError, match=r"levels\[1\]: got .*, expected a number in \[0, 1\]"):
        under_noise(small_model(), data.test, "audio", [0, level])
    with pytest.raises(ValueError, match=r"levels\[0\]: got .*, expected a number in \[0, 1\]"):
        robustness_areas([level, 1], [0.5, 0.5], [0.5, 0.5])


@pytest.mark.parametrize(
    "levels", [[], (), [1, 0], [0, 0.5, 0.5], [0, 1, 0.5], "0", "0.25", 0.5, None, {0: 1}]
)
def test_levels_that_do_not_rise_are_refused(levels, data):
    with pytest.raises(ValueError, match=r"levels: got .*, expected one or more rising levels in"):
        under_noise(small_model(), data.test, "audio", levels)
    with pytest.raises(ValueError, match=r"levels: got .*, expected two or more rising levels in"):
        robustness_areas(levels, [0.5] * 3, [0.5] * 3)


@pytest.mark.parametrize("kind", [tuple, np.array, torch.tensor, np.float32])
def test_levels_may_be_a_list_an_array_or_a_tensor(kind, data):
    model = small_model()
    found = under_noise(model, data.test, "audio", kind([0.0, 0.5]), draws=1)
    assert torch.equal(
        found.accuracy, under_noise(model, data.test, "audio", [0.0, 0.5], draws=1).accuracy
    )


@pytest.mark.parametrize("value", [math.nan, -0.1, 1.1, "0.5"])
def test_areas_are_of_accuracies(value):
    with pytest.raises(ValueError, match=r"accuracy\[1\]: got .*, expected a number in \[0, 1\]"):
        robustness_areas([0, 1], [0.5, value], [0.5, 0.5])
    with pytest.raises(ValueError, match=r"baseline\[0\]: got .*, expected a number in \[0, 1\]"):
        robustness_areas([0, 1], [0.5, 0.5], [value, 0.5])
    with pytest.raises(ValueError, match="accuracy: got 3 and for the baseline 2, expected 2 each"):
        robustness_areas([0, 1], [0.5, 0.5, 0.5], [0.5, 0.5])


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (torch.tensor([0.1, math.nan, 0.3]), "normal: got 1 non-finite values"),
        (torch.tensor([1, 2, 3]), "normal: got dtype torch.int64"),
        (np.array([0.1, 0.2, 0.3]), "normal: got ndarray"),
        (torch.zeros(3, 1), r"normal: got shape \[3, 1\]"),
    ],
)
def test_shares_that_are_none_are_refused(share, message):
    with pytest.raises(ValueError, match=message):
        sensitivity(share, torch.rand(3))


def test_one_sample_alone_tells_nothing():
    with pytest.raises(ValueError, match=r"noisy: got shape \[1\] .*, expected \[N\] each, N at"):
        sensitivity(torch.rand(1), torch.rand(1))


def test_a_draw_of_equal_shares_counts_as_no_correlation():
    # Of three samples, one draw in nine takes the same one each time.
    normal, noisy = torch.tensor([0.5, 0.5, 0.9]), torch.tensor([0.5, 0.5, 0.5])
    found = sensitivity(normal, noisy, resamples=99)
    assert -1 <= found.low <= 0 <= found.pearson <= found.high <= 1


def test_an_empty_dataset_is_refused(data):
    nothing = PairedDataset({"audio": torch.zeros(0, 4, 8)}, torch.zeros(0, dtype=torch.int64))
    for call in (
        lambda: NoisyDataset(nothing, "audio", 0.5),
        lambda: ConflictDataset(nothing, "audio"),
        lambda: under_noise(small_model(), nothing, "audio"),
    ):
        with pytest.raises(ValueError, match="dataset: got no sample, expected one or more"):
            call()


class Padded(Dataset):
    """Samples with a padding mask beside each modality, as a batch carries it."""

    def __init__(self, split, padding):
        self.split, self.padding, self.labels = split, padding, split.labels

    def __len__(self):
        return len(self.split)

    def __getitems__(self, indices):
        inputs, labels = self.split.__getitems__(indices)
        found = {}
        for name, values in inputs.items():
            found[name] = values
            if name in self.padding:
                found[f"{name}_padding"] = self.padding[name][torch.as_tensor(indices)]
        return found, labels


@pytest.fixture(scope="module")
def padded(data):
    mask = torch.zeros(60, 4, dtype=torch.bool)
    mask[::2, 3] = True
    mask[::5, 1:] = True
    mask[7] = True  # a sample without this modality
    return Padded(data.test, {"audio": mask, "visual": mask.roll(1, 0)})


@pytest.mark.parametrize("mechanism", ["mix", "add", "replace", "zeros", "offset"])
@pytest.mark.parametrize("level", [0, 0.5, 1])
def test_noise_leaves_masks_and_padded_tokens_as_they_are(padded, data, mechanism, level):
    order = [7, 5, 0, 3, 12]
    clean, labels = padded.__getitems__(order)
    options = {"mechanism": mechanism, "seed": 2}
    found, kept = NoisyDataset(padded, ["visual", "audio"], level, **options).__getitems__(order)
    plain, _ = NoisyDataset(data.test, ["audio", "visual"], level, **options).__getitems__(order)
    assert list(found) == ["audio", "audio_padding", "visual", "visual_padding"]
    assert torch.equal(kept, labels)
    for name in ("audio", "visual"):
        mask = clean[f"{name}_padding"]
        assert torch.equal(found[f"{name}_padding"], mask)
        assert torch.equal(found[name][mask], clean[name][mask])
        # A mask between the modalities changes no other noise.
        assert torch.equal(found[name][~mask], plain[name][~mask])


def test_a_mask_of_other_tokens_than_the_inputs_axis_leaves_the_noise_alone(data):
    # A grid becomes tokens only in the encoder, so that its second axis is not theirs.
    padded = Padded(data.test, {"audio": torch.ones(60, 9, dtype=torch.bool)})
    found = NoisyDataset(padded, "audio", 1).__getitems__(range(60))[0]
    assert torch.equal(
        found["audio"], NoisyDataset(data.test, "audio", 1).__getitems__(range(60))[0]["audio"]
    )
    assert found["audio_padding"].all()


def test_a_mask_is_no_modality(padded):
    for call in (
        lambda: NoisyDataset(padded, "audio_padding", 0.5),
        lambda: ConflictDataset(padded, "audio_padding"),
    ):
        with pytest.raises(ValueError, match=r"got 'audio_padding', expected .* \['audio', 'visu"):
            call()


def test_a_swapped_modality_brings_its_padding(padded):
    swapped = ConflictDataset(padded, "audio")
    found, labels = swapped.__getitems__(range(len(swapped)))
    mask = padded.padding["audio"]
    # Where a sample lacks the modality, or has no other, nothing disagrees.
    lacking = torch.stack([padding.all(dim=1) for padding in padded.padding.values()]).any(dim=0)
    assert torch.equal(swapped.kept, (~lacking).nonzero().squeeze(1))
    assert lacking.sum() > 0
    assert not lacking[swapped.partners].any()
    assert torch.equal(labels, padded.labels[swapped.kept])
    assert torch.equal(found["audio_padding"], mask[swapped.partners])
    assert torch.equal(found["audio"], padded.split.inputs["audio"][swapped.partners])
    assert torch.equal(found["visual_padding"], padded.padding["visual"][swapped.kept])


@pytest.mark.parametrize("level", [0, 0.25, 1])
def test_each_level_has_its_number_of_draws(level, data, monkeypatch):
    asked = []

    def counting(model, dataset):
        asked.append((dataset.level, dataset.seed, dataset.mechanism))
        return predict(model, dataset)

    monkeypatch.setattr(noise_module, "predict", counting)
    under_noise(small_model(), data.test, "audio", [level], mechanism="add", draws=4, seed=3)
    # Without noise all draws are one.
    seeds = [3] if level == 0 else [3, 4, 5, 6]
    assert asked == [(level, seed, "add") for seed in seeds]


def told(monkeypatch, data, answers):
    """What ``conflict`` tells of a model that gives these answers, by the swapped dataset."""
    swapped = ConflictDataset(data.test, "audio")
    share = torch.linspace(0.1, 0.9, len(swapped))
    logits = torch.nn.functional.one_hot(answers(swapped), 4).float()
    given = answers_of(logits, swapped.labels, torch.stack([share, 1 - share], dim=1))
    module = sys.modules[ConflictDataset.__module__]
    monkeypatch.setattr(module, "predict", lambda model, dataset: given)
    return conflict(small_model(), data.test), share


def test_a_model_that_always_follows_sound_has_no_other_group(data, monkeypatch):
    found, share = told(monkeypatch, data, lambda swapped: swapped.swapped_labels)
    assert found.follows == {"audio": 1, "visual": 0}
    assert found.neither == 0
    assert found.share == (pytest.approx(float(share.mean())), None)
    assert found.auroc is None


def test_a_model_that_always_follows_the_picture_has_no_other_group(data, monkeypatch):
    found, share = told(monkeypatch, data, lambda swapped: swapped.labels)
    assert found.follows == {"audio": 0, "visual": 1}
    assert found.neither == 0
    assert found.share == (None, pytest.approx(float(share.mean())))
    assert found.auroc is None


def test_a_model_that_follows_neither_has_no_group(data, monkeypatch):
    def elsewhere(swapped):
        taken = torch.stack([swapped.labels, swapped.swapped_labels])
        return next_free(taken)

    found, _ = told(monkeypatch, data, elsewhere)
    assert found == ({"audio": 0, "visual": 0}, 1, (None, None), None)


def next_free(taken):
    """For each column, a class that is not in it."""
    return torch.tensor([min(set(range(4)) - set(column)) for column in taken.T.tolist()])


def test_attention_that_tells_whom_the_model_follows_has_an_auroc_of_1(data, monkeypatch):
    def late(swapped):  # the share rises with the index, and the last third follows sound
        place = torch.arange(len(swapped))
        taken = torch.stack([swapped.labels, swapped.swapped_labels])
        answers = torch.where(place >= 40, swapped.swapped_labels, swapped.labels)
        return torch.where(place < 10, next_free(taken), answers)

    found, share = told(monkeypatch, data, late)
    assert found.follows == pytest.approx({"audio": 20 / 60, "visual": 30 / 60})
    assert found.neither == pytest.approx(10 / 60)
    assert found.share == pytest.approx((float(share[40:].mean()), float(share[10:40].mean())))
    assert found.auroc == 1


def test_conflict_needs_two_modalities(data):
    model = small_model()
    del model.encoders["visual"]
    with pytest.raises(
        ValueError, match=r"model: got modalities \['audio'\], expected two or more"
    ):
        conflict(model, data.test)
    with pytest.raises(ValueError, match=r"model: got modalities \['audio'\], expected at least 2"):
        EVALUATIONS["conflict"](model, data.test, "audio")


def test_of_three_modalities_those_that_stay_are_followed_together(data):
    inputs = data.test.inputs
    three = PairedDataset(inputs | {"text": inputs["audio"].flip(1)}, data.test.labels)
    torch.manual_seed(0)
    encoders = {name: TokenMLP(8, 4, dim=8, hidden=16) for name in ("audio", "visual", "text")}
    model = MultimodalModel(encoders, AttentionFusion(8, 4, cls_std=1.0), 4)
    for name in encoders:
        found = conflict(model, three, name)
        swapped = ConflictDataset(three, name)
        answers = predict(model, swapped)
        chosen = answers.logits.argmax(1)
        with_it = chosen == swapped.swapped_labels
        others = [other for other in encoders if other != name]
        assert list(found.follows) == list(encoders)
        assert found.follows[name] == pytest.approx(float(with_it.float().mean()))
        assert {found.follows[other] for other in others} == {answers.accuracy}
        total = found.follows[name] + answers.accuracy + found.neither
        assert total == pytest.approx(1)
        share = answers.share[:, list(encoders).index(name)]
        assert found.share[0] == pytest.approx(float(share[with_it].mean()))


def static_model():
    torch.manual_seed(0)
    encoders = {name: TokenMLP(8, 4, dim=8, hidden=16) for name in ("audio", "visual")}
    return MultimodalModel(encoders, ConcatFusion(8, 4), 4)


def test_a_static_fusion_has_no_attention_to_tell_of(data):
    model = static_model()
    for call in (conflict, attention_contrast):
        with pytest.raises(
            ValueError, match="model: got ConcatFusion, expected a fusion with attention"
        ):
            call(model, data.test, "audio")
    for test in EVALUATIONS.values():
        if not test.needs_attention:
            assert test(model, data.test, "audio")
            continue
        with pytest.raises(
            ValueError, match="model: got ConcatFusion, expected a fusion with attention"
        ):
            test(model, data.test, "audio")


def test_a_static_fusion_is_tested_under_noise_as_any_other(data):
    model = static_model()
    found = under_noise(model, data.test, "audio", draws=2)
    clean = predict(model, data.test)
    assert found.share is clean.share is None
    assert float(found.accuracy[0]) == pytest.approx(clean.accuracy)
    noisy = [predict(model, NoisyDataset(data.test, "audio", 1, seed=s)) for s in (0, 1)]
    assert float(found.accuracy[-1]) == pytest.approx(np.mean([one.accuracy for one in noisy]))
    assert float(found.ece[0]) == pytest.approx(calibration(clean.logits, clean.labels).ece)


def test_each_evaluation_is_told_by_name(data):
    model, test = small_model(), data.test
    found = {name: one(model, test, "visual", 5) for name, one in EVALUATIONS.items()}
    others = ["masks", "quag", "ood", "cost"]
    assert list(found) == ["noise", "correlation", "conflict", *others, "calibration"]
    mixed = under_noise(model, test, "visual", seed=5)
    assert found["noise"]["mix visual"] == mixed.accuracy.tolist()
    targets = [f"{kind} {who}" for kind in ("mix", "add", "replace", "zeros", "offset")
               for who in ("audio", "visual", "both")]  # fmt: skip
    assert list(found["noise"]) == targets
    assert found["calibration"]["ece"] == mixed.ece.tolist()
    contrast = attention_contrast(model, test, "visual", seed=5)
    correlation = found["correlation"]
    assert correlation["pearson"] == sensitivity(*contrast.share).pearson
    assert correlation["share_noisy"] == float(contrast.share[1].mean())
    assert found["conflict"] == conflict(model, test, "visual", seed=5)._asdict()
    # What is shown by noise level has a number for each.
    for name, one in EVALUATIONS.items():
        by_level = [key for key in found[name] if one.by_level and key.startswith(one.by_level)]
        assert bool(by_level) == bool(one.by_level)
        assert all(len(found[name][key]) == len(LEVELS) for key in by_level)


def defaults(call):
    empty = inspect.Parameter.empty
    found = inspect.signature(call).parameters.values()
    return {one.name: one.default for one in found if one.default is not empty}


def test_defaults():
    assert LEVELS == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert defaults(calibration) == {"bins": 15}
    assert defaults(NoisyDataset) == {"mechanism": "mix", "seed": 0}
    assert defaults(under_noise) == {"levels": LEVELS, "mechanism": "mix", "draws": 3, "seed": 0}
    assert defaults(ConflictDataset) == {"seed": 0}
    assert defaults(conflict) == {"modality": None, "seed": 0}
    assert defaults(attention_contrast) == {"seed": 0}
    assert defaults(sensitivity) == {"resamples": 999, "seed": 0}
