"""Algorithm 1: when the query is rotated, where to, and that it can be stopped and resumed."""

import io
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from rollingq_core import (
    AttentionFusion,
    QueryRotation,
    RollingQ,
    RotationEvent,
    anchor_weight,
    attention_imbalance_rate,
    rebalance_anchor,
)
from rollingq_core.rotation import anchor_weights

TOY_QUERY = torch.tensor([2.0, 0, 0, 0], dtype=torch.float64)
TOY_KEYS = torch.tensor(
    [[[2, 1, 0, 0], [0, 1, 1, 0]], [[2, 1, 0, 0], [-1, 1, 1, 0]]], dtype=torch.float64
)


def toy(rotation: QueryRotation, keys: torch.Tensor = TOY_KEYS) -> SimpleNamespace:
    return SimpleNamespace(query=rotation(TOY_QUERY), mean_keys=keys)


def rolling_toy(**options) -> RollingQ:
    options = {"rho": 1.0, "beta": 0.0, "max_rotations": 100, **options}
    return RollingQ(QueryRotation(4).double(), **options)


def epochs(rolling: RollingQ, count: int, keys: torch.Tensor = TOY_KEYS):
    """Run epochs of one batch each, and return what each ended with."""
    events = []
    for _ in range(count):
        rolling.observe(toy(rolling.module, keys))
        events.append(rolling.end_epoch())
    return events


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))


def test_the_toy_event():
    rolling = rolling_toy()
    event, second = epochs(rolling, 2)
    assert event.epoch == 0
    assert event.count == 1
    assert event.air == pytest.approx(1.1831023, abs=1e-5)
    assert event.weights == pytest.approx((0.0857863, 1 - 0.0857863), abs=1e-5)
    assert math.cos(event.angle) == pytest.approx(-0.248313, abs=1e-5)
    assert event.query_norm == pytest.approx(2)
    assert event.key_norms == pytest.approx((math.sqrt(5), 1.5))
    # The second epoch observed the turned query.
    assert second.air == pytest.approx(-0.857649, abs=1e-5)
    assert second.count == rolling.module.count == 2
    assert rolling.events == [event, second]


def training(seed=0, modalities=2, steps=3, dtype=torch.float32):
    """A fusion layer with its optimiser, and the batches of one epoch."""
    torch.manual_seed(seed)
    layer = AttentionFusion(8, 4, cls_std=1.0).to(dtype)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(seed + 1)
    batches = [
        (
            [torch.randn(size, 3, 8, generator=generator).to(dtype) + m for m in range(modalities)],
            torch.randint(4, (size,), generator=generator),
        )
        for size in (6, 6, 2, 5)[:steps]
    ]
    return layer, optimiser, batches


def train_on(layer, optimiser, rolling, batches):
    for tokens, labels in batches:
        output = layer(tokens)
        optimiser.zero_grad()
        cross_entropy(output.logits, labels).backward()
        optimiser.step()
        rolling.observe(output)


@pytest.mark.parametrize("rotation", ["minimal", "svd"])
@pytest.mark.parametrize("modalities", [2, 3])
def test_the_next_query_points_to_the_anchor(rotation, modalities):
    layer, _, batches = training(modalities=modalities, dtype=torch.float64)
    rolling = RollingQ(layer, rho=2.0, beta=0.0, max_rotations=5, rotation=rotation)
    with torch.no_grad():
        outputs = [layer(tokens) for tokens, _ in batches]
        for output in outputs:
            rolling.observe(output)
        event = rolling.end_epoch()
        after = layer(batches[0][0]).query[0]

    query = outputs[0].query[0]
    keys = torch.cat([output.mean_keys for output in outputs])
    cosines = torch.nn.functional.cosine_similarity(keys, query, dim=-1).mean(0)
    weights = torch.softmax(-4 * cosines, 0)
    unit = torch.nn.functional.normalize
    anchor = weights @ unit(keys.mean(0), dim=-1)
    if modalities == 2:
        air = attention_imbalance_rate(query, keys[:, 0], keys[:, 1])
        alpha = anchor_weight(float(air), 2.0)
        anchor = rebalance_anchor(query, *keys.mean(0), alpha)
        assert event.air == pytest.approx(float(air))
        assert event.weights[0] == pytest.approx(alpha)
    assert event.cosines == pytest.approx(cosines.tolist())
    assert event.weights == pytest.approx(weights.tolist())
    assert cosine(after, anchor) == pytest.approx(1, abs=1e-12)
    assert event.angle == pytest.approx(math.acos(cosine(query, anchor)))
    assert float(after.norm()) == pytest.approx(float(query.norm()))


def test_three_modalities_are_imbalanced_by_their_extremes():
    keys = torch.eye(4, dtype=torch.float64)[None, :3].repeat(2, 1, 1)
    keys[:, 2] *= -1
    # Cosines 1, 0, 0 for the toy's query: the first leads by 1 over the last two.
    (event,) = epochs(rolling_toy(beta=1.0), 1, keys)
    assert event.cosines == (1, 0, 0)
    expected = anchor_weights(torch.tensor([1.0, 0, 0]).double(), 1.0)
    assert event.weights == pytest.approx(expected.tolist())
    (event,) = epochs(rolling_toy(beta=1.0001), 1, keys)
    assert event is None


def test_an_imbalance_of_exactly_beta_rotates():
    keys = torch.eye(4, dtype=torch.float64)[None, :2]
    assert epochs(rolling_toy(beta=1.0), 1, keys)[0].air == 1
    assert epochs(rolling_toy(beta=math.nextafter(1, 2)), 1, keys) == [None]
    # The second modality may lead just as well.
    assert epochs(rolling_toy(beta=1.0), 1, keys.flip(1))[0].air == -1


@pytest.mark.parametrize(
    ("options", "rotated"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6]),
        ({"max_rotations": 0}, []),
        ({"max_rotations": 3}, [0, 1, 2]),
        ({"start_epoch": 4}, [4, 5, 6]),
        ({"spacing": 3}, [0, 3, 6]),
        ({"start_epoch": 1, "spacing": 2, "max_rotations": 2}, [1, 3]),
        ({"beta": 2.0}, []),
    ],
)
def test_when_it_rotates(options, rotated):
    rolling = rolling_toy(**options)
    events = epochs(rolling, 7)
    assert [epoch for epoch, event in enumerate(events) if event] == rotated
    assert [event.epoch for event in rolling.events] == rotated
    assert [event.count for event in rolling.events] == [*range(1, len(rotated) + 1)]
    assert rolling.module.count == len(rotated)


def test_rotations_before_this_run_count_towards_the_limit():
    module = QueryRotation(4).double()
    module.rotate(torch.eye(4, dtype=torch.float64))
    rolling = RollingQ(module, rho=1.0, beta=0.0, max_rotations=2)
    assert [bool(event) for event in epochs(rolling, 3)] == [True, False, False]


def test_an_epoch_without_an_observation_passes():
    rolling = rolling_toy()
    assert rolling.end_epoch() is None
    assert rolling.last is None
    assert epochs(rolling, 1)[0].epoch == 1


def test_each_epoch_starts_anew():
    rolling = rolling_toy(max_rotations=0)
    epochs(rolling, 1)
    epochs(rolling, 1, TOY_KEYS.flip(1))
    assert rolling.last.air == pytest.approx(-1.1831023, abs=1e-5)


@pytest.mark.parametrize(("estimate", "first"), [("epoch", 0), ("last_batch", 1)])
def test_the_estimates_scope(estimate, first):
    rolling = rolling_toy(estimate=estimate)
    for keys in TOY_KEYS:
        rolling.observe(toy(rolling.module, keys[None]))
    keys = TOY_KEYS[first:]
    air = float(attention_imbalance_rate(TOY_QUERY, keys[:, 0], keys[:, 1]))
    event = rolling.end_epoch()
    assert event.air == pytest.approx(air)
    assert event.key_norms == pytest.approx(keys.mean(0).norm(dim=-1).tolist())


@pytest.mark.parametrize(
    ("query", "keys", "reason"),
    [
        (torch.zeros(4), TOY_KEYS, "zero norm"),
        (TOY_QUERY, torch.stack((TOY_KEYS[0], -TOY_KEYS[0])), "zero norm"),
        (torch.tensor([0.0, 0, 0, 1]), torch.tensor([[[1.0, 0, 0, 0], [-1, 0, 0, 0]]]), "cancel"),
    ],
    ids=["query", "keys", "anchor"],
)
@pytest.mark.parametrize("rotation", ["minimal", "svd", "random_matched", "random_free"])
def test_without_a_direction_there_is_a_warning_and_training_goes_on(query, keys, reason, rotation):
    rolling = rolling_toy(rotation=rotation)
    rolling.observe(SimpleNamespace(query=query, mean_keys=keys))
    with pytest.warns(UserWarning, match=f"^no rotation after epoch 0: .*{reason}"):
        assert rolling.end_epoch() is None
    assert rolling.events == []
    assert torch.equal(rolling.module.matrix, torch.eye(4, dtype=torch.float64))
    assert epochs(rolling, 1)[0].epoch == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["query", "mean_keys"])
def test_diverged_training_is_an_error(name, bad):
    rolling = rolling_toy()
    output = toy(rolling.module)
    setattr(output, name, getattr(output, name) * bad)
    rolling.observe(output)
    with pytest.raises(ValueError, match=rf"^output\.{name}: got .* non-finite"):
        rolling.end_epoch()


# The controls.


def test_random_matched_turns_by_the_schedules_angles_at_its_epochs():
    source = rolling_toy(spacing=2, max_rotations=3)
    epochs(source, 7)
    control = rolling_toy(rotation="random_matched", schedule=source.events, beta=2.0)
    directions = []
    for _ in range(7):
        before = control.module(TOY_QUERY)
        event = epochs(control, 1)[0]
        if event:
            assert math.acos(cosine(before, control.module(TOY_QUERY))) == pytest.approx(
                event.angle, abs=1e-9
            )
            directions.append(control.module(TOY_QUERY))
    assert [e.epoch for e in control.events] == [e.epoch for e in source.events] == [0, 2, 4]
    assert [e.angle for e in control.events] == pytest.approx([e.angle for e in source.events])
    # Its direction is not the anchor's: the first two runs saw the same keys and query.
    first = rolling_toy()
    epochs(first, 1)
    assert cosine(directions[0], first.module(TOY_QUERY)) < 0.999


def test_random_matched_alone_turns_by_the_anchors_angle():
    plain, control = rolling_toy(), rolling_toy(rotation="random_matched")
    (event,), (random,) = epochs(plain, 1), epochs(control, 1)
    assert random.angle == pytest.approx(event.angle)
    assert not torch.allclose(plain.module.matrix, control.module.matrix)


def test_random_free_goes_to_any_direction_at_the_schedules_epochs():
    source = rolling_toy(spacing=3)
    epochs(source, 7)
    control = rolling_toy(rotation="random_free", schedule=source.events)
    epochs(control, 7)
    assert [e.epoch for e in control.events] == [e.epoch for e in source.events]
    assert control.events[0].angle != pytest.approx(source.events[0].angle)


@pytest.mark.parametrize("rotation", ["random_matched", "random_free"])
def test_an_empty_schedule_never_rotates(rotation):
    assert epochs(rolling_toy(rotation=rotation, schedule=[]), 3) == [None] * 3


@pytest.mark.parametrize("rotation", ["random_matched", "random_free"])
def test_the_seed_decides_the_random_directions(rotation):
    runs = [rolling_toy(rotation=rotation, seed=seed) for seed in (1, 1, 2)]
    torch.manual_seed(0)
    for run in runs:
        epochs(run, 3)
        # The global random state must not matter.
        torch.randn(3)
    assert torch.equal(runs[0].module.matrix, runs[1].module.matrix)
    assert runs[0].events == runs[1].events
    assert not torch.allclose(runs[0].module.matrix, runs[2].module.matrix)


@pytest.mark.parametrize("rotation", ["minimal", "svd", "random_matched", "random_free"])
def test_many_rotations_stay_orthogonal(rotation):
    rolling = RollingQ(QueryRotation(4), 1.0, 0.0, 100, rotation=rotation)
    for _ in range(50):
        output = toy(rolling.module)
        rolling.observe(SimpleNamespace(query=output.query.float(), mean_keys=output.mean_keys))
        rolling.end_epoch()
    matrix = rolling.module.matrix
    assert rolling.module.count == 50
    assert matrix.dtype == torch.float32
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(4), atol=1e-4, rtol=0)
    assert torch.linalg.slogdet(matrix).sign == 1


# Stopping and resuming.


def through_a_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("rotation", ["minimal", "random_matched", "random_free"])
@pytest.mark.parametrize("estimate", ["epoch", "last_batch"])
@pytest.mark.parametrize("stop", [0, 1, 3])
def test_resuming_in_the_middle_of_an_epoch_changes_nothing(rotation, estimate, stop):
    options = {
        "rho": 2.0, "beta": 0.0, "max_rotations": 3, "start_epoch": 1, "spacing": 2,
        "rotation": rotation, "estimate": estimate, "seed": 5,
    }  # fmt: skip
    layer, optimiser, batches = training()
    rolling = RollingQ(layer, **options)
    for _ in range(3):
        train_on(layer, optimiser, rolling, batches)
        rolling.end_epoch()
    train_on(layer, optimiser, rolling, batches[:stop])
    saved = through_a_file(
        [layer.state_dict(), optimiser.state_dict(), rolling.state_dict()],
    )

    resumed_layer, resumed_optimiser, _ = training(seed=9)
    resumed = RollingQ(resumed_layer, **options)
    for target, state in zip((resumed_layer, resumed_optimiser, resumed), saved, strict=True):
        target.load_state_dict(state)
    for run in ((layer, optimiser, rolling), (resumed_layer, resumed_optimiser, resumed)):
        train_on(*run, batches[stop:])
        run[2].end_epoch()
        for _ in range(4):
            train_on(*run, batches)
            run[2].end_epoch()

    assert [event.epoch for event in rolling.events] == [1, 3, 5]
    assert resumed.events == rolling.events
    assert all(isinstance(event, RotationEvent) for event in resumed.events)
    for name, value in layer.state_dict().items():
        assert torch.equal(resumed_layer.state_dict()[name], value), name


def test_a_saved_state_does_not_change_with_the_run():
    rolling = rolling_toy(rotation="random_free")
    rolling.observe(toy(rolling.module))
    state = rolling.state_dict()
    before = through_a_file(state)
    epochs(rolling, 2)
    assert state["epoch"] == before["epoch"] == 0
    assert state["events"] == before["events"] == []
    assert torch.equal(state["generator"], before["generator"])
    assert all(torch.equal(state["sums"][name], value) for name, value in before["sums"].items())


# In a model of one's own.


class OwnAttention(nn.Module):
    """Somebody's pooling by a learned query, before RollingQ."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(dim))
        self.key = nn.Linear(dim, dim)

    def forward(self, a, v, turn=lambda query: query):
        query, keys = turn(self.query), self.key(torch.cat((a, v), dim=1))
        pooled = (keys @ query).softmax(1).unsqueeze(1) @ torch.cat((a, v), dim=1)
        means = torch.stack((keys[:, : a.shape[1]].mean(1), keys[:, a.shape[1] :].mean(1)), dim=1)
        return pooled.squeeze(1), query, means


def test_five_lines_in_a_layer_of_ones_own():
    torch.manual_seed(0)
    layer = OwnAttention(6)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    a, v = torch.randn(4, 3, 6) + 1, torch.randn(4, 5, 6)

    turn = QueryRotation(6)
    rolling = RollingQ(turn, rho=3.0, beta=0.05, max_rotations=2)
    for _ in range(4):
        pooled, query, mean_keys = layer(a, v, turn)
        rolling.observe(SimpleNamespace(query=query, mean_keys=mean_keys))
        optimiser.zero_grad()
        pooled.square().sum().backward()
        optimiser.step()
        rolling.end_epoch()

    assert [event.epoch for event in rolling.events] == [0, 1]
    assert turn.count == 2
    assert not torch.allclose(layer(a, v, turn)[0], layer(a, v)[0])


def test_a_layer_that_has_a_rotation_and_the_rotation_itself_are_the_same():
    layer = AttentionFusion(8, 4)
    assert RollingQ(layer, 1.0, 0.1, 1).module is layer.rotation
    assert RollingQ(layer.rotation, 1.0, 0.1, 1).module is layer.rotation


# Errors.


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"layer": nn.Linear(4, 4)}, "layer"),
        ({"layer": None}, "layer"),
        ({"rho": 0.0}, "rho"),
        ({"rho": -1.0}, "rho"),
        ({"rho": math.nan}, "rho"),
        ({"rho": None}, "rho"),
        ({"beta": -0.1}, "beta"),
        ({"beta": math.inf}, "beta"),
        ({"max_rotations": -1}, "max_rotations"),
        ({"start_epoch": -1}, "start_epoch"),
        ({"spacing": 0}, "spacing"),
        ({"estimate": "batch"}, "estimate"),
        ({"rotation": "random"}, "rotation"),
        ({"schedule": []}, "schedule"),
    ],
)
def test_an_option_out_of_range_is_named(options, name):
    options = {"layer": QueryRotation(4), "rho": 1.0, "beta": 0.1, "max_rotations": 1, **options}
    with pytest.raises(ValueError, match=rf"^{name}: got .*expected"):
        RollingQ(**options)


@pytest.mark.parametrize(
    ("query", "keys", "name"),
    [
        (torch.ones(4), torch.ones(2, 4), "output.mean_keys"),
        (torch.ones(3), torch.ones(3, 2, 4), "output.query"),
    ],
)
def test_a_bad_observation_is_named(query, keys, name):
    with pytest.raises(ValueError, match=rf"^{name}: got .*expected"):
        rolling_toy().observe(SimpleNamespace(query=query, mean_keys=keys))


def test_expectations_of_another_dimension_than_the_rotations_are_an_error():
    rolling = rolling_toy()
    rolling.observe(SimpleNamespace(query=torch.ones(5), mean_keys=torch.randn(3, 2, 5)))
    with pytest.raises(ValueError, match=r"^rotation: got shape \[2, 5\]"):
        rolling.end_epoch()


def test_observing_nothing_is_an_error():
    rolling = RollingQ(QueryRotation(4), 1.0, 0.1, 1)
    with pytest.raises(ValueError, match="output: got a query of type NoneType"):
        rolling.observe()
    with pytest.raises(ValueError, match="mean_keys of type NoneType"):
        rolling.observe(query=torch.ones(4))


def test_query_and_mean_keys_by_name_are_an_output():
    query, mean_keys = torch.randn(4), torch.randn(3, 2, 4)
    by_name, by_output = (RollingQ(QueryRotation(4), 1.0, 0.0, 1) for _ in range(2))
    by_name.observe(query=query, mean_keys=mean_keys)
    by_output.observe(SimpleNamespace(query=query, mean_keys=mean_keys))
    assert by_name.end_epoch() == by_output.end_epoch() is not None


# The schedule lives in the model's buffers.


def model_state(rolling):
    return through_a_file(rolling.module.state_dict())


@pytest.mark.parametrize(
    ("options", "stop"),
    [
        ({"spacing": 4}, 2),
        ({"start_epoch": 5}, 2),
        ({"max_rotations": 2}, 1),
        ({"start_epoch": 1, "spacing": 3, "max_rotations": 2}, 3),
    ],
)
@pytest.mark.parametrize("built", ["before", "after"])
def test_the_models_state_alone_carries_the_schedule(options, stop, built):
    whole, first = rolling_toy(**options), rolling_toy(**options)
    expected = [event and event.epoch for event in epochs(whole, 9)]
    epochs(first, stop)
    module = QueryRotation(4).double()
    if built == "after":
        module.load_state_dict(model_state(first))
    resumed = RollingQ(module, **{"rho": 1.0, "beta": 0.0, "max_rotations": 100, **options})
    if built == "before":
        module.load_state_dict(model_state(first))
    assert resumed.epoch == stop
    found = [event and event.epoch for event in epochs(resumed, 9 - stop)]
    assert found == expected[stop:]
    assert torch.equal(module.matrix, whole.module.matrix)
    assert [int(module.count), int(module.epoch), int(module.last_rotation)] == [
        len(whole.events),
        9,
        whole.events[-1].epoch,
    ]


def test_the_schedule_of_a_fresh_rotation_is_empty():
    module = QueryRotation(4)
    assert [int(module.count), int(module.epoch), int(module.last_rotation)] == [0, 0, -1]
    assert list(module.state_dict()) == ["matrix", "count", "epoch", "last_rotation"]


@pytest.mark.parametrize("order", ["model first", "rolling first"])
def test_states_of_the_older_version_still_load(order):
    whole = rolling_toy(spacing=3)
    epochs(whole, 2)
    old_model = {name: model_state(whole)[name] for name in ("matrix", "count")}
    old_rolling = whole.state_dict()
    del old_rolling["last_rotation"]
    del old_rolling["sums"]
    old_rolling["sums"] = {}
    resumed = rolling_toy(spacing=3)
    loads = [
        lambda: resumed.module.load_state_dict(old_model),
        lambda: resumed.load_state_dict(old_rolling),
    ]
    for load in loads if order == "model first" else loads[::-1]:
        load()
    assert epochs(resumed, 4) == epochs(whole, 4)
    assert [event.epoch for event in resumed.events] == [0, 3]


def test_an_old_state_without_events_starts_anew():
    old = rolling_toy().state_dict()
    del old["last_rotation"]
    rolling = rolling_toy(start_epoch=1)
    epochs(rolling, 3)
    rolling.load_state_dict(old)
    assert [int(rolling.module.epoch), int(rolling.module.last_rotation)] == [0, -1]


def test_open_sums_of_the_older_version_still_load():
    rolling = rolling_toy()
    rolling.observe(toy(rolling.module))
    state = rolling.state_dict()
    state["sums"].pop("query_norm")
    resumed = rolling_toy()
    resumed.load_state_dict(through_a_file(state))
    assert resumed.end_epoch().air == pytest.approx(1.1831023, abs=1e-5)


def test_a_state_that_is_not_a_rotations_is_still_refused():
    with pytest.raises(RuntimeError, match=r"matrix.*count"):
        QueryRotation(4).load_state_dict({})
    with pytest.raises(RuntimeError, match=r"0\.count"):
        nn.Sequential(QueryRotation(4)).load_state_dict({"0.matrix": torch.eye(4)})


def test_one_that_only_watches_leaves_the_schedule_alone():
    rolling = rolling_toy(start_epoch=2)
    watching = RollingQ(rolling.module, rho=1.0, beta=0.0, max_rotations=0)
    rotated = []
    for epoch in range(3):
        for observer in (watching, rolling):
            observer.observe(toy(rolling.module))
            rotated += [epoch] if observer.end_epoch() else []
    assert rotated == [2]
    assert watching.last.air == pytest.approx(1.1831023, abs=1e-5)


def test_epochs_that_a_second_one_closes_count_too():
    rolling = rolling_toy()
    other = RollingQ(rolling.module, rho=1.0, beta=2.0, max_rotations=1)
    epochs(rolling, 1)
    epochs(other, 1)
    assert rolling.epoch == other.epoch == 2


# Queries that make a rotation pointless.


def observe_alone(rolling, query, keys=TOY_KEYS):
    rolling.observe(query=query, mean_keys=keys)


@pytest.mark.parametrize("rotation", ["minimal", "svd", "random_matched", "random_free"])
@pytest.mark.parametrize("step", [0.0, 0.02])
def test_a_rotation_that_the_model_ignores_is_warned_of_once(rotation, step):
    rolling = rolling_toy(rotation=rotation)
    drift = step * torch.tensor([0.0, 1, -1, 1], dtype=torch.float64)
    observe_alone(rolling, TOY_QUERY)
    assert rolling.end_epoch() is not None
    with pytest.warns(UserWarning, match=r"points where it did before: pass the query through"):
        observe_alone(rolling, TOY_QUERY + drift)
    observe_alone(rolling, TOY_QUERY)
    assert rolling.end_epoch() is not None
    observe_alone(rolling, TOY_QUERY)


@pytest.mark.parametrize("rotation", ["minimal", "svd", "random_matched", "random_free"])
@pytest.mark.parametrize("scale", [1.0, 1e-30])
def test_a_rotation_that_shows_is_not_warned_of(rotation, scale):
    rolling = rolling_toy(rotation=rotation)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        query = TOY_QUERY + 0.3 * torch.randn(4, generator=generator, dtype=torch.float64)
        observe_alone(rolling, rolling.module(scale * query))
        rolling.end_epoch()


@pytest.mark.parametrize("shown", [True, False])
def test_queries_of_the_samples_own_are_compared_in_the_mean(shown):
    rolling = rolling_toy()
    generator = torch.Generator().manual_seed(0)

    def batch():
        noise = 0.3 * torch.randn(500, 4, generator=generator, dtype=torch.float64)
        return TOY_QUERY + noise, TOY_KEYS[:1].expand(500, 2, 4)

    query, keys = batch()
    observe_alone(rolling, query, keys)
    assert rolling.end_epoch().angle > 1
    query, keys = batch()
    if shown:
        observe_alone(rolling, rolling.module(query), keys)
    else:
        with pytest.warns(UserWarning, match="points where it did before"):
            observe_alone(rolling, query, keys)


def test_queries_too_different_to_tell_are_not_warned_of():
    rolling = rolling_toy()
    query = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).double() + 1
    observe_alone(rolling, query, TOY_KEYS[:1].expand(8, 2, 4))
    assert rolling.end_epoch() is not None
    observe_alone(rolling, query, TOY_KEYS[:1].expand(8, 2, 4))


def test_training_does_not_hide_a_turn_nor_look_like_none():
    layer, optimiser, batches = training()
    rolling = RollingQ(layer, rho=2.0, beta=0.0, max_rotations=3)
    for _ in range(4):
        train_on(layer, optimiser, rolling, batches)
        rolling.end_epoch()
    layer, optimiser, batches = training()
    layer.rotation, ignored = nn.Identity(), layer.rotation
    rolling = RollingQ(ignored, rho=2.0, beta=0.0, max_rotations=1)
    train_on(layer, optimiser, rolling, batches)
    rolling.end_epoch()
    with pytest.warns(UserWarning, match="points where it did before"):
        train_on(layer, optimiser, rolling, batches)


def test_queries_that_cancel_are_warned_of_once():
    rolling = rolling_toy()
    signs = torch.tensor([1.0, -0.9, 1, -0.9], dtype=torch.float64).unsqueeze(1)
    keys = TOY_KEYS[:1].expand(4, 2, 4)
    for count in range(2):
        observe_alone(rolling, rolling.module(signs * TOY_QUERY), keys)
        if count:
            assert rolling.end_epoch() is not None
        else:
            with pytest.warns(UserWarning, match="queries nearly cancel"):
                assert rolling.end_epoch() is not None
    rolling = rolling_toy()
    observe_alone(rolling, TOY_QUERY.expand(4, 4) * signs.abs(), keys)
    assert rolling.end_epoch() is not None
    assert float(rolling.last.query_norm) == pytest.approx(1.9)


def test_a_rolling_knows_its_module():
    layer, other = AttentionFusion(8, 4), AttentionFusion(8, 4)
    rolling = RollingQ(layer, 1.0, 0.1, 1)
    assert rolling.module in set(layer.modules())
    assert rolling.module not in set(other.modules())


# Golden values of the controls, and defaults.


@pytest.mark.parametrize(
    ("rotation", "angle", "query"),
    [
        ("random_matched", 1.8217345035, [-0.4966257, 0.9173846, 1.1048899, -1.3003795]),
        ("random_free", 1.6589872972, [-0.1761534, 0.9433657, 1.1361812, -1.3372073]),
    ],
)
def test_the_controls_are_pinned(rotation, angle, query):
    rolling = rolling_toy(rotation=rotation, seed=7)
    (event,) = epochs(rolling, 1)
    assert event.angle == pytest.approx(angle, abs=1e-9)
    assert rolling.module(TOY_QUERY).tolist() == pytest.approx(query, abs=1e-6)


def test_the_controls_go_on_drawing():
    first, second = epochs(rolling_toy(rotation="random_free", seed=7), 2)
    assert first.angle != pytest.approx(second.angle)
