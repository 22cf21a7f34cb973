"""Checkpoints: whole or not at all, checked when read, and never run."""

import pickle
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rollingq_core import _files
from rollingq_core.training.checkpoint import FORMAT, load_checkpoint, save_checkpoint
from tests.refused import Payload

STATE = {
    "tensor": torch.arange(50.0),
    "nested": {"list": [1, 2.5, None, "text"], "tuple": (True, {"deep": torch.ones(2)})},
    3: "integer key",
}
with tempfile.TemporaryDirectory() as folder:
    save_checkpoint(Path(folder) / "good", STATE)
    GOOD = (Path(folder) / "good").read_bytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.ckpt"


def test_round_trip(path):
    save_checkpoint(path.parent / "new" / "folder" / path.name, STATE)
    state = load_checkpoint(path.parent / "new" / "folder" / path.name)
    assert state.pop("format") == FORMAT
    assert torch.equal(state.pop("tensor"), STATE["tensor"])
    assert torch.equal(state["nested"]["tuple"][1]["deep"], torch.ones(2))
    assert state["nested"]["list"] == [1, 2.5, None, "text"]
    assert type(state["nested"]["tuple"]) is tuple
    assert state[3] == "integer key"


def test_file_has_the_usual_permissions(path):
    save_checkpoint(path, STATE)
    (path.parent / "plain").touch()
    assert path.stat().st_mode == (path.parent / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("module", "name"), [(_files.os, "replace"), (_files.os, "fsync"), (torch, "save")]
)
@pytest.mark.parametrize(
    "error", [OSError("no space left"), KeyboardInterrupt(), RuntimeError("no such tensor")]
)
def test_failed_write_leaves_the_old_file(path, monkeypatch, module, name, error):
    save_checkpoint(path, {"value": 1})
    before = path.read_bytes()

    def fail(*arguments, **options):
        if name == "save":
            arguments[1].write(b"half")
        raise error

    monkeypatch.setattr(module, name, fail)
    with pytest.raises(type(error)):
        save_checkpoint(path, {"value": 2})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("size", [3_000, 20_000, 100_000])  # torch notices at three places
def test_full_disk_leaves_the_old_file(tmp_path, small_disk, size):
    path = small_disk(tmp_path / "disk", "8k") / "run.ckpt"
    save_checkpoint(path, {"value": 1})
    before = path.read_bytes()
    with pytest.raises(OSError, match=r"No space left on device: '.*run\.ckpt'"):
        save_checkpoint(path, {str(number): torch.zeros(size // 4) for number in range(4)})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@given(st.integers(0, len(GOOD) - 1))
def test_truncated_file_is_refused(length):
    refused(GOOD[:length])


@given(st.binary(max_size=80))
def test_foreign_file_is_refused(content):
    refused(content)


@given(st.integers(0, 49), st.integers(0, 31))
def test_damaged_tensor_is_refused(place, bit):
    data = bytearray(GOOD)
    data[GOOD.index(STATE["tensor"].numpy().tobytes()) + 4 * place + bit // 8] ^= 1 << bit % 8
    refused(bytes(data))


def refused(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.ckpt"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"path: got .*run\.ckpt.*, expected a checkpoint"):
            load_checkpoint(path)


@pytest.mark.parametrize("wrapped", [True, False])
def test_payload_is_refused_and_not_run(path, tmp_path, wrapped):
    target = tmp_path / "executed"
    if wrapped:
        torch.save({"format": FORMAT, "model": Payload(target)}, path)
    else:
        path.write_bytes(pickle.dumps({"format": FORMAT, "model": Payload(target)}))
    with pytest.raises(ValueError, match="holds more than data"):
        load_checkpoint(path)
    assert not target.exists()
    if wrapped:  # the payload is live: a careless reader runs it
        torch.load(path, weights_only=False)
        assert target.exists()


@pytest.mark.parametrize("content", [{"model": 1}, {"format": "other-1"}, [FORMAT], torch.ones(1)])
def test_file_of_another_kind_is_refused(path, content):
    torch.save(content, path)
    with pytest.raises(ValueError, match=f"expected a checkpoint of format '{FORMAT}'"):
        load_checkpoint(path)


def test_missing_file_is_not_a_damaged_one(path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(path)
