"""ViT-B/16 from a file of the reader's own: adapted, checked, remembered, and nothing executed."""

import json
import pickle
from functools import partial

import pytest
import torch
from safetensors.torch import save_file

from rollingq_core.__main__ import main
from rollingq_core.models import paper
from rollingq_core.models.encoders import small_vit, vit_b16
from rollingq_core.models.weights import read_weights
from rollingq_core.runs.description import PROFILES, RunDescription

SIZE = (224, 224)


@pytest.fixture(scope="module")
def known():
    """Weights of two blocks, as timm names them."""
    torch.manual_seed(3)
    state = vit_b16(SIZE, channels=3, depth=2).vit.state_dict()
    return {name: tensor.contiguous() for name, tensor in state.items()}


@pytest.fixture(scope="module", params=["safetensors", "torch", "wrapped"])
def file(request, known, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    if request.param == "safetensors":
        path = folder / "vit.safetensors"
        save_file(known, path)
        return path
    path = folder / "vit.pt"
    parallel = {f"module.{name}": tensor for name, tensor in known.items()}
    torch.save({"state_dict": parallel, "epoch": 3} if request.param == "wrapped" else known, path)
    return path


def test_all_weights_are_those_of_the_file(file, known):
    loaded = vit_b16(SIZE, channels=3, depth=2, weights=file).vit.state_dict()
    assert loaded.keys() == known.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in known.items())


def test_other_inputs_and_fewer_blocks_are_adapted(file, known):
    encoder = vit_b16((257, 188), channels=1, depth=1, weights=file)
    own = encoder.vit.state_dict()
    assert len(encoder.vit.blocks) == 1
    qkv = "blocks.0.attn.qkv.weight"
    assert torch.equal(own[qkv], known[qkv])
    patches = "patch_embed.proj.weight"
    torch.testing.assert_close(own[patches], known[patches].sum(1, keepdim=True))
    assert own["pos_embed"].shape == (1, 177, 768)
    assert own["pos_embed"].any()
    with torch.no_grad():
        assert encoder(torch.zeros(1, 1, 257, 188)).shape == (1, 177, 768)


def test_too_few_blocks_and_another_model_are_refused(file, tmp_path):
    with pytest.raises(
        ValueError, match=r"weights: got .*, expected those of vit_base.*at least 3"
    ):
        vit_b16(SIZE, channels=3, depth=3, weights=file)
    other = tmp_path / "small.safetensors"
    save_file(small_vit((32, 32), (16, 16)).vit.state_dict(), other)
    with pytest.raises(ValueError, match=r"weights: got .*small.safetensors, expected those of"):
        vit_b16(SIZE, channels=3, depth=1, weights=other)


class Payload:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_hostile_and_damaged_files_are_refused_and_not_run(tmp_path, name):
    path, trace = tmp_path / name, tmp_path / "executed"
    whole = tmp_path / "whole.pt"
    torch.save({"a": torch.ones(2)}, whole)
    contents = [
        pickle.dumps({"a": Payload(trace)}),
        whole.read_bytes()[:-40],
        b"",
        b"no weights at all",
    ]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"weights: got .*damaged or holds more than data"):
            read_weights(path)
    assert not trace.exists()
    torch.save({"a": Payload(trace)}, path.with_suffix(".pt"))
    with pytest.raises(ValueError, match="damaged or holds more than data"):
        read_weights(path.with_suffix(".pt"))
    assert not trace.exists()


@pytest.mark.parametrize("content", [{}, [torch.ones(1)], {"a": 3}, {1: torch.ones(1)}])
def test_a_file_of_other_things_is_refused(tmp_path, content):
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"weights: got .*without named tensors"):
        read_weights(path)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"):
        read_weights(tmp_path / "gone.pt")


def test_only_profiles_of_the_papers_model_take_weights():
    assert [name for name, profile in PROFILES.items() if profile.pretrained] == ["gpu"]
    wanted = RunDescription.of_profile("digits", "mt", "cpu")
    with pytest.raises(ValueError, match=r"weights: got a file for profile 'cpu'.*\['gpu'\]"):
        RunDescription(**{**vars(wanted), "weights": "a.pt"})


@pytest.fixture
def small_paper(monkeypatch):
    """The paper's profile with small encoders and few samples, which say what they start from."""
    asked = []

    def small(size, *, channels, pretrained=False, weights=None):
        asked.append(weights)
        return small_vit(size, (4, 4), channels=channels, dim=768, depth=1, num_heads=2)

    quick = {"setting": PROFILES["smoke"].setting, "accelerator": "cpu", "samples": 8}
    profile = partial(type(PROFILES["gpu"]), **quick)
    monkeypatch.setattr(paper, "vit_b16", small)
    monkeypatch.setattr(paper, "_grids", partial(paper._grids, smallest=4))
    monkeypatch.setitem(PROFILES, "gpu", profile(build=PROFILES["gpu"].build, pretrained=True))
    return asked


def train(folder, *more):
    arguments = ["train", "--data", "digits", "--method", "mt", "--profile", "gpu"]
    return main([*arguments, "--out", str(folder), "--epochs", "1", *more])


def test_the_command_remembers_the_files_hash_and_goes_on_without_the_file(
    small_paper, tmp_path, capsys
):
    file, folder = tmp_path / "own.pt", tmp_path / "run"
    file.write_bytes(b"of any content, as the encoders here do not read it")
    train(folder, "--weights", str(file))
    assert small_paper == [str(file)] * 2
    told = json.loads((folder / "model.json").read_text())
    assert (told["weights"], told["pretrained"]) == (str(file), False)
    begun = told["measured"]["weights_sha256"]
    assert len(begun) == 64

    small_paper.clear()
    file.unlink()
    train(folder, "--weights", str(file))
    assert small_paper == [None] * 2  # its weights are in the checkpoint
    again = json.loads((folder / "model.json").read_text())
    assert again["measured"]["weights_sha256"] == begun


def test_weights_and_from_scratch_exclude_each_other(tmp_path, capsys):
    with pytest.raises(SystemExit):
        train(tmp_path, "--weights", "a.pt", "--from-scratch")
    assert "not allowed with argument" in capsys.readouterr().err
