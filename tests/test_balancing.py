"""Static fusion and what balances it: the pencil's numbers, and the same run however it is run."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rollingq_core.balancing import OGM, PMR, ogm, pmr
from rollingq_core.data import from_arrays, load_dataset
from rollingq_core.data.dataset import PairedDataset
from rollingq_core.fusion.concat import ConcatFusion
from rollingq_core.methods import METHODS, methods_for
from rollingq_core.models.encoders import TokenMLP
from rollingq_core.models.multimodal import ModelOutput, MultimodalModel
from rollingq_core.runs import prepare, train
from rollingq_core.runs.sweep import sweep
from rollingq_core.training import Machine, fit
from tests.small import SETTING, TRAINING, assert_same_state, small_data

STATIC = ("unimodal-audio", "unimodal-visual", "concat", "ogm", "ogm-ge", "pmr")
WIDTHS = {"audio": (4, 8), "visual": (3, 6), "text": (5, 7)}


def arrays(samples=120, seed=0):
    """Three modalities, one of which some samples lack, and one of which varies in length."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % 4
    inputs = {}
    for name, (length, width) in WIDTHS.items():
        signal = np.eye(width)[labels][:, None]
        inputs[name] = signal + rng.normal(size=(samples, length, width))
    padded = np.arange(4) >= rng.integers(1, 5, size=(samples, 1))
    lacking = np.repeat(np.arange(samples) % 5 == 0, 5).reshape(samples, 5)
    return {"inputs": inputs, "labels": labels, "masks": {"audio": padded, "text": lacking}}


def three_modalities(**options):
    return from_arrays(**arrays(**options), splits=(0.6, 0.2, 0.2))


def concat_model(modalities=("audio", "visual"), seed=0, widths=(4, 8), **encoder_options):
    torch.manual_seed(seed)
    options = {"dim": 8, "hidden": 16, **encoder_options}
    encoders = {name: TokenMLP(widths[1], widths[0], **options) for name in modalities}
    return MultimodalModel(encoders, ConcatFusion(8, 4, len(modalities)), 4)


def output_of(features):
    """An output of which only the features are known."""
    return ModelOutput(None, {}, features)


# Concatenation


def toy_concat():
    layer = ConcatFusion(2, 2, modalities=2)
    with torch.no_grad():
        layer.head.weight.copy_(torch.tensor([[1.0, 0, 2, 0], [0, 1, 0, 2]]))
        layer.head.bias.copy_(torch.tensor([0.2, 0.4]))
    return layer, [torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 4.0]]])]


def test_concatenation_of_the_toy():
    layer, tokens = toy_concat()
    output = layer(tokens)
    torch.testing.assert_close(output.logits, torch.tensor([[7.2, 10.4]]))
    assert output.fused.tolist() == [[1, 2, 3, 4]]
    parts = layer.partial_logits(output.fused)
    torch.testing.assert_close(parts, torch.tensor([[[1.1, 2.2]], [[6.1, 8.2]]]))
    torch.testing.assert_close(parts.sum(0), output.logits)


def test_a_static_fusion_tells_nothing_of_attention():
    output = toy_concat()[0](toy_concat()[1])
    assert output[2:] == (None, None, None, None)


@given(
    modalities=st.integers(1, 5),
    dim=st.integers(1, 6),
    classes=st.integers(1, 5),
    batch=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_partial_logits_add_up_to_the_logits(modalities, dim, classes, batch, seed):
    torch.manual_seed(seed)
    layer = ConcatFusion(dim, classes, modalities).double()
    tokens = [torch.randn(batch, 1 + m, dim, dtype=torch.float64) for m in range(modalities)]
    output = layer(tokens)
    parts = layer.partial_logits(output.fused)
    assert parts.shape == (modalities, batch, classes)
    torch.testing.assert_close(parts.sum(0), output.logits)


# OGM

AUDIO = torch.tensor([[2.0, 0, 0], [0, 1, 0]])
VISUAL = torch.tensor([[0.0, 0, 0], [0, 0, 1]])
LABELS = torch.tensor([0, 1])


def test_ogms_scores_of_the_toy():
    found = ogm.scores(torch.stack([AUDIO, VISUAL]), LABELS)
    assert found.tolist() == pytest.approx([1.363103, 0.545275], abs=1e-6)
    assert float(found[0] / found[1]) == pytest.approx(2.499845, abs=1e-5)


@pytest.mark.parametrize(("alpha", "expected"), [(0.1, 0.755096), (0.3, 0.364879), (0.8, 0.035981)])
def test_ogms_coefficients_of_the_toy(alpha, expected):
    found = ogm.coefficients(ogm.scores(torch.stack([AUDIO, VISUAL]), LABELS), alpha)
    assert found.tolist() == pytest.approx([expected, 1.0], abs=1e-6)


@given(
    scores=st.lists(st.floats(0, 1e4), min_size=2, max_size=5),
    alpha=st.floats(1e-3, 5),
)
def test_a_coefficient_is_in_0_to_1_and_1_for_whoever_does_not_lead(scores, alpha):
    scores = torch.tensor(scores, dtype=torch.float64)
    found = ogm.coefficients(scores, alpha)
    assert found.isfinite().all()
    # A tanh of 1 is that of a large number, to rounding: k may be 0, but never below.
    assert (found >= 0).all()
    assert (found <= 1).all()
    others = (scores.sum() - scores) / (len(scores) - 1)
    assert (found[scores < others * (1 - 1e-9)] == 1).all()
    moderate = alpha * scores < 15 * others
    assert (found[moderate] > 0).all()


def test_coefficients_of_scores_that_are_all_zero_change_nothing():
    assert ogm.coefficients(torch.zeros(3), 0.3).tolist() == [1, 1, 1]


def stepped(observer_of, modalities=("audio", "visual"), **options):
    """Return gradients by name of one batch, plain and as an observer leaves them."""
    model = concat_model(modalities, **options)
    generator = torch.Generator().manual_seed(1)
    inputs = {name: torch.randn(16, 4, 8, generator=generator) for name in modalities}
    labels = torch.arange(16) % 4
    with torch.no_grad():  # so that one modality leads
        model.fusion.head.weight[:, :8] *= 4
    output = model(inputs)
    nn.functional.cross_entropy(output.fusion.logits, labels).backward()
    plain = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    observer = observer_of(model)
    seen = output.each(torch.Tensor.detach)
    observer.on_gradients(model, seen, labels)
    after = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    found = ogm.scores(model.fusion.partial_logits(seen.fusion.fused), labels)
    factors = ogm.coefficients(found, observer.alpha)
    return plain, after, dict(zip(modalities, factors.tolist(), strict=True))


@pytest.mark.parametrize("modalities", [("audio", "visual"), ("audio", "visual", "text")])
def test_ogm_touches_every_encoder_weight_of_two_axes_and_no_other_parameter(modalities):
    plain, after, factors = stepped(lambda model: OGM(model, 0.5), modalities)
    assert min(factors.values()) < 1
    touched = 0
    for name, gradient in plain.items():
        factor = 1.0
        if name.startswith("encoders.") and gradient.dim() >= 2:
            factor, touched = factors[name.split(".")[1]], touched + 1
        torch.testing.assert_close(after[name], factor * gradient, rtol=1e-6, atol=0)
    assert touched == 3 * len(modalities)  # two linear maps and the positions
    biases = [name for name in plain if name.startswith("encoders.") and plain[name].dim() < 2]
    assert len(biases) == 4 * len(modalities)
    assert all(torch.equal(after[name], plain[name]) for name in biases)


def test_axes_beyond_two_are_modulated_too():
    class Conv(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv3d(1, 8, 1)

        def forward(self, inputs):
            return self.layer(inputs[:, None, :, :, None]).flatten(2).mT

    torch.manual_seed(0)
    model = MultimodalModel({name: Conv() for name in ("audio", "visual")}, ConcatFusion(8, 4), 4)
    with torch.no_grad():
        model.fusion.head.weight[:, :8] *= 20
    output = model({name: torch.randn(8, 2, 3) for name in model.modalities})
    nn.functional.cross_entropy(output.fusion.logits, torch.arange(8) % 4).backward()
    weights = {name: encoder.layer.weight for name, encoder in model.encoders.items()}
    before = {name: weight.grad.clone() for name, weight in weights.items()}
    observer = OGM(model, 2.0)
    observer.on_gradients(model, output.each(torch.Tensor.detach), torch.arange(8) % 4)
    told = observer.end_epoch(model, None)["modulation"]
    assert min(told.values()) < 1
    for name, weight in weights.items():
        torch.testing.assert_close(weight.grad, told[name] * before[name])


def test_coefficients_stand_outside_the_gradients_graph():
    parts = torch.randn(2, 4, 3, requires_grad=True)
    found = ogm.coefficients(ogm.scores(parts, torch.arange(4) % 3), 0.3)
    assert not found.requires_grad
    plain, after, _ = stepped(lambda model: OGM(model, 0.5))
    assert not any(gradient.requires_grad for gradient in [*plain.values(), *after.values()])


def test_ges_noise_is_as_large_as_the_unmodulated_gradient_also_where_k_is_1():
    def observer(model):
        return OGM(model, 1.0, noise=True, seed=3)

    plain, after, factors = stepped(observer, hidden=4096, dim=8)
    assert min(factors.values()) < 0.5
    assert max(factors.values()) == 1
    checked = set()
    for name, gradient in plain.items():
        encoder = name.startswith("encoders.")
        if not (encoder and gradient.dim() >= 2):
            assert torch.equal(after[name], gradient), name
        elif gradient.numel() > 10_000:
            modality = name.split(".")[1]
            noise = after[name] - factors[modality] * gradient
            assert float(noise.std()) == pytest.approx(float(gradient.std()), rel=0.03), name
            assert abs(float(noise.mean())) < 0.03 * float(gradient.std())
            checked.add(modality)
    assert checked == {"audio", "visual"}


def test_ges_noise_comes_from_its_seed():
    def noisy(seed):
        return stepped(lambda model: OGM(model, 0.5, noise=True, seed=seed))[1]

    first, same, other = noisy(1), noisy(1), noisy(2)
    assert all(torch.equal(first[name], same[name]) for name in first)
    name = "encoders.audio.mlp.0.weight"
    assert not torch.allclose(first[name], other[name])


def test_noise_goes_on_from_where_its_state_was_saved():
    model = concat_model()
    one = OGM(model, noise=True, seed=4)
    torch.randn(5, generator=one.generator)
    other = OGM(model, noise=True, seed=9)
    other.load_state_dict(one.state_dict())
    assert torch.equal(
        torch.randn(3, generator=one.generator), torch.randn(3, generator=other.generator)
    )


def test_a_weight_of_one_element_has_no_spread_and_gives_no_nan():
    model = concat_model()
    for encoder in model.encoders.values():
        encoder.scale = nn.Parameter(torch.ones(1, 1))
        encoder.scale.grad = torch.full((1, 1), 0.5)
    output = model({name: torch.randn(8, 4, 8) for name in model.modalities})
    nn.functional.cross_entropy(output.fusion.logits, torch.arange(8) % 4).backward()
    OGM(model, 0.5, noise=True).on_gradients(
        model, output.each(torch.Tensor.detach), torch.arange(8) % 4
    )
    for encoder in model.encoders.values():
        assert float(encoder.scale.grad) == pytest.approx(0.5, rel=0.7)
        assert all(p.grad.isfinite().all() for p in encoder.parameters())


def test_ogm_wants_partial_logits_of_two_modalities():
    with pytest.raises(ValueError, match="model: got ConcatFusion of 1 modalities"):
        OGM(concat_model(("audio",)))
    attention = prepare("mt", small_data(), SETTING, 0).model
    with pytest.raises(ValueError, match="model: got AttentionFusion of 2 modalities"):
        OGM(attention)
    for options in ({"alpha": 0}, {"alpha": float("nan")}, {"seed": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            OGM(concat_model(), **options)


def test_the_history_tells_the_mean_coefficients():
    data = small_data()
    run = train("ogm", data, setting=SETTING)
    fusion = [epoch for epoch in run.result.history if epoch["stage"] == "fusion"]
    for epoch in fusion:
        assert list(epoch["modulation"]) == ["audio", "visual"]
        assert all(0 < k <= 1 for k in epoch["modulation"].values())
    assert any(min(epoch["modulation"].values()) < 1 for epoch in fusion)
    assert "modulation" not in run.result.history[0]  # pretraining


# PMR

FEATURES = {
    "audio": torch.tensor([[0.0, 0], [2, 0]]),
    "visual": torch.tensor([[1.0, 1], [1, 0]]),
}
PROTOTYPES = dict.fromkeys(FEATURES, torch.tensor([[0.0, 0], [2, 0]]))


def toy_pmr(**options):
    observer = PMR(**options)
    observer.prototypes = dict(PROTOTYPES)
    return observer


def present(features):
    """The toy's audio feature of zeros would count as missing: moved, with its prototypes."""
    return {name: x + 10 for name, x in features.items()}


def moved_pmr(**options):
    observer = PMR(**options)
    observer.prototypes = present(PROTOTYPES)
    return observer


def test_pmrs_scores_and_cross_entropies_of_the_toy():
    expected = {"audio": (1.761594, 0.126928), "visual": (1.0, 0.693147)}
    for name, (score, entropy) in expected.items():
        found = pmr.similarities(FEATURES[name], PROTOTYPES[name])
        right = found.softmax(dim=1)[torch.arange(2), LABELS]
        assert float(right.sum()) == pytest.approx(score, abs=1e-5)
        loss = nn.functional.cross_entropy(found, LABELS)
        assert float(loss) == pytest.approx(entropy, abs=1e-5)


def test_slowness_of_the_toy():
    scores = torch.tensor([1.761594, 1.0])
    assert pmr.slowness(scores, "hard").tolist() == [0, 1]
    assert pmr.slowness(scores, "soft").tolist() == pytest.approx([0, 0.761594], abs=1e-6)
    assert pmr.slowness(scores.flip(0), "hard").tolist() == [1, 0]


@pytest.mark.parametrize(("switch", "part"), [("hard", 1.0), ("soft", 0.761594)])
@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_only_the_slower_modality_of_the_toy_is_helped(switch, part, alpha):
    observer = moved_pmr(alpha=alpha, switch=switch)
    features = {name: x.requires_grad_() for name, x in present(FEATURES).items()}
    loss = observer.extra_loss(output_of(features), LABELS)
    assert float(loss.detach()) == pytest.approx(alpha * part * 0.693147, abs=1e-5)
    loss.backward()
    assert features["audio"].grad.eq(0).all()
    assert features["visual"].grad.ne(0).any(dim=1).all()


def test_the_faster_one_is_helped_as_soon_as_it_is_behind():
    observer = moved_pmr()
    swapped = present({"audio": FEATURES["visual"], "visual": FEATURES["audio"]})
    features = {name: x.requires_grad_() for name, x in swapped.items()}
    observer.extra_loss(output_of(features), LABELS).backward()
    assert features["visual"].grad.eq(0).all()
    assert features["audio"].grad.ne(0).any()


def test_of_three_modalities_all_that_are_behind_are_helped():
    scores = torch.tensor([0.5, 2.0, 1.0])
    assert pmr.slowness(scores, "hard").tolist() == [1, 0, 1]
    assert pmr.slowness(scores, "soft").tolist() == [1, 0, 1]
    assert pmr.slowness(torch.tensor([1.6, 2.0, 1.9]), "soft").tolist() == pytest.approx(
        [0.25, 0, 2 / 1.9 - 1]
    )


def test_prototypes_move_part_of_the_way():
    new = torch.tensor([[1.0, 1.0], [3.0, 1.0]])
    found = pmr.moved(PROTOTYPES["audio"], new, momentum=0.2)
    torch.testing.assert_close(found, torch.tensor([[0.8, 0.8], [2.8, 0.8]]))
    assert torch.equal(pmr.moved(PROTOTYPES["audio"], new, momentum=0.0), new)


def test_an_absent_class_keeps_its_old_prototype():
    new = pmr.class_means(torch.tensor([[4.0, 4.0], [6.0, 2.0]]), torch.tensor([0, 0]), 3)
    assert new[0].tolist() == [5, 3]
    assert new[1:].isnan().all()
    old = torch.tensor([[1.0, 1.0], [2.0, 7.0], [torch.nan, torch.nan]])
    found = pmr.moved(old, new, momentum=0.0)
    assert found[:2].tolist() == [[5, 3], [2, 7]]
    assert found[2].isnan().all()  # neither old nor new
    assert pmr.moved(old, torch.ones(3, 2), momentum=0.9)[2].tolist() == [1, 1]


def test_a_class_that_was_never_seen_makes_no_nan_and_no_infinity():
    observer = moved_pmr()
    unseen = torch.full((1, 2), torch.nan)
    observer.prototypes = {n: torch.cat([p, unseen]) for n, p in observer.prototypes.items()}
    extended = {n: torch.cat([x, x[:1] + 1]) for n, x in present(FEATURES).items()}
    features = {name: x.requires_grad_() for name, x in extended.items()}
    loss = observer.extra_loss(output_of(features), torch.tensor([0, 1, 2]))
    assert float(loss.detach()) == pytest.approx(0.693147, abs=1e-5)  # as without that sample
    loss.backward()
    for x in features.values():
        assert x.grad.isfinite().all()
        assert x.grad[2].eq(0).all()
    alone = {name: x[2:].detach().requires_grad_() for name, x in features.items()}
    nothing = observer.extra_loss(output_of(alone), torch.tensor([2]))
    assert float(nothing.detach()) == 0
    nothing.backward()
    assert all(x.grad.eq(0).all() for x in alone.values())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_distance_of_zero_has_a_finite_gradient(dtype):
    features = torch.tensor([[1.0, 2.0]], dtype=dtype, requires_grad=True)
    found = pmr.similarities(features, torch.tensor([[1.0, 2.0], [4.0, 6.0]], dtype=dtype))
    assert found.tolist() == [pytest.approx([0, -5], abs=2e-6)]
    found.sum().backward()
    assert features.grad.isfinite().all()


def test_a_sample_that_lacks_a_modality_does_not_count_there():
    observer, whole = moved_pmr(), present(FEATURES)
    lacking = {
        "audio": torch.cat([whole["audio"], torch.zeros(1, 2)]).requires_grad_(),
        "visual": torch.cat([whole["visual"], whole["visual"][:1]]).requires_grad_(),
    }
    labels = torch.tensor([0, 1, 0])
    loss = observer.extra_loss(output_of(lacking), labels)
    visual = pmr.similarities(lacking["visual"].detach(), observer.prototypes["visual"])
    expected = nn.functional.cross_entropy(visual, labels)
    assert float(loss.detach()) == pytest.approx(float(expected), abs=1e-6)
    loss.backward()
    assert lacking["audio"].grad.eq(0).all()
    # And where nobody has a modality, it is neither a leader nor a loss.
    nobody = {"audio": torch.zeros(2, 2, requires_grad=True), "visual": whole["visual"].clone()}
    nothing = observer.extra_loss(output_of(nobody), LABELS)
    assert float(nothing.detach()) == 0
    nothing.backward()
    assert nobody["audio"].grad.eq(0).all()


def test_prototypes_leave_out_what_is_missing():
    data = three_modalities()
    model = prepare("pmr", data, SETTING, 0).model
    observer = PMR(fraction=1.0, batch_size=32)
    observer.start(model, data.train)
    split = data.train
    with torch.no_grad():
        inputs, labels = split.__getitems__(range(len(split)))
        features = model.eval()(inputs).features["text"]
    there = ~split.padding["text"].all(dim=1)
    assert 0 < int(there.sum()) < len(there)
    for label in range(4):
        own = features[there & (labels == label)].mean(dim=0)
        torch.testing.assert_close(observer.prototypes["text"][label], own)


def recorded_prototypes(momentum):
    """Train, and return the prototypes before and after each epoch, and the observer."""
    data, kept = small_data(), []

    class Recorded(PMR):
        def start(self, model, train):
            super().start(model, train)
            kept.append({"at": "start", "made": self._means(model, train), **self.prototypes})

        def end_epoch(self, model, train):
            told = super().end_epoch(model, train)
            kept.append({"at": "end", "made": self._means(model, train), **self.prototypes})
            return told

    model = prepare("concat", data, SETTING, 0).model
    observer = Recorded(momentum=momentum, fraction=1.0, batch_size=32)
    fit(model, data, TRAINING, observers=[observer])
    return kept, observer


def test_prototypes_before_the_first_epoch_and_after_each_the_first_overwriting():
    kept, observer = recorded_prototypes(momentum=0.25)
    assert [one["at"] for one in kept] == ["start", "end", "end", "end"]  # not in pretraining
    assert observer.epoch == 3
    for name in ("audio", "visual"):
        start, first, second, third = kept
        # To the order of a sum: each epoch shuffles anew, and here all batches take part.
        torch.testing.assert_close(start[name], start["made"][name])
        torch.testing.assert_close(first[name], first["made"][name])
        for before, after in ((first, second), (second, third)):
            expected = 0.75 * after["made"][name] + 0.25 * before[name]
            torch.testing.assert_close(after[name], expected)
        assert not torch.allclose(third[name], third["made"][name], atol=1e-6)


def test_prototypes_are_of_a_tenth_of_the_batches_and_of_one_at_least():
    data = small_data(train_samples=100)
    model = prepare("concat", data, SETTING, 0).model
    read = []

    class Counted(PairedDataset):
        def __getitems__(self, indices):
            read.append(len(indices))
            return super().__getitems__(indices)

    split = Counted(data.train.inputs, data.train.labels)
    for fraction, batch_size, expected in ((0.1, 64, [64]), (0.1, 5, [5, 5]), (0.5, 30, [30, 30])):
        read.clear()
        PMR(fraction=fraction, batch_size=batch_size).start(model, split)
        assert read == expected


def test_the_model_is_left_in_the_mode_it_was_in():
    data = small_data()
    model = prepare("concat", data, SETTING, 0).model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for mode in (True, False):
        model.train(mode)
        PMR().start(model, data.train)
        assert model.training is mode
    assert_same_state(before, model.state_dict())
    assert all(p.grad is None for p in model.parameters())


def test_a_weight_of_zero_trains_as_plain_concatenation_does():
    data, results = small_data(), []
    for observers in ([], [PMR(alpha=0.0)]):
        model = prepare("concat", data, SETTING, 0).model
        fit(model, data, TRAINING, observers=observers)
        results.append(model.state_dict())
    assert_same_state(*results)
    helped = prepare("concat", data, SETTING, 0).model
    fit(helped, data, TRAINING, observers=[PMR()])
    assert any(not torch.equal(x, results[0][name]) for name, x in helped.state_dict().items())


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": -1},
        {"momentum": 1.5},
        {"fraction": 0},
        {"fraction": 1.5},
        {"switch": "sudden"},
        {"batch_size": 0},
        {"seed": -1},
    ],
)
def test_pmrs_options_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        PMR(**options)


# Whole runs

DATASETS = {"synthetic": small_data, "three modalities": three_modalities}
RUNS = [(name, method) for name in DATASETS for method in STATIC]
RUNS.append(("three modalities", "unimodal-text"))


def trained(data, method, **options):
    model, config, observers = prepare(method, data, SETTING, 0)
    torch.seed()  # whatever the state before, fit starts from its own seed
    return model, fit(model, data, config, observers=observers, **options)


@pytest.mark.parametrize(("name", "method"), RUNS)
def test_a_stopped_run_goes_on_bit_for_bit(name, method, tmp_path):
    data = DATASETS[name]()
    model, result = trained(data, method)
    last = result.history[-1]
    assert last["stage"] == "fusion"
    assert math.isfinite(last["validation_loss"])
    assert "air" not in last
    assert list(last["gradient_norm"]) == list(model.modalities)

    def stop(record):
        if record["epoch"] == end:
            raise InterruptedError

    for end in (0, 2):  # after pretraining, and in the middle of fusion
        path = tmp_path / f"{end}.pt"
        with pytest.raises(InterruptedError):
            trained(data, method, checkpoint=path, on_epoch=stop)
        found, again = trained(data, method, checkpoint=path)
        assert_same_state(found.state_dict(), model.state_dict())
        assert again == result


@pytest.mark.parametrize("options", [{"precision": "bf16-mixed"}, {"precision": "bf16-true"}])
@pytest.mark.parametrize(
    "method", ["concat", "ogm-ge", "pmr", "mt2+rollingq", "mult", "mbt", "jmt", "mmml+rollingq"]
)
def test_half_precision_trains_and_reports_finite_numbers(method, options):
    _, result = trained(three_modalities(), method, machine=Machine(**options, accumulate=2))
    assert all(math.isfinite(epoch["train_loss"]) for epoch in result.history)
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]


def test_pieces_of_a_batch_are_modulated_as_the_whole():
    whole, pieces = (trained(small_data(), "ogm", machine=Machine(accumulate=n)) for n in (1, 4))
    found, expected = (run[1].history[-1]["modulation"] for run in (pieces, whole))
    assert found == pytest.approx(expected, abs=1e-4)
    torch.testing.assert_close(pieces[0].state_dict(), whole[0].state_dict(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("method", "other"), [("ogm", "ogm-ge"), ("ogm", "concat"), ("pmr", "ogm"), ("concat", "pmr")]
)
def test_a_checkpoint_of_another_static_method_is_refused(method, other, tmp_path):
    data, path = small_data(), tmp_path / "run.pt"
    trained(data, method, checkpoint=path)
    with pytest.raises(ValueError, match=r"checkpoint: .*run\.pt is of"):
        trained(data, other, checkpoint=path)


def kept_weights(method, seed, run):
    return {
        "weights": run.model.state_dict(),
        "losses": [epoch["train_loss"] for epoch in run.result.history],
    }


def test_a_sweep_trains_each_as_it_is_trained_alone(tmp_path):
    path = tmp_path / "three.npz"
    given = arrays()
    masks = {f"{name}_padding": mask for name, mask in given["masks"].items()}
    np.savez(path, **given["inputs"], **masks, labels=given["labels"])
    methods = (*STATIC, "unimodal-text")
    rows = sweep(str(path), SETTING, (0, 1), report=kept_weights, methods=methods, progress=False)
    assert [(row["seed"], row["method"]) for row in rows] == [
        (s, m) for s in (0, 1) for m in methods
    ]
    for row in rows:
        data = load_dataset(str(path), seed=row["seed"])
        alone = train(row["method"], data, setting=SETTING, seed=row["seed"])
        expected = kept_weights(row["method"], row["seed"], alone)
        # Trained as one batch, runs differ by rounding.
        torch.testing.assert_close(row["weights"], expected["weights"], atol=1e-5, rtol=1e-5)
        assert row["losses"] == pytest.approx(expected["losses"], rel=1e-5)


@pytest.mark.parametrize("method", ["ogm", "ogm-ge", "pmr"])
def test_what_has_a_hand_in_gradients_or_losses_is_no_part_of_a_stack(method):
    _, _, observers = prepare(method, small_data(), SETTING, 0)
    assert not any(observer.stacks for observer in observers)
    assert observers[0].name == method


def test_methods_for_leaves_out_those_whose_modality_is_not_there():
    assert set(methods_for(("audio", "visual"))) == set(METHODS) - {"unimodal-text"}
    assert set(methods_for(("audio", "visual", "text"))) == set(METHODS)
    assert "unimodal-audio" not in methods_for(("touch", "visual"))
    with pytest.raises(ValueError, match=r"modalities: got \['text'\]"):
        train("unimodal-text", small_data(), setting=SETTING)


def test_a_unimodal_model_has_and_reads_one_modality_only():
    data = three_modalities()
    model = prepare("unimodal-text", data, SETTING, 0).model
    assert model.modalities == ("text",)
    inputs, _ = data.test.__getitems__(range(6))
    alone = model({"text": inputs["text"], "text_padding": inputs["text_padding"]})
    changed = {**inputs, "audio": inputs["audio"] + 100}
    assert torch.equal(model(changed).fusion.logits, alone.fusion.logits)
    assert model.fusion.head.in_features == SETTING.dim


def test_at_one_seed_static_methods_start_from_the_same_weights():
    data = three_modalities()
    states = [prepare(m, data, replace(SETTING), 3).model.state_dict() for m in STATIC[2:]]
    for state in states[1:]:
        assert_same_state(states[0], state)
