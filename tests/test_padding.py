"""Presence comes from masks: padded tokens and missing modalities change nothing, anywhere."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rollingq_core import AttentionFusion, RollingQ
from rollingq_core.balancing import Rolling
from rollingq_core.data import PairedDataset
from rollingq_core.data.dataset import corrupt_splits, hash_splits, standardise
from rollingq_core.evaluation import under_noise
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.models.predictions import batches, predict
from rollingq_core.runs.description import few, measure
from rollingq_core.runs.replica import Replica
from rollingq_core.runs.replicas import fit_replicas
from rollingq_core.theory import path_sizes
from rollingq_core.training import Machine, fit
from tests.small import TRAINING, assert_same_state, small_data, small_model

GARBAGE = 1e4
NAMES = ("audio", "visual")


def masks(size, seed=0, tokens=4):
    """Return masks with whole modalities missing, single tokens padded, and no empty sample."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(2, size, tokens, generator=generator) < 0.4
    drawn[0, ::5] = True  # without audio
    drawn[1, 2::5] = True  # without vision
    drawn[1, ::5, 0] = drawn[0, 2::5, 1] = False
    drawn[:, 1::5] = False  # whole
    drawn[0, drawn.all(dim=2).all(dim=0), 0] = False
    return dict(zip(NAMES, drawn, strict=True))


def with_garbage(split, padding, garbage=GARBAGE, seed=0):
    """Return the split with something large in the place of padding."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {}
    for name, x in split.inputs.items():
        noise = garbage * torch.randn(x.shape, generator=generator)
        inputs[name] = torch.where(padding[name][..., None], noise, x)
    return PairedDataset(inputs, split.labels, padding)


def padded_data(garbage=GARBAGE, seed=0):
    data, splits = small_data(), {}
    for place in ("train", "validation", "test"):
        split = getattr(data, place)
        splits[place] = with_garbage(split, masks(len(split)), garbage, seed)
    return replace(data, **splits)


def test_a_batch_carries_the_padding_beside_its_modality():
    padding = {"audio": masks(80)["audio"]}
    split = PairedDataset(small_data().train.inputs, small_data().train.labels, padding)
    inputs, _ = split.__getitems__([3, 5])
    assert list(inputs) == ["audio", "visual", "audio_padding"]
    assert torch.equal(inputs["audio_padding"], padding["audio"][[3, 5]])
    sample, _ = split[5]
    assert torch.equal(sample["audio_padding"], padding["audio"][5])
    (first, *_) = batches(split, 32)
    assert first[0]["audio_padding"].shape == (32, 4)


@pytest.mark.parametrize(
    ("padding", "message"),
    [
        ({"smell": torch.zeros(3, 2, dtype=torch.bool)}, r"padding: got modalities \['smell'\]"),
        ({"audio": torch.zeros(3, 2)}, r"padding\['audio'\]: got torch.float32 of shape \[3, 2\]"),
        ({"audio": torch.zeros(2, 2, dtype=torch.bool)}, r"expected bool of shape \[3, L\]"),
        ({"audio": torch.zeros(3, dtype=torch.bool)}, r"got torch.bool of shape \[3\]"),
        (
            {name: torch.tensor([[True], [False], [True]]) for name in NAMES},
            "padding: got 2 samples with only padding, expected a token",
        ),
    ],
)
def test_padding_that_does_not_fit_is_named(padding, message):
    inputs = {name: torch.zeros(3, 1, 2) for name in NAMES}
    with pytest.raises(ValueError, match=message):
        PairedDataset(inputs, torch.zeros(3, dtype=torch.int64), padding)


def test_a_modality_is_not_named_as_padding():
    inputs = {name: torch.zeros(3, 1) for name in ("audio", "audio_padding")}
    with pytest.raises(ValueError, match=r"inputs: got modalities \['audio_padding'\]"):
        PairedDataset(inputs, torch.zeros(3, dtype=torch.int64))


def test_the_hash_is_that_of_the_tensors_and_of_masks_where_there_are_any():
    data = small_data()
    # Of the edition before there was padding.
    assert hash_splits(data.train, data.validation, data.test) == data.data_hash
    padding = masks(len(data.train))
    padded = PairedDataset(data.train.inputs, data.train.labels, padding)
    other = {**padding, "audio": ~padding["audio"]}
    other["visual"] = torch.zeros_like(padding["visual"])
    again = PairedDataset(data.train.inputs, data.train.labels, other)
    assert len({hash_splits(x) for x in (data.train, padded, again)}) == 3


def test_masks_stay_through_every_preparation():
    data = padded_data()
    scaled, _ = standardise(data.train, data.test)
    grids = data.train.with_inputs(**{n: x.unsqueeze(1) for n, x in data.train.inputs.items()})
    (noisy,) = corrupt_splits([grids], dict.fromkeys(NAMES, (1, 8)), 0.5, seed=0)
    fewer = few(data, 10).train
    for split in (scaled, noisy):
        assert all(torch.equal(split.padding[n], data.train.padding[n]) for n in NAMES)
    chosen = torch.linspace(0, 79, 10).round().long()
    assert all(torch.equal(fewer.padding[n], data.train.padding[n][chosen]) for n in NAMES)
    assert list(measure(data)["shapes"]) == list(NAMES)


def test_padding_has_no_part_in_the_scale():
    split = small_data().train
    padding = masks(len(split))
    expected = {n: x[~padding[n]].double() for n, x in split.inputs.items()}
    (scaled,) = standardise(with_garbage(split, padding))
    for name, present in expected.items():
        wanted = (present - present.mean()) / present.std(correction=0)
        torch.testing.assert_close(scaled.inputs[name][~padding[name]], wanted.float())


def test_of_grids_samples_that_are_missing_have_no_part_in_the_scale():
    split = small_data().train
    missing = torch.zeros(len(split), 7, dtype=torch.bool)
    missing[:40] = True
    grid = split.inputs["audio"].unsqueeze(1)
    gone = torch.where(missing[:, :1, None, None], GARBAGE, grid)
    both = {"audio": gone, "visual": grid}
    (scaled,) = standardise(PairedDataset(both, split.labels, {"audio": missing}))
    assert scaled.inputs["audio"][40:].std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("pool", ["mean", "first"])
@pytest.mark.parametrize("fusion", [{}, {"num_heads": 2, "cls_self_key": True}, {"bias": False}])
@torch.no_grad()
def test_answers_are_those_of_the_tokens_that_are_there(pool, fusion):
    model = small_model(pool=pool, **fusion).eval()
    split = padded_data().test
    found = model(split.__getitems__(range(60))[0])
    for row in range(60):
        tokens = {}
        for name, encoder in model.encoders.items():
            kept = ~split.padding[name][row]
            tokens[name] = encoder(split.inputs[name][row : row + 1])[:, kept]
            if kept.any():
                z = tokens[name].mean(1) if pool == "mean" else tokens[name][:, 0]
            else:
                z = torch.zeros(1, 8)
            torch.testing.assert_close(
                found.probes[name][row : row + 1], model.probes[name](z), atol=1e-6, rtol=1e-5
            )
        if all(z.shape[1] for z in tokens.values()):
            alone = model.fusion(list(tokens.values()))
            torch.testing.assert_close(
                found.fusion.logits[row : row + 1], alone.logits, atol=1e-6, rtol=1e-5
            )
            torch.testing.assert_close(
                found.fusion.share[row : row + 1], alone.share, atol=1e-6, rtol=1e-5
            )


@given(size=st.sampled_from([0.0, 1.0, 1e4, 1e30]), seed=st.integers(0, 99))
def test_garbage_in_the_padding_does_not_change_a_bit(size, seed):
    model = small_model()
    one, two = (predict(model, padded_data(g, seed).test) for g in (GARBAGE, size))
    for left, right in zip(one[:-1], two[:-1], strict=True):
        assert torch.equal(left, right)
    assert one.probe_accuracy == two.probe_accuracy


@pytest.mark.parametrize("accumulate", [1, 3])
def test_garbage_in_the_padding_does_not_change_training(accumulate):
    runs = []
    for garbage in (0.0, GARBAGE):
        model = small_model()
        rolling = RollingQ(model.fusion, 3.0, 0.0, 2)
        result = fit(
            model,
            padded_data(garbage),
            TRAINING,
            observers=[Rolling(rolling)],
            machine=Machine(accumulate=accumulate),
        )
        runs.append((model.state_dict(), result, rolling.events))
    assert_same_state(runs[0][0], runs[1][0])
    assert runs[0][1:] == runs[1][1:]
    assert len(runs[0][2]) == 2
    # And without its masks, the data is other data.
    unmasked = {
        place: PairedDataset(split.inputs, split.labels)
        for place in ("train", "validation", "test")
        for split in [getattr(padded_data(), place)]
    }
    other = fit(small_model(), replace(small_data(), **unmasked), TRAINING)
    assert other.history != runs[0][1].history


def test_replicas_train_with_padding_as_each_alone():
    data = padded_data()
    models = [small_model(seed) for seed in (0, 1)]
    rollings = [RollingQ(model.fusion, 3.0, 0.0, 2) for model in models]
    results = fit_replicas(
        [Replica(m, data, TRAINING, [Rolling(r)]) for m, r in zip(models, rollings, strict=True)]
    )
    for seed, model, result in zip((0, 1), models, results, strict=True):
        alone = small_model(seed)
        rolling = RollingQ(alone.fusion, 3.0, 0.0, 2)
        expected = fit(alone, data, TRAINING, observers=[Rolling(rolling)])
        torch.testing.assert_close(model.state_dict(), alone.state_dict(), atol=1e-5, rtol=1e-5)
        for one, two in zip(result.history, expected.history, strict=True):
            assert one["train_loss"] == pytest.approx(two["train_loss"], abs=1e-5)
            if "air" in two:
                assert one["air"] == pytest.approx(two["air"], abs=1e-5)
                assert one["validation_loss"] == pytest.approx(two["validation_loss"], abs=1e-5)


def test_replicas_with_and_without_padding_do_not_train_together():
    data = [small_data(), padded_data()]
    with pytest.raises(ValueError, match="got another data sizes in number 1 than in 0"):
        fit_replicas([Replica(small_model(), one, TRAINING) for one in data])


def test_a_sample_without_a_modality_gives_it_no_attention():
    found = predict(small_model(), padded_data().test)
    missing = torch.stack([padded_data().test.padding[n].all(1) for n in NAMES], dim=1)
    for column in (found.share, found.cosines, found.key_norms):
        assert (column[missing] == 0).all()
        assert (column[~missing] != 0).all()


def missing_in(rows, **options):
    """Return data without audio in some samples of the training split: zeros, and a mask."""
    data = small_data(**options)
    mask = torch.zeros(len(data.train), 4, dtype=torch.bool)
    mask[rows] = True
    audio = data.train.inputs["audio"].masked_fill(mask[..., None], 0)
    inputs = {**data.train.inputs, "audio": audio}
    return replace(data, train=PairedDataset(inputs, data.train.labels, {"audio": mask}))


def test_samples_without_a_modality_have_no_part_in_the_imbalance():
    still = replace(TRAINING, lr=1e-30, epochs=1, pretrain_epochs=0)
    data = missing_in(slice(0, 30))
    model = small_model()
    (record,) = fit(model, data, still).history
    found = predict(model, data.train)
    cosines = found.cosines[30:].double().mean(0)
    assert record["air"] == pytest.approx(float(cosines[0] - cosines[1]), abs=1e-6)


class Bare(nn.Module):
    """An encoder without biases, which makes zeros of zeros."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(8, 8, bias=False)

    def forward(self, inputs):
        return torch.tanh(self.map(inputs))


def bare_model():
    torch.manual_seed(0)
    fusion = AttentionFusion(8, 4, cls_std=1.0)
    return MultimodalModel({name: Bare() for name in NAMES}, fusion, 4)


@pytest.mark.filterwarnings("ignore:no rotation after epoch")
@pytest.mark.parametrize("masked", [True, False])
def test_a_modality_that_no_sample_has_ends_no_training(masked):
    data = missing_in(slice(None))
    if not masked:
        plain = PairedDataset(data.train.inputs, data.train.labels)
        data = replace(data, train=plain)
    model = bare_model()
    rolling = RollingQ(model.fusion, 3.0, 0.0, 2)
    result = fit(model, data, TRAINING, observers=[Rolling(rolling)])
    assert rolling.events == []
    for record in result.history[1:]:
        assert [record[name] for name in ("air", "query_norm", "rotation")] == [None] * 3
        assert record["cosines"] == {"audio": None, "visual": None}
        if masked:
            assert record["share"]["audio"] == 0
        assert math.isfinite(record["validation_loss"])


def test_a_batch_without_a_modality_leaves_the_epochs_expectation_alone():
    # Without shuffling, the first of three batches has no audio.
    data = missing_in(slice(0, 32))
    model = bare_model()
    rolling = RollingQ(model.fusion, 3.0, 0.0, 2, estimate="last_batch")
    for inputs, _ in batches(data.train, 32):
        rolling.observe(model(inputs).fusion)
    rolling.end_epoch()
    assert rolling.last is not None


def test_a_model_is_tested_under_noise_with_its_padding():
    model = small_model()
    data = padded_data().test
    response = under_noise(model, data, "visual", (0.0, 1.0), draws=1)
    assert response.accuracy[0] == pytest.approx(predict(model, data).accuracy)
    # Where vision is missing, its noise changes no answer.
    gone = data.padding["visual"].all(1)
    alone = PairedDataset(
        {n: x[gone] for n, x in data.inputs.items()},
        data.labels[gone],
        {n: m[gone] for n, m in data.padding.items()},
    )
    clean, noisy = under_noise(model, alone, "visual", (0.0, 1.0), draws=1).accuracy
    assert clean == noisy


def test_a_mask_that_does_not_fit_the_tokens_is_named():
    model, data = small_model(), small_data().test
    for mask, message in (
        (torch.zeros(60, 3, dtype=torch.bool), r"got torch.bool of shape \[60, 3\]"),
        (torch.zeros(60, 4), r"got torch.float32 of shape \[60, 4\]"),
    ):
        with pytest.raises(ValueError, match=rf"inputs\['audio_padding'\]: {message}, expected"):
            model({**data.inputs, "audio_padding": mask}, fuse=False)


def test_gradient_paths_are_not_taken_of_padded_tokens():
    inputs, labels = padded_data().test.__getitems__(range(6))
    with pytest.raises(ValueError, match=r"inputs: got padding of \['audio', 'visual'\]"):
        path_sizes(small_model(), inputs, labels)
