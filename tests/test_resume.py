"""A run that was cut off goes on from its checkpoint, bit for bit as if nothing had happened."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from rollingq_core import RotationEvent
from rollingq_core.training import loop as training
from rollingq_core.training.checkpoint import load_checkpoint
from rollingq_core.training.loop import total_loss
from tests.small import DROPOUT, TRAINING, assert_same_state, small_data, train


@pytest.fixture(scope="module")
def data():
    return small_data()


EVENTS = [
    RotationEvent(epoch, index + 1, 0.1, (0.2, 0.1), (0.5, 0.5), angle, 1.0, (1.0, 1.0))
    for index, (epoch, angle) in enumerate([(0, 0.5), (2, 0.9)])
]
RUNS = {
    "mt": None,
    "mt+rollingq": {"max_rotations": 9},
    "mt+random_matched": {"rotation": "random_matched", "schedule": EVENTS, "seed": 5},
}


def crash_after(monkeypatch, steps):
    """Make training stop dead in the middle of an epoch."""
    left = iter(range(steps))

    def stopping(output, labels):
        next(left)  # StopIteration stands for whatever ends the process
        return total_loss(output, labels)

    monkeypatch.setattr(training, "total_loss", stopping)


@pytest.mark.parametrize("rolling", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("steps", [5, 10])
def test_resumed_run_is_bit_identical(data, tmp_path, monkeypatch, rolling, steps):
    config = replace(TRAINING, pretrain_epochs=2, epochs=4, selection="best", warmup_epochs=1)
    path = tmp_path / "deep" / "run.ckpt"
    expected = train(data, config, DROPOUT, rolling)

    with monkeypatch.context() as patch:
        crash_after(patch, steps)
        with pytest.raises(StopIteration):
            train(data, config, DROPOUT, rolling, checkpoint=path)
    assert len(load_checkpoint(path)["history"]) == steps // 3
    torch.manual_seed(999)  # a new process has other random state
    found = train(data, config, DROPOUT, rolling, checkpoint=path)

    assert_same_state(found[0].state_dict(), expected[0].state_dict())
    assert found[1] == expected[1]
    if rolling:
        assert found[2].events == expected[2].events
        assert len(found[2].events) >= 2


def test_finished_run_is_not_trained_again(data, tmp_path, monkeypatch):
    path = tmp_path / "run.ckpt"
    expected, result, _ = train(data, replace(TRAINING, selection="best"), checkpoint=path)
    crash_after(monkeypatch, 0)
    found, again, _ = train(data, replace(TRAINING, selection="best"), checkpoint=path)
    assert_same_state(found.state_dict(), expected.state_dict())
    assert again == result


KILLED = """
import os, signal, sys
from rollingq_core import _files
from tests.small import DROPOUT, small_data, train

writes = iter([os.replace] * 2)
_files.os.replace = lambda *names: next(
    writes, lambda *_: os.kill(os.getpid(), signal.SIGKILL)
)(*names)
train(small_data(), fusion=DROPOUT, rolling={}, checkpoint=sys.argv[1])
"""


def test_kill_while_a_checkpoint_is_written(data, tmp_path, root):
    path = tmp_path / "run.ckpt"
    # The third checkpoint is written, but has not yet taken the second one's place.
    done = subprocess.run(
        [sys.executable, "-c", KILLED, path], cwd=root, env=os.environ | {"PYTHONPATH": str(root)}
    )
    assert done.returncode == -signal.SIGKILL
    assert len(load_checkpoint(path)["history"]) == 2
    assert len(list(tmp_path.iterdir())) == 2  # and what it was about to become
    expected = train(data, fusion=DROPOUT, rolling={})
    found = train(data, fusion=DROPOUT, rolling={}, checkpoint=path)
    assert list(tmp_path.iterdir()) == [path]
    assert_same_state(found[0].state_dict(), expected[0].state_dict())
    assert found[1] == expected[1]


def test_refusal_names_what_differs_and_nothing_else(data, tmp_path):
    path = tmp_path / "run.ckpt"
    train(data, rolling={}, checkpoint=path)
    with pytest.raises(ValueError, match="checkpoint: ") as error:
        train(data, replace(TRAINING, lr=0.03), rolling={"rho": 2.0}, checkpoint=path)
    assert str(error.value) == (
        f"checkpoint: {path} is of training.lr 0.02, rolling.rho 3.0; "
        "expected training.lr 0.03, rolling.rho 2.0"
    )


CONTROL = RUNS["mt+random_matched"]


@pytest.mark.parametrize(
    ("own", "other"),
    [
        ({}, {"config": replace(TRAINING, lr=0.03)}),
        ({}, {"rolling": {"rho": 2.0}}),
        ({}, {"rolling": None}),
        ({"rolling": CONTROL}, {"rolling": {**CONTROL, "schedule": EVENTS[:1]}}),
        ({}, {"data": small_data(seed=1)}),
        ({}, {"fusion": {"bias": False}}),
        ({}, {"fusion": {"mode": "uniform"}}),
        ({}, {"accumulate": 2}),
        ({}, {"clip": 1.0}),
        ({}, {"precision": "bf16-mixed"}),
    ],
    ids=[
        "config",
        "rho",
        "mt",
        "schedule",
        "data",
        "model",
        "uniform",
        "accumulate",
        "clip",
        "precision",
    ],
)
def test_checkpoint_of_another_run_is_refused_and_kept(data, tmp_path, own, other):
    path = tmp_path / "run.ckpt"
    own = {"data": data, "rolling": {}} | own
    train(**own, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"checkpoint: .*run\.ckpt is of"):
        train(**(own | other), checkpoint=path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
