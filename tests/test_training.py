"""The training loop: schedule, history, rotations, selection and determinism."""

import json
import math
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_pre_hook

from rollingq_core import RollingQ, attention_imbalance_rate
from rollingq_core.balancing import Rolling
from rollingq_core.models.predictions import predict
from rollingq_core.settings import TrainingConfig
from rollingq_core.training import loop as training
from rollingq_core.training.checkpoint import load_checkpoint
from rollingq_core.training.loop import fit, total_loss
from rollingq_core.training.optimisation import learning_rate_factor
from tests.small import DROPOUT, TRAINING, assert_same_state, small_data, small_model, train

# Small enough that float32 weights do not move.
STILL = replace(TRAINING, lr=1e-30, epochs=1, pretrain_epochs=0)
FUSION_KEYS = {
    "train_accuracy", "validation_loss", "validation_accuracy", "air", "query_norm", "share",
    "cosines", "rotation",
}  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return small_data()


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0), (131, 5e-4), (262, 1e-3), (1575, 5.7101e-4), (3150, 0)]
)
def test_learning_rate_of_the_papers_schedule(step, expected):
    rate = 1e-3 * learning_rate_factor(step, total=3150, warmup=262)
    assert rate == pytest.approx(expected, abs=5e-9)


def test_warmup_and_one_cosine_over_both_stages(data):
    config = replace(TRAINING, epochs=2, pretrain_epochs=2, warmup_epochs=1.5, lr=0.02)
    rates = []
    hook = register_optimizer_step_pre_hook(
        lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"])
    )
    try:
        _, result, _ = train(data, config)
    finally:
        hook.remove()
    # 80 samples in batches of 32 are 3 steps an epoch; int(1.5 * 3) warm up.
    expected = [0.02 * s / 4 for s in range(4)]
    expected += [0.01 * (1 + math.cos(math.pi * (s - 4) / 8)) for s in range(4, 12)]
    assert rates == pytest.approx(expected)
    assert [epoch["lr"] for epoch in result.history] == pytest.approx(expected[::3])


def test_each_finished_epoch_is_told(data, tmp_path):
    told, path = [], tmp_path / "run.pt"

    def tell(record):
        assert load_checkpoint(path)["history"][-1] == record
        told.append(record)

    _, result, _ = train(data, checkpoint=path, on_epoch=tell)
    assert told == result.history
    assert [record["epoch"] for record in told] == [0, 1, 2, 3]


def test_same_seed_gives_the_same_bits(data):
    runs = [train(data, fusion=DROPOUT, rolling={}) for _ in range(2)]
    assert_same_state(runs[0][0].state_dict(), runs[1][0].state_dict())
    assert runs[0][1] == runs[1][1]


def test_training_mode_is_switched_on(data):
    expected, _, _ = train(data, fusion=DROPOUT)
    model = small_model(**DROPOUT).eval()
    fit(model, data, TRAINING)
    assert_same_state(model.state_dict(), expected.state_dict())


def test_two_steps_by_hand(data):
    config = replace(STILL, epochs=2, lr=0.1, momentum=0.7, weight_decay=0.5, batch_size=80)
    model, _, _ = train(data, config)
    expected = small_model()
    velocity = {name: 0 for name, _ in expected.named_parameters()}
    for rate in (0.1, 0.05):  # halfway, the cosine is at one half
        expected.zero_grad()
        output = expected(data.train.inputs)
        logits = [output.fusion.logits, *output.probes.values()]
        sum(cross_entropy(x, data.train.labels) for x in logits).backward()
        for name, parameter in expected.named_parameters():
            velocity[name] = 0.7 * velocity[name] + parameter.grad + 0.5 * parameter.detach()
            parameter.data -= rate * velocity[name]
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), atol=1e-6, rtol=1e-5)


def test_another_seed_gives_another_run(data):
    first, second = (train(data, replace(TRAINING, seed=seed))[1].history for seed in (0, 1))
    assert [a["train_loss"] for a in first] != [b["train_loss"] for b in second]


def test_each_epoch_has_an_order_of_its_own(data, monkeypatch):
    seen = []
    original = total_loss
    monkeypatch.setattr(
        training, "total_loss", lambda out, y: seen.append(y.tolist()) or original(out, y)
    )
    train(data)
    epochs = [list(chain(*seen[i : i + 3])) for i in range(0, len(seen), 3)]
    assert all(sorted(epoch) == sorted(data.train.labels.tolist()) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_history_has_the_promised_keys(data):
    _, result, _ = train(data, rolling={"max_rotations": 1})
    common = {"epoch", "stage", "lr", "train_loss", "gradient_norm"}
    assert [epoch["stage"] for epoch in result.history] == ["pretraining"] + ["fusion"] * 3
    assert [epoch["epoch"] for epoch in result.history] == [0, 1, 2, 3]
    assert set(result.history[0]) == common
    for epoch in result.history[1:]:
        assert set(epoch) == common | FUSION_KEYS
        assert sum(epoch["share"].values()) == pytest.approx(1, abs=1e-6)
        assert set(epoch["gradient_norm"]) == set(epoch["cosines"]) == {"audio", "visual"}
    json.dumps(result.history, allow_nan=False)


def test_on_epoch_sees_each_epoch_once_its_checkpoint_is_written(data, tmp_path):
    path, seen = tmp_path / "run.ckpt", []

    def look(record):
        assert load_checkpoint(path)["history"][-1] == record
        seen.append(record)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, rolling={}, checkpoint=path, on_epoch=look)
    _, result, _ = train(data, rolling={}, checkpoint=path, on_epoch=seen.append)
    assert seen == result.history
    assert result == train(data, rolling={})[1]


def test_pretraining_leaves_the_fusion_layer_alone(data):
    model, before = small_model(), small_model().state_dict()
    first = {}

    def remember(*_):
        if not first:
            first.update({k: v.clone() for k, v in model.state_dict().items()})

    model.fusion.register_forward_pre_hook(remember)
    fit(model, data, replace(TRAINING, pretrain_epochs=2))
    for name, value in first.items():
        assert torch.equal(value, before[name]) is name.startswith("fusion."), name


def test_pretraining_lowers_the_probes_loss(data):
    _, result, _ = train(data, replace(TRAINING, pretrain_epochs=6, epochs=1))
    losses = [epoch["train_loss"] for epoch in result.history[:6]]
    assert losses[-1] < 0.8 * losses[0]


def test_epoch_statistics_of_a_model_that_stands_still(data):
    model, result, _ = train(data, STILL)
    torch.testing.assert_close(model.state_dict(), small_model().state_dict(), atol=1e-25, rtol=0)
    found, record = predict(model, data.train), result.history[0]
    cosines = found.cosines.double().mean(0)
    assert record["train_loss"] == pytest.approx(found.loss, abs=1e-6)
    assert record["train_accuracy"] == pytest.approx(found.accuracy, abs=1e-6)
    assert record["air"] == pytest.approx(float(cosines[0] - cosines[1]), abs=1e-6)
    assert record["query_norm"] == pytest.approx(float(found.query.norm()), abs=1e-5)
    expected = dict(zip(model.modalities, found.share.mean(0).tolist(), strict=True))
    assert record["share"] == pytest.approx(expected, abs=1e-6)
    expected = dict(zip(model.modalities, cosines.tolist(), strict=True))
    assert record["cosines"] == pytest.approx(expected, abs=1e-6)
    judged = predict(model, data.validation)
    assert (record["validation_loss"], record["validation_accuracy"]) == (
        judged.loss,
        judged.accuracy,
    )


def test_gradient_norm_is_that_of_each_encoder(data):
    _, result, _ = train(data, replace(STILL, batch_size=80))
    model = small_model()
    cross_entropy(model(data.train.inputs).fusion.logits, data.train.labels).backward()
    for name, encoder in model.encoders.items():
        flat = torch.cat([p.grad.flatten() for p in encoder.parameters()])
        assert result.history[0]["gradient_norm"][name] == pytest.approx(float(flat.norm()), 1e-5)


def test_air_is_that_of_the_training_batches_as_they_went_by(data):
    seen = []

    class Spy(RollingQ):
        def observe(self, output):
            seen.append((output.query.double(), output.mean_keys.double()))
            super().observe(output)

    model = small_model()
    spy = Spy(model.fusion, rho=3.0, beta=0.0, max_rotations=2)
    result = fit(model, data, replace(TRAINING, epochs=2), observers=[Rolling(spy)])
    assert len(seen) == 2 * 3
    for index, record in enumerate(result.history[1:]):
        query, keys = (torch.cat(x) for x in zip(*seen[3 * index : 3 * index + 3], strict=True))
        air = float(attention_imbalance_rate(query, keys[:, 0], keys[:, 1]))
        assert record["air"] == pytest.approx(air, abs=1e-9)


def test_vanilla_is_rollingq_without_rotations(data):
    vanilla, plain, _ = train(data)
    watched, other, rolling = train(data, rolling={"max_rotations": 0})
    assert_same_state(vanilla.state_dict(), watched.state_dict())
    assert plain == other
    assert rolling.events == []


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        ({"max_rotations": 2, "start_epoch": 1, "spacing": 2}, [1, 3]),
        ({"max_rotations": 9, "start_epoch": 3}, [3, 4]),
        ({"max_rotations": 9, "beta": 2.5}, []),
    ],
)
def test_rotations_happen_as_set_and_stand_in_the_history(data, options, epochs):
    model, result, rolling = train(data, replace(TRAINING, epochs=5), rolling=options)
    assert [event.epoch for event in rolling.events] == epochs
    found = [record["rotation"] for record in result.history if record.get("rotation")]
    assert found == [asdict(event) for event in rolling.events]
    for record in result.history[1:]:
        event = record["rotation"]
        assert (record["epoch"] - 1 in epochs) is (event is not None)
        if event:
            assert event["air"] == record["air"]
            assert event["query_norm"] == pytest.approx(record["query_norm"])
    assert int(model.fusion.rotation.count) == len(epochs)
    turned = not torch.equal(model.fusion.rotation.matrix, torch.eye(8))
    assert turned is bool(epochs)


@pytest.mark.parametrize(("selection", "chosen"), [("best", 3), ("last", 5)])
def test_selection_restores_the_weights_of_its_epoch(data, monkeypatch, selection, chosen):
    # Epoch 0 is pretraining. At equal accuracy the lower loss wins, at equal loss the first.
    scores = iter([(0.5, 1.0), (0.7, 2.0), (0.7, 1.5), (0.7, 1.5), (0.6, 0.1)])
    states = {}

    def judge(model, dataset):
        assert dataset is data.validation
        states[len(states) + 1] = {k: v.clone() for k, v in model.state_dict().items()}
        return SimpleNamespace(**dict(zip(("accuracy", "loss"), next(scores), strict=True)))

    monkeypatch.setattr(training, "predict", judge)
    config = replace(TRAINING, epochs=5, selection=selection)
    model, result, _ = train(data, config, rolling={"max_rotations": 9})
    assert result.selected_epoch == chosen
    assert_same_state(model.state_dict(), states[chosen])
    assert not torch.equal(model.fusion.head.weight, states[8 - chosen]["fusion.head.weight"])


def test_loss_that_is_not_finite_is_named(data, tmp_path, monkeypatch):
    path = tmp_path / "run.ckpt"
    steps = iter(range(99))

    def diverging(output, labels):
        return total_loss(output, labels) * (math.nan if next(steps) == 5 else 1)

    monkeypatch.setattr(training, "total_loss", diverging)
    with pytest.raises(ValueError, match="loss: got nan in epoch 1, expected finite"):
        train(data, replace(TRAINING, pretrain_epochs=3), checkpoint=path)
    assert len(load_checkpoint(path)["history"]) == 1


def test_divergence_in_fusion_is_an_error(data):
    with pytest.raises(ValueError, match="finite"):
        train(data, replace(TRAINING, pretrain_epochs=0, lr=1e30))


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0}, {"pretrain_epochs": -1}, {"batch_size": 0}, {"lr": 0.0},
        {"momentum": -0.1}, {"weight_decay": -1.0}, {"warmup_epochs": math.nan},
        {"selection": "first"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)  # fmt: skip
def test_wrong_setting_is_named(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: got .*, expected"):
        TrainingConfig(**wrong)


def test_mixed_precision_trains_and_keeps_the_rotation_exact(data):
    model, result, rolling = train(data, rolling={}, precision="bf16-mixed")
    assert len(rolling.events) == 2
    matrix = model.fusion.rotation.matrix
    assert matrix.dtype == torch.float32
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(8), atol=1e-6, rtol=0)
    assert math.isfinite(result.history[-1]["validation_loss"])


def assert_same_training(found, expected):
    (model, result, rolling), (other, other_result, other_rolling) = found, expected
    torch.testing.assert_close(model.state_dict(), other.state_dict(), atol=1e-5, rtol=0)
    for one, two in zip(result.history, other_result.history, strict=True):
        assert list(one) == list(two)
        for name in ("train_loss", "gradient_norm", "air", "share", "cosines", "validation_loss"):
            if name in two:
                assert one[name] == pytest.approx(two[name], abs=1e-5), name
    assert [event.epoch for event in rolling.events] == [e.epoch for e in other_rolling.events]


@pytest.mark.parametrize("accumulate", [2, 5, 99])
@pytest.mark.parametrize("estimate", ["epoch", "last_batch"])
def test_pieces_of_a_batch_train_as_the_whole(data, accumulate, estimate):
    # 80 samples in batches of 32: the last has 16, which 5 does not divide.
    config, rolling = replace(TRAINING, warmup_epochs=1.5), {"estimate": estimate}
    whole = train(data, config, rolling=rolling)
    assert_same_training(train(data, config, rolling=rolling, accumulate=accumulate), whole)


def test_pieces_are_as_small_as_asked(data, monkeypatch):
    sizes = []
    original = total_loss
    monkeypatch.setattr(
        training, "total_loss", lambda out, y: sizes.append(len(y)) or original(out, y)
    )
    train(data, STILL, accumulate=4)
    assert sizes == [8] * 8 + [4] * 4


def test_readers_hand_out_the_same_batches(data):
    alone, helped = (train(data, STILL, rolling={}, workers=n) for n in (0, 1))
    assert alone[1] == helped[1]
    assert_same_state(alone[0].state_dict(), helped[0].state_dict())


def test_clip_bounds_the_step_and_not_the_history(data):
    config = replace(STILL, lr=1.0, momentum=0.0, weight_decay=0.0, batch_size=80)
    moved, norms = [], []
    for clip in (None, 0.5, 1e9):
        model, result, _ = train(data, config, clip=clip)
        before = dict(small_model().named_parameters())
        steps = [(p - before[name]).detach().flatten() for name, p in model.named_parameters()]
        moved.append(torch.cat(steps).norm())
        norms.append(result.history[0]["gradient_norm"])
    assert moved[1] == pytest.approx(0.5, rel=1e-4)
    assert moved[0] > 1
    assert moved[0] == moved[2]
    assert norms[0] == norms[1] == norms[2]


def test_compiled_model_trains_as_the_plain_one(data, monkeypatch):
    config = replace(TRAINING, epochs=2)
    # The default backend needs a compiler, and a minute.
    traced = []

    def backend(graph, example_inputs):
        traced.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    torch.compiler.reset()
    try:
        compiled = train(data, config, rolling={}, compile=True)
    finally:
        torch.compiler.reset()
    assert traced
    assert_same_training(compiled, train(data, config, rolling={}))
    assert list(compiled[0].state_dict()) == list(small_model().state_dict())


@pytest.mark.parametrize("option", [{"accumulate": 0}, {"clip": 0.0}])
def test_wrong_option_is_named(data, option):
    (name,) = option
    with pytest.raises(ValueError, match=f"{name}: got .*, expected"):
        train(data, **option)


def test_it_learns(data):
    data = small_data(train_samples=600, test_samples=400, audio_strength=5.0)
    config = TrainingConfig(epochs=8, batch_size=32, lr=0.02)
    for rolling in (None, {}):
        model, result, _ = train(data, config, rolling=rolling)
        assert predict(model, data.test).accuracy > 0.8  # chance is 0.25
        assert result.history[-1]["train_loss"] < 0.5 * result.history[0]["train_loss"]
