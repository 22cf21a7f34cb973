"""Encoders: which tokens they make, of what, and what they refuse."""

import socket

import pytest
import timm
import torch

from rollingq_core.models.encoders import TokenMLP, small_vit, vit_b16


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the network was used")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@torch.no_grad()
def test_token_mlp_works_token_by_token():
    torch.manual_seed(0)
    encoder = TokenMLP(6, 5, dim=8, hidden=16)
    inputs = torch.randn(3, 5, 6)
    tokens = encoder(inputs)
    assert tokens.shape == (3, 5, 8)
    for place in range(5):
        alone = encoder.norm(encoder.mlp(inputs[:, place]) + encoder.positions[place])
        torch.testing.assert_close(tokens[:, place], alone)


@torch.no_grad()
def test_positions_tell_places_apart():
    inputs = torch.randn(2, 1, 6).expand(-1, 4, -1)
    with_positions, without = TokenMLP(6, 4), TokenMLP(6, 4, positions=False)
    assert not torch.allclose(with_positions(inputs)[:, 0], with_positions(inputs)[:, 1])
    torch.testing.assert_close(without(inputs)[:, 0], without(inputs)[:, 1])
    assert without.positions is None


@torch.no_grad()
def test_grid_is_cut_row_by_row():
    torch.manual_seed(1)
    grid = torch.randn(3, 2, 4, 6)
    by_hand = torch.stack(
        [
            grid[:, :, top : top + 2, left : left + 3].flatten(1)
            for top in (0, 2)
            for left in (0, 3)
        ],
        dim=1,
    )
    cutting, plain = TokenMLP(12, 4, patch=(2, 3)), TokenMLP(12, 4)
    plain.load_state_dict(cutting.state_dict())
    torch.testing.assert_close(cutting(grid), plain(by_hand))


@pytest.mark.parametrize(
    ("patch", "shape"),
    [
        (None, (3, 4, 11)),  # features of a token
        (None, (3, 5, 12)),  # number of tokens
        (None, (4, 12)),  # no batch
        ((2, 3), (3, 2, 6, 6)),  # too many patches
        ((2, 3), (3, 1, 4, 6)),  # channels
        ((2, 3), (3, 2, 1, 6)),  # smaller than a patch
        ((2, 3), (2, 4, 6)),  # no batch
        ((2, 3), (3, 2, 4, 6, 1)),
        ((2, 3), (4, 6)),
    ],
)
def test_wrong_shape_is_named(patch, shape):
    message = rf"inputs: got shape \[{', '.join(map(str, shape))}\], expected .* 4 tokens of 12"
    with pytest.raises(ValueError, match=message):
        TokenMLP(12, 4, patch=patch)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("size", "patch"),
    [((8, 8), (1, 8)), ((28, 28), (4, 28)), ((33, 50), (32, 7)), ((9, 9), (2, 4))],
)
def test_small_vit_counts_whole_patches_and_its_class_token(size, patch):
    with torch.device("meta"):
        tokens = small_vit(size, patch, channels=2, dim=4, depth=1)(torch.zeros(2, 2, *size))
    assert tokens.shape == (2, (size[0] // patch[0]) * (size[1] // patch[1]) + 1, 4)


@torch.no_grad()
def test_vit_tokens_come_after_the_last_norm_with_the_class_token_first():
    torch.manual_seed(2)
    encoder = small_vit((8, 8), (4, 4), dim=16, depth=1).eval()
    grid = torch.randn(2, 1, 8, 8)
    tokens = encoder(grid)
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(2, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.var(-1, correction=0), torch.ones(2, 5), atol=0.02, rtol=0)
    # With no block, only the class token cannot see the input.
    encoder.vit.blocks = torch.nn.Sequential()
    before, after = encoder(grid), encoder(grid + torch.randn(grid.shape))
    torch.testing.assert_close(before[:, 0], after[:, 0])
    assert not torch.allclose(before[:, 1], after[:, 1])


@pytest.mark.parametrize(
    ("size", "channels", "count"), [((257, 188), 1, 177), ((224, 224), 3, 197)]
)
@pytest.mark.usefixtures("no_network")
def test_vit_b16_has_the_papers_tokens_and_parameters(size, channels, count):
    with torch.device("meta"):
        encoder = vit_b16(size, channels=channels, depth=4)
        assert encoder(torch.zeros(2, channels, *size)).shape == (2, count, 768)
    # A block: query, key, value and output maps, an MLP four times as wide, two norms.
    block = 4 * (768 * 768 + 768) + (2 * 4 * 768 * 768 + 5 * 768) + 4 * 768
    stem = channels * 16 * 16 * 768 + 768 + 768 + count * 768
    assert sum(p.numel() for p in encoder.parameters()) == 4 * block + stem + 2 * 768


@pytest.mark.parametrize("depth", [1, 12])
@pytest.mark.usefixtures("no_network")
def test_vit_b16_keeps_the_first_blocks(depth):
    with torch.device("meta"):
        assert len(vit_b16((32, 32), channels=1, depth=depth).vit.blocks) == depth


@pytest.mark.parametrize("depth", [0, 13, -1, float("nan")])
def test_vit_b16_refuses_a_depth_out_of_range(depth):
    with pytest.raises(ValueError, match=r"depth: got .*, expected"):
        vit_b16((32, 32), channels=1, depth=depth)


@pytest.mark.parametrize("pretrained", [False, True])
def test_weights_are_fetched_only_on_request(monkeypatch, pretrained):
    asked = {}

    def create(name, *, pretrained, **options):
        asked.update(name=name, pretrained=pretrained)
        with torch.device("meta"):
            return original(name, pretrained=False, **options)

    original = timm.create_model
    monkeypatch.setattr(timm, "create_model", create)
    vit_b16((32, 32), channels=1, pretrained=pretrained)
    assert asked == {"name": "vit_base_patch16_224.augreg_in21k", "pretrained": pretrained}
