"""Pictures as they are read from the cache, against torchvision's own transforms."""

import pytest
import torch
from torchvision.transforms import v2

from rollingq_core.data.transforms import IMAGENET_MEAN, IMAGENET_STD, SIDE, Flow, Pictures

SIZES = [(240, 320), (28, 28), (300, 200)]


def stored(clips, pictures, size, channels):
    generator = torch.Generator().manual_seed(0)
    shape = (clips, pictures, *size, channels)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def by_torchvision(clips, cut, normalise):
    """Transform each clip's pictures together, and put them one below the other."""
    whole = clips.permute(0, 1, 4, 2, 3)
    scaled = [normalise(cut(clip)).transpose(0, 1).flatten(1, 2) for clip in whole]
    return torch.stack(scaled)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pictures", [1, 3])
def test_pieces_are_those_of_torchvision(size, pictures):
    clips = stored(6, pictures, size, 3)
    normalise = v2.Compose(
        [v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    )
    torch.manual_seed(1)
    ours = Pictures(augment=True)(clips)
    torch.manual_seed(1)
    expected = by_torchvision(clips, v2.RandomResizedCrop(SIDE), normalise)
    mirrored = torch.rand(len(clips)) < 0.5
    assert 0 < mirrored.sum() < len(clips)
    expected[mirrored] = expected[mirrored].flip(-1)
    # An eighth of a byte's step: a backbone sees no difference.
    torch.testing.assert_close(ours, expected, atol=2e-3, rtol=0)
    assert ours.is_contiguous()


@pytest.mark.parametrize("size", SIZES)
def test_a_test_clip_is_scaled_as_a_whole(size):
    clips = stored(2, 3, size, 1)
    normalise = v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.Lambda(lambda grey: grey.expand(-1, 3, -1, -1)),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    before = torch.random.get_rng_state()
    ours = Pictures(augment=False)(clips)
    assert torch.equal(before, torch.random.get_rng_state())
    expected = by_torchvision(clips, v2.Resize((SIDE, SIDE)), normalise)
    torch.testing.assert_close(ours, expected, atol=2e-3, rtol=0)


def test_what_is_stored_stays_as_it_is():
    clips = stored(4, 1, (240, 320), 3)
    kept = clips.clone()
    Pictures(augment=True)(clips)
    assert torch.equal(clips, kept)


def test_a_batch_without_time_has_one_picture_a_clip():
    clips = stored(2, 1, (240, 320), 3)
    transform = Pictures(augment=False)
    assert torch.equal(transform(clips[:, 0]), transform(clips))


def test_in_a_mirror_movement_to_the_right_is_movement_to_the_left():
    clips = stored(6, 1, (240, 320), 2)
    torch.manual_seed(1)
    ours = Flow(augment=True)(clips)
    torch.manual_seed(1)
    normalise = v2.Lambda(lambda byte: (byte.to(torch.float32) - 128) / 128)
    expected = by_torchvision(clips, v2.RandomResizedCrop(SIDE), normalise)
    mirrored = torch.rand(len(clips)) < 0.5
    expected[mirrored] = expected[mirrored].flip(-1) * torch.tensor([-1.0, 1.0])[:, None, None]
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)
