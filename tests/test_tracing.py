"""The layer can be exported, compiled and transformed, with masks and with any batch size."""

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from rollingq_core import (
    AttentionFusion,
    anchor_weight,
    attention_imbalance_rate,
    minimal_rotation,
)

TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])
one_graph = pytest.mark.skipif(TORCH < (2, 9), reason="older compilers don't follow the layer")


class Net(nn.Module):
    def __init__(self, **options):
        super().__init__()
        torch.manual_seed(0)
        self.fusion = AttentionFusion(8, 4, 2, **options)
        self.fusion.rotation.rotate(minimal_rotation(*torch.randn(2, 8)))

    def forward(self, audio, visual, *masks):
        return self.fusion([audio, visual], masks or None)


def batch(size: int, masked: bool) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(size)
    tokens = torch.randn(size, 5, 8), torch.randn(size, 3, 8)
    if not masked:
        return tokens
    masks = torch.rand(size, 5) < 0.4, torch.rand(size, 3) < 0.4
    masks[1][:, 0] = False
    masks[0][0] = True  # one sample without the first modality
    return *tokens, *masks


def assert_same(found, expected):
    for value, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(value, reference, atol=1e-5, rtol=1e-5)


masked = pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])


def dynamic(inputs):
    size = torch.export.Dim("size")
    masks = {"masks": ({0: size}, {0: size})} if len(inputs) > 2 else {}
    return {"audio": {0: size}, "visual": {0: size}, **masks}


@one_graph
@masked
@pytest.mark.parametrize("strict", [False, True])
def test_export_with_a_batch_of_any_size(masked, strict):
    if masked and TORCH < (2, 13):
        pytest.skip("older exporters can't write down what they assume of a mask")
    net, inputs = Net(cls_self_key=True).eval(), batch(4, masked)
    exported = torch.export.export(
        net, inputs, dynamic_shapes=dynamic(inputs), strict=strict
    ).module()
    for size in (4, 7):
        assert_same(exported(*batch(size, masked)), net(*batch(size, masked)))


@one_graph
@pytest.mark.filterwarnings("ignore")  # the exporter's own
@masked
def test_onnx(masked):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    net, inputs = Net().eval(), batch(4, masked)
    program = torch.onnx.export(
        net, inputs, dynamo=True, dynamic_shapes=dynamic(inputs), verbose=False
    )
    assert_same(program(*batch(7, masked)), net(*batch(7, masked)))


@one_graph
@masked
@pytest.mark.parametrize("training", [False, True])
def test_compiled_as_one_graph(masked, training):
    torch._dynamo.reset()
    net = Net().train(training)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    for size in (4, 7):
        inputs = batch(size, masked)
        expected = net(*inputs)
        gradients = torch.autograd.grad(expected.logits.square().sum(), net.parameters())
        found = compiled(*inputs)
        assert_same(found, expected)
        own = torch.autograd.grad(found.logits.square().sum(), net.parameters())
        assert_same(own, gradients)


@one_graph
@pytest.mark.slow
@masked
def test_compiled_to_machine_code(masked):
    torch._dynamo.reset()
    net, inputs = Net().eval(), batch(4, masked)
    assert_same(torch.compile(net, fullgraph=True)(*inputs), net(*inputs))


@one_graph
def test_an_adapted_projection_is_compiled_too():
    torch._dynamo.reset()
    net, inputs = Net().eval(), batch(4, True)
    net.fusion.k_proj = nn.Sequential(net.fusion.k_proj, nn.Tanh())
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    assert_same(compiled(*inputs), net(*inputs))


@masked
def test_traced_by_fx(masked):
    net, inputs = Net().eval(), batch(4, masked)
    graph = make_fx(lambda *inputs: net(*inputs))(*inputs)
    assert_same(graph(*inputs), net(*inputs))


@pytest.mark.filterwarnings("ignore")  # deprecated, and warns of every look at a shape
@masked
def test_traced_by_jit(masked):
    net, inputs = Net().eval(), batch(4, masked)
    traced = torch.jit.trace(net, inputs, check_trace=False)
    assert_same(traced(*batch(7, masked)), net(*batch(7, masked)))


@masked
def test_mapped_over_samples(masked):
    net, inputs = Net().eval(), batch(4, masked)
    found = torch.func.vmap(lambda *one: net(*(x[None] for x in one)))(*inputs)
    assert_same([value.squeeze(1) for value in found], net(*inputs))


def test_the_imbalance_in_a_graph():
    torch._dynamo.reset()
    query, keys_a, keys_v = torch.randn(8), torch.randn(3, 8), torch.randn(3, 8)

    def alpha(*inputs):
        return anchor_weight(attention_imbalance_rate(*inputs), 2.0)

    expected = alpha(query, keys_a, keys_v)
    compiled = torch.compile(alpha, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(query, keys_a, keys_v), expected)
    mapped = torch.func.vmap(alpha)(*(x[None] for x in (query, keys_a, keys_v)))
    torch.testing.assert_close(mapped[0], expected)


def test_what_is_wrong_is_still_refused_outside_a_graph():
    net, (audio, visual, *masks) = Net(), batch(4, True)
    with pytest.raises(ValueError, match="only padding"):
        net(audio, visual, *(torch.ones_like(mask) for mask in masks))
    with pytest.raises(ValueError, match=r"tokens\[1\]: got .* non-finite"):
        net(audio, visual * torch.nan)
