"""Progressive training of a stack, and MMML's losses of single modalities."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from rollingq_core import RollingQ
from rollingq_core.balancing import Progressive, UnimodalLosses
from rollingq_core.fusion import CrossStreamFusion, StackFusion
from rollingq_core.methods import METHODS
from rollingq_core.models.encoders import TokenMLP
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.runs import train
from rollingq_core.runs.run import prepare
from rollingq_core.training import Machine, fit
from rollingq_core.training.loop import total_loss
from tests.small import SETTING, TRAINING, assert_same_state, small_data

LONG = replace(SETTING, training=replace(TRAINING, epochs=6), max_rotations=2)  # two of them alone


@pytest.fixture(scope="module")
def data():
    return small_data()


@pytest.fixture(scope="module")
def rolled(data):
    return train("mt2+rollingq", data, setting=LONG, seed=0)


def begun(data, method="mt2+rollingq", setting=LONG):
    return prepare(method, data, setting, 0)


def test_the_second_block_waits_for_its_stage(data):
    model, config, observers = begun(data)
    before = {k: v.clone() for k, v in model.fusion.blocks[1].state_dict().items()}
    used, turned = [], []

    def look(record):
        used.append((record["block"], model.fusion.num_used))
        turned.append([int(rotation.count) for rotation in model.fusion.rotations])
        if record["epoch"] < 2:
            assert_same_state(before, model.fusion.blocks[1].state_dict())

    config = replace(config, pretrain_epochs=0)
    fit(model, data, config, observers=observers, on_epoch=look)
    # A record is made as its epoch ends, when the next block may be in use already.
    assert used == [(0, 1), (0, 2), (1, 2), (1, 2), (1, 2), (1, 2)]
    assert turned == [[1, 0], [2, 0], [2, 1], [2, 2], [2, 2], [2, 2]]
    assert not torch.equal(
        before["attention.q_proj.weight"], model.fusion.blocks[1].attention.q_proj.weight
    )


def test_events_count_epochs_from_the_start_of_fusion(rolled):
    assert [event.epoch for event in rolled.events] == [0, 1, 2, 3]
    assert [event.count for event in rolled.events] == [1, 2, 1, 2]
    told = [record["rotation"] for record in rolled.result.history if record.get("rotation")]
    assert [event["epoch"] for event in told] == [0, 1, 2, 3]


def test_a_blocks_rotation_is_kept_when_the_next_takes_over(data):
    model, config, observers = begun(data)
    kept = []
    fit(
        model,
        data,
        config,
        observers=observers,
        on_epoch=lambda record: kept.append(model.fusion.rotations[0].matrix.clone()),
    )
    assert not torch.equal(kept[2], torch.eye(8))  # after pretraining and stage 1
    assert torch.equal(kept[2], kept[-1])


def test_without_turns_the_stages_are_the_same(data):
    run = train("mt2+progressive", data, setting=LONG, seed=0)
    assert run.events == []
    fusing = [r for r in run.result.history if r["stage"] == "fusion"]
    assert [record["block"] for record in fusing] == [0, 0, 1, 1, 1, 1]
    assert all(torch.equal(r.matrix, torch.eye(8)) for r in run.model.fusion.rotations)


def test_the_control_turns_each_block_when_and_as_far_as_rollingq_did(data, rolled):
    run = train("mt2+random_matched", data, setting=LONG, seed=0, schedule=rolled.events)
    assert [e.epoch for e in run.events] == [e.epoch for e in rolled.events]
    assert [e.angle for e in run.events] == pytest.approx(
        [e.angle for e in rolled.events], abs=1e-5
    )
    assert not torch.equal(run.model.fusion.rotation.matrix, rolled.model.fusion.rotation.matrix)


@pytest.mark.parametrize("stop", [2, 3, 5])
def test_a_run_that_was_cut_off_goes_on_bit_for_bit(stop, data, rolled, tmp_path):
    class Enough(Exception):
        pass

    def until(record):
        if record["epoch"] + 1 == stop:
            raise Enough

    checkpoint = tmp_path / "checkpoint.pt"
    model, config, observers = begun(data)
    with pytest.raises(Enough):
        fit(model, data, config, observers=observers, checkpoint=checkpoint, on_epoch=until)
    again, config, observers = begun(data)
    result = fit(again, data, config, observers=observers, checkpoint=checkpoint)
    assert result.history == rolled.result.history
    assert_same_state(again.state_dict(), rolled.model.state_dict())
    assert again.fusion.num_used == 2
    assert observers[0].events == rolled.events


def test_what_is_selected_in_stage_one_is_a_model_of_one_block(data):
    model, config, observers = begun(data)
    config = replace(config, selection="best")
    observers[0].rollings = [RollingQ(r, 3, 0, 0) for r in model.fusion.rotations]
    result = fit(model, data, config, observers=observers)
    fused = result.selected_epoch - config.pretrain_epochs
    assert model.fusion.num_used == (1 if fused < 1 else 2)
    assert int(model.fusion.used) == model.fusion.num_used


def test_another_models_blocks_are_refused(data):
    _, config, observers = begun(data)
    other, _, _ = begun(data)
    with pytest.raises(
        ValueError, match="progressive: got 2 blocks to turn, expected the 2 of the"
    ):
        fit(other, data, config, observers=observers)
    plain, _, _ = begun(data, "mt")
    with pytest.raises(ValueError, match="expected the 0 of the AttentionFusion"):
        fit(plain, data, config, observers=observers)
    with pytest.raises(ValueError, match="epochs: got -1"):
        Progressive(observers[0].rollings, -1)
    assert observers[0].identity["epochs"] == 2


def test_a_batch_in_pieces_turns_alike(data, rolled):
    model, config, observers = begun(data)
    result = fit(model, data, config, observers=observers, machine=Machine(accumulate=2))
    assert [e.epoch for e in observers[0].events] == [e.epoch for e in rolled.events]
    assert result.history[-1]["validation_loss"] == pytest.approx(
        rolled.result.history[-1]["validation_loss"], abs=1e-4
    )


def mmml(data):
    torch.manual_seed(0)
    encoders = {name: TokenMLP(8, 4, dim=8, hidden=16) for name in ("audio", "visual")}
    return MultimodalModel(encoders, CrossStreamFusion(8, 4), 4)


def test_each_loss_counts_once_for_encoder_and_classifier(data):
    model = mmml(data)
    inputs, labels = data.train.__getitems__(range(16))
    output = model(inputs)
    loss = total_loss(output, labels) + UnimodalLosses(model).extra_loss(output, labels)
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    attached = model(inputs, detach_probes=False)
    expected = cross_entropy(attached.fusion.logits, labels)
    for logits in attached.probes.values():
        expected = expected + cross_entropy(logits, labels)
    expected.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_the_losses_are_this_models(data):
    model = mmml(data)
    with pytest.raises(ValueError, match="unimodal_losses: got another model's probes"):
        fit(mmml(data), data, TRAINING, observers=[UnimodalLosses(model)])


@pytest.mark.parametrize("method", ["mmml", "mmml-joint", "mmml+rollingq"])
def test_mmmls_encoders_learn_from_their_own_losses(method, data):
    with_losses = train(method, data, setting=LONG, seed=0)
    without = begun(data, replace(METHODS[method], observers=METHODS["mt"].observers))
    fit(without.model, data, without.config, observers=[])
    own, other = (m.encoders["visual"].mlp[0].weight for m in (with_losses.model, without.model))
    assert not torch.equal(own, other)
    assert math.isfinite(with_losses.result.history[-1]["train_loss"])


def test_all_blocks_are_used_where_there_is_no_time_for_stages(data):
    short = replace(LONG, training=replace(TRAINING, epochs=2, pretrain_epochs=0))
    run = train("mt2+rollingq", data, setting=short, seed=0)
    assert isinstance(run.model.fusion, StackFusion)
    assert [record["block"] for record in run.result.history] == [1, 1]


JOB = """
import json, os, sys
from pathlib import Path
from rollingq_core.runs import train
from rollingq_core.training import Machine
from tests.small import small_data
from tests.test_progressive import LONG

folder, methods = Path(sys.argv[1]), sys.argv[2:]
said = {}
for method in methods:
    run = train(method, small_data(train_samples=81), setting=LONG, machine=Machine(devices=2))
    said[method] = [[r["train_loss"] for r in run.result.history], [e.angle for e in run.events]]
(folder / f"{os.environ['LOCAL_RANK']}.json").write_text(json.dumps(said))
"""


@pytest.mark.slow
def test_two_processes_train_every_fusion_as_one(root, tmp_path):
    methods = ["mt2+rollingq", "mult+rollingq", "mbt", "jmt", "mmml+rollingq"]
    job = tmp_path / "job.py"
    job.write_text(JOB)
    clean = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE")}
    done = subprocess.run(
        [sys.executable, job, tmp_path, *methods],
        cwd=root,
        env=clean | {"PYTHONPATH": str(root), "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    for method in methods:
        run = train(method, small_data(train_samples=81), setting=LONG)
        losses, angles = first[method]
        told = [record["train_loss"] for record in run.result.history]
        assert losses == pytest.approx(told, abs=1e-4)
        assert angles == pytest.approx([event.angle for event in run.events], abs=1e-4)
