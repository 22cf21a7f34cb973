"""Modalities masked out of a trained fusion (Table 8)."""

import pytest
import torch

from rollingq_core import AttentionFusion
from rollingq_core.data import PairedDataset
from rollingq_core.evaluation import EVALUATIONS, hidden, masked_accuracy
from rollingq_core.methods import METHODS
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.models.predictions import predict
from rollingq_core.models.small import build_model
from rollingq_core.settings import SETTINGS
from tests.small import small_data, small_model

AUDIO = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
VISUAL = torch.tensor([[[1.0, 1.0], [-1.0, 0.0], [0.0, 0.0]]])


def toy() -> MultimodalModel:
    """Return a model of identity maps, whose class token [1, 0] is a key, too."""
    fusion = AttentionFusion(2, 2, bias=False, output_projection=False, cls_self_key=True)
    with torch.no_grad():
        for layer in (fusion.q_proj, fusion.k_proj, fusion.v_proj):
            layer.weight.copy_(torch.eye(2))
        fusion.cls.copy_(torch.tensor([1.0, 0.0]))
    encoders = {"audio": torch.nn.Identity(), "visual": torch.nn.Identity()}
    for encoder in encoders.values():
        encoder.dim = 2
    return MultimodalModel(encoders, fusion, 2)


@pytest.mark.parametrize(
    ("masked", "expected"),
    [
        ("visual", [0.401112, 0.197776, 0, 0, 0]),
        ("audio", [0, 0, 0.365472, 0.088853, 0.180203]),
    ],
)
def test_the_specs_toy(masked, expected):
    model = toy()
    with hidden(model, [masked]):
        attention = model({"audio": AUDIO, "visual": VISUAL}).fusion.attention[0, 0]
    torch.testing.assert_close(attention, torch.tensor(expected), atol=1e-6, rtol=0)
    after = model({"audio": AUDIO, "visual": VISUAL}).fusion.share.detach().sum()
    assert float(after) == pytest.approx(0.353034 + 0.410518, abs=1e-6)  # as it was before


@pytest.mark.parametrize("method", [name for name in METHODS if "unimodal" not in name])
def test_what_is_hidden_changes_no_answer(method):
    data = small_data()
    model = build_model(data, SETTINGS["T"], 0, fusion=METHODS[method].fusion)
    other = data.test.with_inputs(audio=torch.randn(60, 4, 8))
    with hidden(model, ["audio"]):
        left, right = predict(model, data.test), predict(model, other)
    assert torch.equal(left.logits, right.logits)
    assert not torch.equal(predict(model, other).logits, predict(model, data.test).logits)


def test_of_three_modalities_each_is_left_alone_and_out():
    inputs = {name: torch.randn(9, 4, 8) for name in ("audio", "visual", "text")}
    data = PairedDataset(inputs, torch.arange(9) % 2)
    torch.manual_seed(0)
    encoders = {name: small_model().encoders["audio"] for name in inputs}
    model = MultimodalModel(encoders, AttentionFusion(8, 2), 2)
    told = masked_accuracy(model, data)
    assert [*told.alone] == [*told.without] == [*inputs]
    with hidden(model, ["audio", "text"]):
        assert told.alone["visual"] == predict(model, data).accuracy
    with hidden(model, ["visual"]):
        assert told.without["visual"] == predict(model, data).accuracy


def test_samples_that_lack_what_is_seen_do_not_count():
    lacking = torch.zeros(6, 4, dtype=torch.bool)
    lacking[:2] = True
    whole = small_data().test
    inputs = {name: values[:6] for name, values in whole.inputs.items()}
    data = PairedDataset(inputs, whole.labels[:6], {"audio": lacking})
    rest = PairedDataset({n: v[2:] for n, v in inputs.items()}, whole.labels[2:6])
    model = small_model()
    told, of_rest = (masked_accuracy(model, samples).alone for samples in (data, rest))
    assert told["audio"] == of_rest["audio"]
    nothing = PairedDataset(inputs, whole.labels[:6], {"audio": torch.ones(6, 4).bool()})
    told = masked_accuracy(model, nothing)
    assert told.alone["audio"] is None
    assert told.alone["visual"] == told.accuracy


@pytest.mark.parametrize("modalities", ["audio", ["sound"], ["audio", "visual"]])
def test_what_can_not_be_hidden_is_refused(modalities):
    with pytest.raises(ValueError, match="modalities: got"), hidden(small_model(), modalities):
        pass


def test_one_modality_and_no_sample_are_refused():
    data = small_data()
    model = build_model(data, SETTINGS["T"], 0, modalities=("audio",))
    with pytest.raises(ValueError, match="expected at least 2"):
        EVALUATIONS["masks"](model, data.test, "audio")
    empty = PairedDataset({n: v[:0] for n, v in data.test.inputs.items()}, data.test.labels[:0])
    with pytest.raises(ValueError, match="dataset: got no sample"):
        masked_accuracy(small_model(), empty)
