"""Attention averaged in blocks (QUAG, Table 9)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rollingq_core.data import PairedDataset, load_dataset
from rollingq_core.evaluation import averaging, quag
from rollingq_core.evaluation.quag import averaged, blocks_of
from rollingq_core.methods import METHODS
from rollingq_core.models.predictions import predict
from rollingq_core.models.small import build_model
from rollingq_core.settings import SETTINGS
from tests.small import small_data, small_model

NAMES = ("audio", "visual")
GROUPS = torch.tensor([0, 0, 1, 1])
TOY = torch.tensor(
    [[0.4, 0.2, 0.3, 0.1], [0.1, 0.1, 0.2, 0.6], [0.25, 0.25, 0.4, 0.1], [0.0, 0.6, 0.1, 0.3]]
)
SPEC = {
    "unimodal": [[0.3, 0.3, 0.3, 0.1], [0.1, 0.1, 0.2, 0.6], [0.25] * 4, [0, 0.6, 0.2, 0.2]],
    "crossmodal": [
        [0.4, 0.2, 0.2, 0.2],
        [0.1, 0.1, 0.4, 0.4],
        [0.25, 0.25, 0.4, 0.1],
        [0.3, 0.3, 0.1, 0.3],
    ],
    "average audio": [
        [0.3, 0.3, 0.3, 0.1],
        [0.1, 0.1, 0.2, 0.6],
        [0.25, 0.25, 0.4, 0.1],
        [0.3, 0.3, 0.1, 0.3],
    ],
    "average visual": [[0.4, 0.2, 0.2, 0.2], [0.1, 0.1, 0.4, 0.4], [0.25] * 4, [0, 0.6, 0.2, 0.2]],
}


@pytest.mark.parametrize("operation", SPEC)
def test_the_specs_toy(operation):
    made = averaged(TOY, GROUPS, GROUPS, blocks_of(operation, NAMES))
    torch.testing.assert_close(made, torch.tensor(SPEC[operation]))


@given(st.integers(0, 2**32 - 1), st.sampled_from(["unimodal", "crossmodal", "average all"]))
def test_sums_of_rows_stay_and_padding_stays_empty(seed, operation):
    generator = torch.Generator().manual_seed(seed)
    groups = torch.tensor([-1, 0, 0, 0, 1, 1, 2])
    padded = torch.rand(5, 7, generator=generator) < 0.4
    padded[:, 0] = False
    logits = torch.randn(5, 2, 7, 7, generator=generator, dtype=torch.float64)
    hidden = padded[:, None, None]
    weights = logits.masked_fill(hidden, -torch.inf).softmax(dim=-1)
    made = averaged(weights, groups, groups, blocks_of(operation, ("a", "v", "t")), hidden)
    torch.testing.assert_close(made.sum(-1), weights.sum(-1))
    assert made.masked_select(hidden.expand_as(made)).abs().sum() == 0
    if operation != "average all":
        assert torch.equal(made[..., 0, :], weights[..., 0, :])  # the class token's row
    assert torch.equal(made[..., 0], weights[..., 0])  # and its column


def test_one_layer_has_no_row_but_the_class_tokens():
    data, model = small_data(), small_model(cls_self_key=True)
    told = quag(model, data.test)
    assert told.unimodal == told.crossmodal == told.accuracy
    plain = predict(model, data.test)
    with averaging(model, "average all"):
        even = model({name: values[:9] for name, values in data.test.inputs.items()})
    spread = even.fusion.attention.unflatten(-1, (2, 4))
    torch.testing.assert_close(spread, spread.mean(-1, keepdim=True).expand_as(spread))
    torch.testing.assert_close(even.fusion.share, plain.share[:9])
    after = predict(model, data.test)
    assert torch.equal(after.logits, plain.logits)  # nothing is left behind


def test_rows_that_are_formed_for_a_hook_give_the_same_answers():
    data = load_dataset("synthetic", tokens=5, train_samples=9, test_samples=20)
    model = build_model(data, SETTINGS["T"], 0, fusion=METHODS["mt2"].fusion)
    padding = {"audio": torch.rand(20, 5) < 0.5}
    dataset = PairedDataset(data.test.inputs, data.test.labels, padding)
    plain = predict(model, dataset)
    seen = []
    handle = model.fusion.blocks[0].attention.weights.register_forward_hook(
        lambda module, args, weights: seen.append(weights.shape[1:])
    )
    hooked = predict(model, dataset)
    handle.remove()
    assert seen == [(1, 11, 11)]
    torch.testing.assert_close(hooked.logits, plain.logits)


def test_two_layers_are_changed_in_each_way():
    data = load_dataset("synthetic", tokens=5, train_samples=9, test_samples=50)
    model = build_model(data, SETTINGS["T"], 0, fusion=METHODS["mt2"].fusion)
    plain = predict(model, data.test).logits
    for operation in SPEC:
        with averaging(model, operation):
            made = predict(model, data.test).logits
        assert not torch.allclose(made, plain, atol=1e-6), operation
    assert [*quag(model, data.test).average] == [*NAMES, "all"]


@pytest.mark.parametrize("method", ["concat", "mult-joint", "mmml"])
def test_attention_between_streams_is_refused(method):
    data = small_data()
    model = build_model(data, SETTINGS["T"], 0, fusion=METHODS[method].fusion)
    with pytest.raises(ValueError, match=r"model: got .*, expected a fusion with attention"):
        quag(model, data.test)


def test_an_unknown_operation_is_refused():
    with pytest.raises(ValueError, match="operation: got 'bimodal'"):
        blocks_of("bimodal", NAMES)
