"""Controls that tell apart why a turn helps: where it goes, how long the query is, what is seen."""

import json
import math
from dataclasses import replace

import pytest
import torch

from rollingq_core.balancing import MatchedLength, Temperature
from rollingq_core.balancing.temperature import FACTORS
from rollingq_core.controls import CONTROLS, control_turn
from rollingq_core.data import load_dataset
from rollingq_core.fusion import ModalityDropout
from rollingq_core.methods import DECIDING, METHODS
from rollingq_core.models.predictions import predict
from rollingq_core.plane import plane_rotation
from rollingq_core.runs import train
from rollingq_core.runs.sweep import sweep
from rollingq_core.settings import SETTINGS
from rollingq_core.training import fit
from tests.small import small_data, small_model

TRAINING = replace(SETTINGS["T"].training, epochs=6)
SHORT = replace(SETTINGS["T"], training=TRAINING, beta=0.0, max_rotations=2)


@pytest.fixture(scope="module")
def data():
    return small_data()


@pytest.fixture(scope="module")
def runs(data):
    return {method: train(method, data, setting=SHORT, seed=3) for method in DECIDING}


@pytest.mark.parametrize("control", CONTROLS)
def test_where_a_control_turns(control):
    torch.manual_seed(0)
    query, anchor = torch.randn(2, 16, dtype=torch.float64)
    turn = plane_rotation(query, anchor)
    made = control_turn(control, query, turn, 0.7, torch.Generator().manual_seed(1))
    turned = made.apply(query)
    assert turned.norm() == pytest.approx(float(query.norm()))
    angle = math.acos(float(turned @ query / (turned.norm() * query.norm())))
    if control != "random_free":
        assert angle == pytest.approx(0.7)
    if control == "away":
        before = torch.cosine_similarity(query, anchor, dim=0)
        assert torch.cosine_similarity(turned, anchor, dim=0) < before
        off = turned - turn.basis.mT @ (turn.basis @ turned)
        assert off.norm() == pytest.approx(0, abs=1e-12)  # in the plane of query and anchor


def test_away_turns_when_and_as_far_as_rollingq(runs):
    leader, away = runs["mt+rollingq"].events, runs["mt+away"].events
    assert len(leader) == 2
    followed = train(
        "mt+away", small_data(), setting=SHORT, seed=3, schedule=runs["mt+rollingq"].events
    ).events
    assert [(e.epoch, e.angle) for e in followed] == [
        (e.epoch, pytest.approx(e.angle)) for e in leader
    ]
    assert [e.epoch for e in away] == [e.epoch for e in leader]  # alone it turns where it is due


def test_the_midpoint_favours_no_modality(runs):
    events = runs["mt+midpoint"].events
    assert events
    for event in events:
        assert event.weights == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize(
    ("method", "leader", "turns"),
    [("mt+norm_matched", "mt+rollingq", 0), ("mt+rollingq_restored", "mt", 2)],
)
def test_the_query_is_as_long_as_another_runs(runs, method, leader, turns):
    own, other = runs[method], runs[leader]
    assert len(own.events) == turns
    assert own.lengths[-1] == pytest.approx(other.lengths[-1], rel=0.1)
    strangers = {"mt", "mt+rollingq"} - {leader}
    for stranger in strangers:
        assert abs(own.lengths[-1] - other.lengths[-1]) < abs(
            own.lengths[-1] - runs[stranger].lengths[-1]
        )


def test_a_length_is_matched_after_one_epoch_without_learning(data):
    model = small_model()
    still = replace(TRAINING, epochs=2, lr=1e-9, momentum=0.0, weight_decay=0.0)
    result = fit(model, data, still, observers=[MatchedLength([5.0])])
    first, second = (epoch["query_norm"] for epoch in result.history)
    assert second == pytest.approx(5.0, rel=1e-3) != first


def test_the_leader_is_trained_where_none_is_given(data, runs):
    given = runs["mt+rollingq"].schedule_for("mt+norm_matched")
    assert given == runs["mt+rollingq"].lengths
    again = train("mt+norm_matched", data, setting=SHORT, seed=3, schedule=given)
    assert again.result.history == runs["mt+norm_matched"].result.history


def test_temperature_changes_nothing_but_the_sharpness(runs):
    plain, cooled = runs["mt"], runs["mt+temperature"]
    factor = cooled.result.history[-1]["query_factor"]
    assert factor in FACTORS
    own, state = cooled.model.state_dict(), plain.model.state_dict()
    for name, values in state.items():
        scaled = factor * values if name == "fusion.rotation.matrix" else values
        torch.testing.assert_close(own[name], scaled)


def test_the_temperature_is_the_best_on_the_validation_split(runs):
    run = runs["mt+temperature"]
    factor = run.result.history[-1]["query_factor"]
    rotation = run.model.fusion.rotation
    plain = rotation.matrix / factor
    judged = {}
    for candidate in FACTORS:
        rotation.matrix.copy_(candidate * plain)
        found = predict(run.model, run.data.validation)
        judged[candidate] = found.accuracy, -found.loss
    rotation.matrix.copy_(factor * plain)
    assert judged[factor] == max(judged.values())


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_modality_dropout_leaves_out_one_at_most_and_only_in_training(rate):
    torch.manual_seed(0)
    layer = ModalityDropout(8, 4, rate=rate)
    tokens = [torch.randn(400, length, 8) for length in (5, 3, 2)]
    gone = (layer(tokens).share == 0).sum(dim=1)
    assert gone.max() <= 1
    assert float(gone.float().mean()) == pytest.approx(rate, abs=0.08)
    layer.eval()
    assert (layer(tokens).share > 0).all()


def test_modality_dropout_keeps_the_last_modality_of_a_sample():
    layer = ModalityDropout(8, 4, rate=1.0)
    tokens = [torch.randn(6, 5, 8), torch.randn(6, 3, 8)]
    masks = [torch.ones(6, 5, dtype=torch.bool), None]
    share = layer(tokens, masks).share
    torch.testing.assert_close(share, torch.tensor([[0.0, 1.0]]).expand(6, 2))


@pytest.mark.parametrize("observer", [MatchedLength([1.0]), Temperature(2)])
def test_a_fusion_without_a_query_is_refused(data, observer):
    with pytest.raises(ValueError, match="got a ConcatFusion, expected a fusion with a rotation"):
        train("concat", data, setting=SHORT, observers=[observer])


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match=r"lengths\[1\]: got 0"):
        MatchedLength([1.0, 0])
    with pytest.raises(ValueError, match="epochs: got 0"):
        Temperature(0)
    with pytest.raises(ValueError, match=r"rate: got 1\.5"):
        ModalityDropout(8, 4, rate=1.5)


def test_in_a_sweep_each_is_the_run_of_its_own(monkeypatch):
    sizes = {"train_samples": 64, "test_samples": 32}
    names = ("mt+rollingq", "mt+rollingq_restored", "mt", "mt+norm_matched", "mt+temperature")

    def kept(method, seed, run):
        return {"lengths": run.lengths, "told": json.loads(json.dumps(run.result.history[-1]))}

    rows = sweep("synthetic", SHORT, [0], report=kept, methods=names, progress=False, **sizes)
    data = load_dataset("synthetic", seed=0, **sizes)
    for row in rows:
        run = train(row["method"], data, setting=SHORT, seed=0)
        assert row["lengths"] == pytest.approx(run.lengths, rel=1e-4)
        last = run.result.history[-1]
        assert row["told"]["validation_accuracy"] == pytest.approx(last["validation_accuracy"])
    assert {row["method"] for row in rows} == set(names)


def test_all_deciding_controls_are_methods():
    assert set(DECIDING) <= set(METHODS)
