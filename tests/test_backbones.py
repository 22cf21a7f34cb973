"""ResNet18 and the sequence transformer: their tokens, their padding, and models built of them."""

import pytest
import torch
import torchvision
from torch import nn

from rollingq_core.data import DataSplits, PairedDataset, load_dataset
from rollingq_core.methods import METHODS
from rollingq_core.models.backbones import SequenceTransformer, resnet18, small_resnet
from rollingq_core.models.built import build_resnet_model, build_vit_model
from rollingq_core.settings import SETTINGS
from rollingq_core.training.loop import fit

P = SETTINGS["P"]


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits", seed=0)


@torch.no_grad()
def test_resnet18_is_torchvisions_up_to_its_feature_map():
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(weights=None).eval()
    own = resnet18(3).eval()
    left = own.resnet.load_state_dict(theirs.state_dict(), strict=False)
    assert (left.missing_keys, sorted(left.unexpected_keys)) == ([], ["fc.bias", "fc.weight"])
    pictures = torch.randn(2, 3, 96, 64)
    features = nn.Sequential(*list(theirs.children())[:-2])(pictures)  # [2, 512, 3, 2]
    torch.testing.assert_close(own(pictures), features.flatten(2).mT)


@torch.no_grad()
@pytest.mark.parametrize(
    ("shape", "tokens"),
    [((1, 1, 257, 188), 9 * 6), ((1, 3, 224, 224), 7 * 7), ((1, 3, 3, 224, 224), 3 * 7 * 7)],
)
def test_the_papers_inputs_make_so_many_tokens(shape, tokens):
    encoder = resnet18(shape[1]).eval()
    assert encoder(torch.randn(shape)).shape == (1, tokens, 512)
    assert encoder.dim == 512


@torch.no_grad()
def test_a_clips_tokens_are_those_of_its_frames_in_order():
    torch.manual_seed(0)
    encoder = small_resnet((32, 32), channels=3, dim=8).eval()
    clip = torch.randn(2, 3, 4, 32, 32)
    by_frame = [encoder(clip[:, :, frame]) for frame in range(4)]
    torch.testing.assert_close(encoder(clip), torch.cat(by_frame, dim=1))


@torch.no_grad()
@pytest.mark.parametrize(("size", "tokens"), [((8, 8), 4), ((16, 24), 4 * 6), ((64, 64), 8 * 8)])
def test_a_small_resnet_keeps_places_of_small_pictures(size, tokens):
    encoder = small_resnet(size, dim=8).eval()
    assert encoder(torch.randn(2, 1, *size)).shape == (2, tokens, 8)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "3", True])
def test_sizes_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match="channels: got"):
        resnet18(wrong)
    with pytest.raises(ValueError, match="height: got"):
        small_resnet((wrong, 8))
    with pytest.raises(ValueError, match="depth: got"):
        SequenceTransformer(3, 5, depth=wrong)


@pytest.fixture
def sequence():
    torch.manual_seed(0)
    return SequenceTransformer(3, 5, dim=8, depth=2, num_heads=2).eval()


@torch.no_grad()
def test_what_stands_in_padding_does_not_matter(sequence):
    steps = torch.randn(2, 5, 3)
    padding = torch.tensor([[False, False, True, False, True], [False] * 5])
    other = steps.clone()
    other[padding] = torch.tensor([float("nan"), float("inf"), 1e9])
    read = sequence(steps, padding)
    kept = ~padding
    torch.testing.assert_close(sequence(other, padding)[kept], read[kept])
    assert not torch.allclose(sequence(steps)[kept], read[kept])


@torch.no_grad()
def test_padding_at_the_end_is_as_if_the_sequence_were_shorter(sequence):
    steps = torch.randn(2, 5, 3)
    shorter = SequenceTransformer(3, 3, dim=8, depth=2, num_heads=2).eval()
    state = sequence.state_dict()
    shorter.load_state_dict(state | {"positions": state["positions"][:3]})
    padding = torch.arange(5).expand(2, 5) >= 3
    torch.testing.assert_close(sequence(steps, padding)[:, :3], shorter(steps[:, :3]))


def test_a_sample_without_a_step_makes_no_nan_and_no_gradient_of_it(sequence):
    steps = torch.randn(2, 5, 3)
    padding = torch.tensor([[True] * 5, [False] * 5])
    tokens = sequence(steps, padding)
    assert tokens.isfinite().all()
    tokens[1].sum().backward()
    assert all(weight.grad.isfinite().all() for weight in sequence.parameters())


def test_the_order_of_steps_matters(sequence):
    steps = torch.randn(1, 5, 3)
    assert not torch.allclose(sequence(steps.flip(1)).flip(1), sequence(steps), atol=1e-3)


def test_another_length_and_heads_that_do_not_divide_are_refused(sequence):
    with pytest.raises(ValueError, match=r"inputs: got shape \[1, 4, 3\], expected \[B, 5, 3\]"):
        sequence(torch.zeros(1, 4, 3))
    with pytest.raises(ValueError, match="num_heads: got 7, expected a divisor of dim 120"):
        SequenceTransformer(3, 5, num_heads=7)


@pytest.mark.parametrize("depth", [2, 4, 6])
def test_table_6_has_encoders_of_so_many_blocks(digits, depth):
    model = build_vit_model(digits, P, 0, depth=depth)
    assert [len(encoder.vit.blocks) for encoder in model.encoders.values()] == [depth] * 2
    assert model.pool == "first"


def test_sequences_get_the_sequence_transformer():
    data = load_dataset("synthetic", seed=0, train_samples=60, test_samples=20)
    model = build_vit_model(data, P, 0, depth=4)
    encoders = list(model.encoders.values())
    assert [type(encoder) for encoder in encoders] == [SequenceTransformer] * 2
    assert [len(encoder.blocks.layers) for encoder in encoders] == [4, 4]
    assert model.pool == "mean"
    with pytest.raises(ValueError, match=r"data: got audio of shape .*expected grids"):
        build_resnet_model(data, P, 0)


@pytest.mark.parametrize("method", ["concat", "mt", "mt2", "mult", "mbt", "jmt", "mmml"])
def test_every_fusion_trains_on_every_backbone(method):
    draw = torch.Generator().manual_seed(0)
    inputs = {
        name: torch.randn(24, 1, 8, 8, generator=draw, dtype=torch.float32)
        for name in ("audio", "visual")
    }
    split = PairedDataset(inputs, torch.arange(24) % 3)
    patch = dict.fromkeys(inputs, (4, 4))
    data = DataSplits("grids", split, split, split, tuple("abc"), patch, "0" * 64)
    quick = {"epochs": 1, "pretrain_epochs": 1, "batch_size": 8}
    config = type(P.training)(**{**vars(P.training), **quick})
    for build in (build_resnet_model, build_vit_model):
        model = build(data, P, 0, fusion=METHODS[method].fusion)
        result = fit(model, data, config)
        assert all(torch.isfinite(torch.tensor(r["train_loss"])) for r in result.history)
        moved = [weight.grad is not None for weight in model.fusion.parameters()]
        assert any(moved)
