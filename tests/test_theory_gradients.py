"""The two gradient paths: their sum is autograd's gradient, and they follow attention."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rollingq_core.theory import gradient_paths, path_sizes
from tests.small import small_data, small_model


def drawn(seed, batch, tokens, dim):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((batch, dim), (batch, tokens, dim), (dim,), (dim, dim), (dim, dim))
    return [torch.randn(*s, generator=generator, dtype=torch.float64) for s in shapes]


def textbook(upstream, z, q, key_map, value_map):
    """The loss whose gradient is asked for, from Eq. 1 and 2."""
    keys, values = z @ key_map, z @ value_map
    row = torch.softmax(keys @ q / q.shape[-1] ** 0.5, dim=-1)
    return (upstream * (row.unsqueeze(-1) * values).sum(1)).sum(), row


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 9), st.integers(1, 12))
def test_paths_add_up_to_the_gradient(seed, batch, tokens, dim):
    upstream, z, *rest = drawn(seed, batch, tokens, dim)
    paths = gradient_paths(upstream, z, *rest)
    z.requires_grad_()
    (expected,) = torch.autograd.grad(textbook(upstream, z, *rest)[0], z)
    assert (paths.value + paths.key - expected).norm() <= 1e-10 * expected.norm()


def test_each_path_is_the_gradient_with_the_other_held_still():
    upstream, z, q, key_map, value_map = drawn(0, 2, 5, 4)
    paths = gradient_paths(upstream, z, q, key_map, value_map)
    moving = z.clone().requires_grad_()
    for path, keys, values in ((paths.value, z, moving), (paths.key, moving, z)):
        row = torch.softmax(keys @ key_map @ q / 2, dim=-1)
        loss = (upstream * (row.unsqueeze(-1) * (values @ value_map)).sum(1)).sum()
        torch.testing.assert_close(path, torch.autograd.grad(loss, moving)[0])


def test_value_path_is_shared_out_as_attention_and_key_path_cancels():
    upstream, z, q, key_map, value_map = drawn(1, 3, 6, 5)
    paths = gradient_paths(upstream, z, q, key_map, value_map)
    row = textbook(upstream, z, q, key_map, value_map)[1]
    norms = paths.value.norm(dim=-1)
    torch.testing.assert_close(norms / norms.sum(1, keepdim=True), row)
    torch.testing.assert_close(paths.key.sum(1), torch.zeros(3, 5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("place", "value", "name"),
    [
        (0, torch.ones(3, 4), "upstream"),
        (1, torch.ones(2, 4), "tokens"),
        (2, torch.ones(5), "query"),
        (3, torch.ones(4, 3), "key_map"),
        (4, torch.ones(3, 3), "value_map"),
        (1, torch.full((2, 5, 4), torch.nan), "tokens"),
    ],
)
def test_what_does_not_fit_is_refused(place, value, name):
    arguments = [t.float() for t in drawn(0, 2, 5, 4)]
    arguments[place] = value
    with pytest.raises(ValueError, match=f"^{name}: got"):
        gradient_paths(*arguments)


@pytest.mark.parametrize("options", [{}, {"output_projection": False}, {"bias": False}])
def test_sizes_in_a_model_are_those_of_autograd(options):
    model, data = small_model(**options).double(), small_data().train
    inputs = {name: x[:6].double() for name, x in data.inputs.items()}
    labels = data.labels[:6]
    with torch.no_grad():
        model.fusion.rotation.rotate(torch.linalg.qr(torch.randn(8, 8).double()).Q)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    found = path_sizes(model, inputs, labels)

    tokens = [model.encoders[name](x).detach().requires_grad_() for name, x in inputs.items()]
    output = model.fusion(tokens)
    loss = torch.nn.functional.cross_entropy(output.logits, labels, reduction="sum")
    gradients = torch.autograd.grad(loss, tokens)
    expected = torch.stack([g.norm(dim=-1).sum(1).mean() for g in gradients])
    torch.testing.assert_close(found.total, expected)
    torch.testing.assert_close(found.share, output.share.mean(0).detach())
    assert (found.value + found.key >= found.total).all()
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.training


@pytest.mark.parametrize("options", [{"mode": "uniform"}, {"num_heads": 2}, {"cls_self_key": True}])
def test_layers_that_the_formula_does_not_cover_are_refused(options):
    data = small_data().train
    with pytest.raises(ValueError, match=r"^model: got a fusion"):
        path_sizes(small_model(**options), data.inputs, data.labels)
