"""RollingQ watches the model that is trained, and no other; what is validated is what is saved."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from rollingq_core import RollingQ
from rollingq_core.balancing import Rolling
from rollingq_core.models.predictions import predict
from rollingq_core.runs.replica import Replica
from rollingq_core.runs.replicas import fit_replicas
from rollingq_core.training.checkpoint import load_checkpoint
from rollingq_core.training.loop import fit
from tests.small import TRAINING, small_data, small_model, train

REFUSED = (
    r"rolling: got one bound to a layer outside of this model \(d = 8, \d rotations so far\), "
    r"expected it bound to the AttentionFusion that is trained here: RollingQ\(model.fusion, ...\)"
)


@pytest.fixture(scope="module")
def data():
    return small_data()


def rolling_on(layer):
    return [Rolling(RollingQ(layer, 3.0, 0.0, 2))]


def other_model(model):
    return small_model()


def copied(model):
    return copy.deepcopy(model)


@pytest.mark.parametrize("another", [other_model, copied])
def test_a_rollingq_of_another_model_is_refused(data, another):
    model = small_model()
    other = another(model)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    for call in (
        lambda: fit(model, data, TRAINING, observers=rolling_on(other.fusion)),
        lambda: fit_replicas([Replica(model, data, TRAINING, rolling_on(other.fusion))]),
        lambda: fit(model, data, TRAINING, observers=rolling_on(other.fusion.rotation)),
    ):
        with pytest.raises(ValueError, match=REFUSED):
            call()
    assert int(other.fusion.rotation.count) == 0
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_replicas_do_not_share_a_rollingq(data):
    models = [small_model(), small_model()]
    shared = rolling_on(models[0].fusion)
    with pytest.raises(ValueError, match=REFUSED):
        fit_replicas([Replica(model, data, TRAINING, shared) for model in models])


def test_whatever_the_model_is_wrapped_in_its_own_layer_is_found(data, monkeypatch):
    for bind in (lambda m: m.fusion, lambda m: m.fusion.rotation):
        model = small_model()
        (rolling,) = rolling_on(bind(model))
        rolling.require_own(model)
        rolling.require_own(torch.compile(model))
        model.fusion = torch.compile(model.fusion)
        rolling.require_own(model)
        with pytest.raises(ValueError, match="rolling: got one bound to a layer outside"):
            rolling.require_own(torch.compile(small_model()))
    # A copy of the model trains with a RollingQ of the copy.
    twin = copy.deepcopy(small_model())
    fit(twin, data, TRAINING, observers=rolling_on(twin.fusion))
    assert int(twin.fusion.rotation.count) == 2


def test_a_fusion_of_layers_may_have_the_layer_inside(data):
    class Wrapped(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.inner, self.dim = layer, layer.dim

        def forward(self, tokens, **options):
            return self.inner(tokens, **options)

    model = small_model()
    model.fusion = Wrapped(model.fusion)
    fit(model, data, TRAINING, observers=rolling_on(model.fusion.inner))
    assert int(model.fusion.inner.rotation.count) == 2


@pytest.mark.parametrize("options", [{}, {"precision": "bf16-true"}, {"accumulate": 3}])
def test_the_saved_weights_are_the_validated_ones_in_every_epoch(data, tmp_path, options):
    path, turned = tmp_path / "run.pt", []

    def look(record):
        if record["stage"] != "fusion":
            return
        state = load_checkpoint(path)
        model = small_model()
        if "precision" in options:
            model = model.to(torch.bfloat16)
        model.load_state_dict(state["parts"]["model"])
        judged = predict(model, data.validation)
        assert judged.accuracy == record["validation_accuracy"]
        assert judged.loss == record["validation_loss"]
        turned.append(bool(record["rotation"]))
        if record["rotation"]:  # and not those from before the turn
            turn = model.fusion.rotation.matrix
            assert not torch.equal(turn, torch.eye(8, dtype=turn.dtype))
            turn.copy_(torch.eye(8))
            assert predict(model, data.validation).loss != record["validation_loss"]

    config = replace(TRAINING, epochs=4)
    run = partial(train, data, config, rolling={"spacing": 2}, checkpoint=path, on_epoch=look)
    run(**options)
    assert turned == [True, False, True, False]


def test_the_selected_weights_are_those_of_their_epoch(data):
    config = replace(TRAINING, epochs=5, selection="best", lr=0.1)
    model, result, _ = train(data, config, rolling={"max_rotations": 3})
    record = result.history[result.selected_epoch]
    judged = predict(model, data.validation)
    assert (judged.accuracy, judged.loss) == (
        record["validation_accuracy"],
        record["validation_loss"],
    )
