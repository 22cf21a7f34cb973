"""Several processes train as one would, and end together when one is gone."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from rollingq_core import _ranks
from rollingq_core._ranks import OwnPart, own_part
from rollingq_core.training import Machine, load_checkpoint, processes
from tests.small import DROPOUT, TRAINING, small_data, train

# 81 samples in batches of 40 leave one sample for two processes at the end of each epoch.
ODD = {"train_samples": 81}
CONFIG = replace(TRAINING, batch_size=40)
JOB = """
import json, os, signal, sys
from dataclasses import asdict, replace
from pathlib import Path
from rollingq_core._ranks import rank
from tests.small import DROPOUT, small_data, train
from tests.test_processes import CONFIG, ODD

folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
ending = options.pop("ending", None)
epochs = options.pop("epochs", CONFIG.epochs)

def tell(record):
    if ending and rank() == 1 and record["epoch"] == ending["epoch"]:
        os.kill(os.getpid(), getattr(signal, ending["signal"]))

try:
    model, result, rolling = train(
        small_data(**ODD), replace(CONFIG, epochs=epochs), options.pop("fusion", {}),
        options.pop("rolling", {}), devices=2, on_epoch=tell, **options,
    )
except ConnectionError as error:
    sys.exit(f"{error}")
weights = float(sum(p.detach().double().abs().sum() for p in model.parameters()))
said = {"history": result.history, "weights": weights, "events": list(map(asdict, rolling.events))}
(folder / f"{os.environ['LOCAL_RANK']}.json").write_text(json.dumps(said))
"""


def start(root, folder, **options):
    folder.mkdir(exist_ok=True)
    job = folder / "job.py"
    job.write_text(JOB)
    clean = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE")}
    return subprocess.run(
        [sys.executable, job, folder, json.dumps(options)],
        cwd=root,
        env=clean | {"PYTHONPATH": str(root), "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def said(folder):
    return [json.loads((folder / f"{number}.json").read_text()) for number in (0, 1)]


def assert_close(found, expected, path="history"):
    if isinstance(expected, dict):
        assert list(found) == list(expected), path
        for name in expected:
            assert_close(found[name], expected[name], f"{path}.{name}")
    elif isinstance(expected, list | tuple):
        for index, pair in enumerate(zip(found, expected, strict=True)):
            assert_close(*pair, f"{path}[{index}]")
    else:
        assert found == pytest.approx(expected, abs=1e-5), path


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, {"accumulate": 3, "rolling": {"estimate": "last_batch"}, "workers": 1}],
    ids=["plain", "pieces, last batch, readers"],
)
def test_two_processes_train_as_one(root, tmp_path, options):
    done = start(root, tmp_path / "run", **options)
    assert done.returncode == 0, done.stderr
    first, second = said(tmp_path / "run")
    assert first == second
    assert len(first["events"]) == 2
    model, result, _ = train(
        small_data(**ODD), CONFIG, rolling=options.get("rolling", {"max_rotations": 2})
    )
    assert_close(first["history"], json.loads(json.dumps(result.history)))
    expected = float(sum(p.detach().double().abs().sum() for p in model.parameters()))
    assert first["weights"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_two_processes_resume_bit_for_bit(root, tmp_path):
    whole = start(root, tmp_path / "whole", fusion=DROPOUT)
    assert whole.returncode == 0, whole.stderr
    cut = {"fusion": DROPOUT, "checkpoint": str(tmp_path / "run.ckpt")}
    stop = start(root, tmp_path / "cut", **cut, ending={"epoch": 1, "signal": "SIGKILL"})
    assert stop.returncode != 0
    assert 2 <= len(load_checkpoint(tmp_path / "run.ckpt")["history"]) < 4
    again = start(root, tmp_path / "cut", **cut)
    assert again.returncode == 0, again.stderr
    assert said(tmp_path / "cut") == said(tmp_path / "whole")
    # Another number of processes would draw other dropout.
    with pytest.raises(ValueError, match=r"checkpoint: .* trained by 2 processes, expected 1"):
        train(small_data(**ODD), CONFIG, DROPOUT, {}, checkpoint=tmp_path / "run.ckpt")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP"])
def test_a_process_that_is_gone_ends_the_others(root, tmp_path, name):
    done = start(root, tmp_path / "run", timeout=25, ending={"epoch": 1, "signal": name})
    assert done.returncode != 0
    assert not (tmp_path / "run" / "0.json").exists()
    assert "process 0 of 2: another one has stopped or does not answer" in done.stderr


def test_parts_of_a_batch_are_disjoint_and_whole(monkeypatch):
    for count in (1, 2, 3, 8):
        monkeypatch.setattr("rollingq_core._ranks.world_size", lambda count=count: count)
        for size in (1, 2, 5, 64):
            parts = []
            for number in range(count):
                monkeypatch.setattr("rollingq_core._ranks.rank", lambda number=number: number)
                parts += own_part(size)
                assert len(own_part(size)) - size // count in (0, 1)
                (read,) = OwnPart([list(range(10, 10 + size))])
                assert read == [10 + index for index in own_part(size)] or read == [10]
            assert parts == list(range(size))


def test_a_process_without_sums_gets_those_of_the_others(monkeypatch):
    # Another process has seen two samples; this one none, so it has no name to ask for.
    others = [{}, {"count": torch.tensor(2), "query": torch.ones(3)}, {"count": torch.tensor(3)}]
    monkeypatch.setattr(_ranks, "world_size", lambda: 3)
    monkeypatch.setattr(_ranks, "gathered", lambda own: [own, *others[1:]])
    found = _ranks.summed(others[0])
    assert int(found["count"]) == 5
    assert torch.equal(found["query"], torch.ones(3))
    found = _ranks.summed({"count": torch.tensor(4), "share": torch.ones(2)})
    assert list(found) == ["count", "share", "query"]
    assert int(found["count"]) == 9
    assert torch.equal(found["share"], torch.ones(2))


def test_processes_of_torchrun_do_not_train_each_for_itself(monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "TORCHELASTIC_RUN_ID": "run"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="devices: got 1, but torchrun has started 2 processes"):
        Machine().start()


def test_a_checkpoint_that_only_some_see_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "gathered", lambda seen: [seen, not seen])
    with pytest.raises(ValueError, match=r"process 0 does not see .*, expected a folder that all"):
        processes.seen_by_all(tmp_path / "run.ckpt")


@pytest.mark.parametrize(("count", "message"), [(2, "out of memory"), (1, "Connection reset")])
def test_errors_of_ones_own_keep_their_name(count, message):
    fabric = SimpleNamespace(world_size=count)
    with pytest.raises(RuntimeError, match=message), processes.lost_processes_named(fabric):
        raise RuntimeError(message)
