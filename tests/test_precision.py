"""Training and prediction in half, mixed and double precision."""

import json
import math
from dataclasses import replace

import pytest
import torch

from rollingq_core.models.predictions import predict
from rollingq_core.training import loop as training
from rollingq_core.training.loop import total_loss
from rollingq_core.training.meters import gradient_norms
from tests.small import DROPOUT, TRAINING, assert_same_state, small_data, small_model, train

TRUE = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}


@pytest.fixture(scope="module")
def data():
    return small_data()


@pytest.mark.parametrize("precision", [*TRUE, "bf16-mixed"])
def test_training_keeps_finite_numbers_and_validates_what_it_keeps(data, precision):
    model, result, rolling = train(data, rolling={}, precision=precision)
    json.dumps(result.history, allow_nan=False)
    assert len(rolling.events) == 2
    assert model.fusion.head.weight.dtype == TRUE.get(precision, torch.float32)
    assert model.fusion.rotation.matrix.dtype in (torch.float32, torch.float64)
    # The last epoch is kept: what it was recorded with is what the model now says.
    judged, record = predict(model, data.validation), result.history[-1]
    assert record["validation_accuracy"] == judged.accuracy
    assert record["validation_loss"] == judged.loss
    whole = train(data, rolling={})[1].history[-1]
    assert record["train_loss"] == pytest.approx(whole["train_loss"], rel=0.05)


@pytest.mark.parametrize("precision", [*TRUE, "bf16-mixed"])
def test_a_run_that_was_cut_off_goes_on_bit_for_bit(data, tmp_path, monkeypatch, precision):
    options = {"fusion": DROPOUT, "rolling": {}, "precision": precision}
    expected = train(data, **options)
    left = iter(range(8))

    def stopping(output, labels):
        next(left)
        return total_loss(output, labels)

    with monkeypatch.context() as patch:
        patch.setattr(training, "total_loss", stopping)
        with pytest.raises(StopIteration):
            train(data, checkpoint=tmp_path / "run.pt", **options)
    found = train(data, checkpoint=tmp_path / "run.pt", **options)
    assert_same_state(found[0].state_dict(), expected[0].state_dict())
    assert found[1] == expected[1]


def test_an_overflow_in_half_precision_is_a_clear_error(data):
    with pytest.raises(ValueError, match=r"got .* expected finite"):
        train(data, replace(TRAINING, lr=1e4), precision="16-true")


def test_a_gradient_that_overflows_is_named(data, monkeypatch):
    monkeypatch.setattr(training, "gradient_norms", lambda model: torch.tensor([math.inf, 1.0]))
    with pytest.raises(ValueError, match="gradient_norm: got inf in epoch 0, expected finite"):
        train(data)


def test_a_validation_that_overflows_is_named_and_not_kept(data, tmp_path, monkeypatch):
    judge = predict

    def overflowing(model, split):
        found = judge(model, split)
        return found._replace(logits=found.logits * math.nan)

    monkeypatch.setattr(training, "predict", overflowing)
    path = tmp_path / "run.pt"
    with pytest.raises(ValueError, match="validation_loss: got nan in epoch 0, expected finite"):
        train(data, replace(TRAINING, pretrain_epochs=0), checkpoint=path)
    assert not path.exists()


@pytest.mark.parametrize("dtype", TRUE.values())
def test_predictions_of_a_cast_model_are_at_least_float32(data, dtype):
    model = small_model()
    whole, found = predict(model, data.test), predict(model.to(dtype), data.test)
    wide = torch.promote_types(dtype, torch.float32)
    for left, right in zip(found[:-1], whole[:-1], strict=True):
        assert left.dtype == (torch.int64 if right.dtype == torch.int64 else wide)
        torch.testing.assert_close(left, right.to(left.dtype), atol=0.05, rtol=0.05)
    assert math.isfinite(found.loss)


def test_the_mean_query_of_many_samples_does_not_overflow(data):
    model = small_model().half()
    with torch.no_grad():
        model.fusion.q_proj.bias[0] = 3e4  # times 60, more than float16 holds
    assert float(predict(model, data.test).query[0]) == pytest.approx(3e4, rel=1e-2)


def test_gradient_norms_are_not_rounded_to_half_precision():
    model = small_model().half()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3e3)
    expected = [
        3e3 * sum(p.numel() for p in e.parameters()) ** 0.5 for e in model.encoders.values()
    ]
    assert gradient_norms(model).tolist() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("precision", ["32", "bf16", "half", "transformer-engine", 16, None])
def test_an_unknown_precision_is_named(data, precision):
    with pytest.raises(ValueError, match=f"precision: got {precision!r}, expected one of"):
        train(data, precision=precision)
