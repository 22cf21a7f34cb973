"""Many runs at once: the same runs as one at a time, in any number of processes."""

from dataclasses import asdict, replace

import joblib
import pytest
import torch

from rollingq_core import RollingQ
from rollingq_core.balancing import OGM, PMR, Rolling
from rollingq_core.data import PairedDataset
from rollingq_core.methods import DYNAMIC, METHODS, methods_for
from rollingq_core.reproduce.reports import summarise
from rollingq_core.runs import prepare, train
from rollingq_core.runs import replicas as together
from rollingq_core.runs import sweep as swept
from rollingq_core.runs.replica import Replica
from rollingq_core.runs.replicas import fit_replicas
from rollingq_core.runs.run import events_of
from rollingq_core.runs.sweep import sweep
from rollingq_core.training import fit
from rollingq_core.training.ticks import ticks_heard_by
from tests.small import (
    DROPOUT,
    SETTING,
    SIZES,
    TRAINING,
    assert_same_state,
    small_data,
    small_model,
)

# As the history has them, to the rounding of float32.
CLOSE = {"rel": 1e-5, "abs": 1e-5}


@pytest.fixture(scope="module")
def data():
    return small_data()


def flat(value, path=""):
    """Return the leaves of nested dicts and lists by their path."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return {path: value}
    return {k: v for key, one in items for k, v in flat(one, f"{path}/{key}").items()}


def assert_close(found, expected):
    found, expected = flat(found), flat(expected)
    assert list(found) == list(expected)
    for path, value in expected.items():
        if isinstance(value, float):
            assert found[path] == pytest.approx(value, **CLOSE), path
        else:
            assert found[path] == value, path


def assert_same_run(model, result, events, expected):
    torch.testing.assert_close(
        model.state_dict(), expected.model.state_dict(), atol=1e-5, rtol=1e-5
    )
    assert result.selected_epoch == expected.result.selected_epoch
    assert_close(result.history, expected.result.history)
    assert_close([asdict(e) for e in events], [asdict(e) for e in expected.events])


@pytest.mark.parametrize("selection", ["last", "best"])
def test_each_replica_is_the_run_that_fit_makes(selection):
    # Two seeds with a dataset each, several rho and beta, RollingQ beside vanilla.
    training = replace(TRAINING, selection=selection, warmup_epochs=0.5, lr=0.05)
    setting = replace(SETTING, training=training)
    datasets = {seed: small_data(seed) for seed in (0, 1)}
    cases = [
        ("mt+rollingq", 0, setting),
        ("mt+rollingq", 0, replace(setting, rho=0.5, max_rotations=2)),
        ("mt+rollingq", 1, replace(setting, beta=0.02, spacing=2)),
        ("mt", 1, setting),
        ("mt+random_free", 0, setting),
    ]
    untrained = [prepare(method, datasets[seed], own, seed) for method, seed, own in cases]
    results = fit_replicas(
        [
            Replica(p.model, datasets[seed], p.config, p.observers)
            for (_, seed, _), p in zip(cases, untrained, strict=True)
        ]
    )
    turns = set()
    for (method, seed, own), prepared, result in zip(cases, untrained, results, strict=True):
        expected = train(method, datasets[seed], setting=own, seed=seed)
        events = events_of(prepared.observers)
        assert_same_run(prepared.model, result, events, expected)
        turns.add(len(events))
    assert turns >= {0, 2, 3}


@pytest.mark.parametrize("method", ["mt+random_matched", "mt+random_free"])
def test_controls_follow_their_schedules(data, method):
    schedules = [
        train("mt+rollingq", data, setting=replace(SETTING, rho=rho), seed=4).events
        for rho in (1, 9)
    ]
    untrained = [prepare(method, data, SETTING, 4, schedule) for schedule in schedules]
    results = fit_replicas([Replica(p.model, data, p.config, p.observers) for p in untrained])
    for schedule, prepared, result in zip(schedules, untrained, results, strict=True):
        expected = train(method, data, setting=SETTING, seed=4, schedule=schedule)
        assert len(expected.events) == 3
        assert_same_run(prepared.model, result, events_of(prepared.observers), expected)


def test_grids_are_cut_into_patches_and_attention_may_be_uniform(data):
    splits = {
        name: PairedDataset(
            {k: x.unsqueeze(1) for k, x in getattr(data, name).inputs.items()},
            getattr(data, name).labels,
        )
        for name in ("train", "validation", "test")
    }
    grids = replace(data, **splits, patch={"audio": (1, 8), "visual": (2, 4)})
    for method in ("mt+rollingq", "uniform"):
        untrained = [prepare(method, grids, SETTING, seed) for seed in (0, 1)]
        results = fit_replicas([Replica(p.model, grids, p.config, p.observers) for p in untrained])
        for seed, (prepared, result) in enumerate(zip(untrained, results, strict=True)):
            expected = train(method, grids, setting=SETTING, seed=seed)
            assert_same_run(prepared.model, result, events_of(prepared.observers), expected)


def test_last_batch_estimate_several_heads_and_a_class_token_key(data):
    models = [small_model(seed, cls_self_key=True, num_heads=2) for seed in (0, 1)]
    rollings = [
        Rolling(RollingQ(model.fusion, 3.0, 0.0, 2, estimate=estimate))
        for model, estimate in zip(models, ("last_batch", "epoch"), strict=True)
    ]
    results = fit_replicas(
        [
            Replica(model, data, TRAINING, [rolling])
            for model, rolling in zip(models, rollings, strict=True)
        ]
    )
    for seed, estimate in enumerate(("last_batch", "epoch")):
        model = small_model(seed, cls_self_key=True, num_heads=2)
        rolling = Rolling(RollingQ(model.fusion, 3.0, 0.0, 2, estimate=estimate))
        expected = fit(model, data, TRAINING, observers=[rolling])
        assert_close(results[seed].history, expected.history)
        assert rollings[seed].events
        torch.testing.assert_close(
            models[seed].state_dict(), model.state_dict(), atol=1e-5, rtol=1e-5
        )


def test_trained_replicas_share_no_memory(data):
    models = [small_model(seed) for seed in (0, 1)]
    fit_replicas([Replica(model, data, TRAINING) for model in models])
    before = models[1].fusion.head.weight.clone()
    models[0].fusion.head.weight.data.zero_()
    assert torch.equal(models[1].fusion.head.weight, before)
    assert all(t._base is None and t.untyped_storage().nbytes() == t.nbytes
               for t in models[0].state_dict().values())  # fmt: skip


def static_replicas(data, observers_of):
    found = [prepare("concat", data, SETTING, seed) for seed in (0, 1)]
    return [Replica(p.model, data, p.config, observers_of(p.model)) for p in found]


def test_static_fusions_train_as_one_batch_too(data, monkeypatch):
    # Nothing of theirs is watched, and so nothing is told of attention.
    monkeypatch.setattr(together, "fit", None)
    replicas = static_replicas(data, lambda model: [])
    results = fit_replicas(replicas)
    for seed, (replica, result) in enumerate(zip(replicas, results, strict=True)):
        expected = train("concat", data, setting=SETTING, seed=seed)
        assert_same_run(replica.model, result, [], expected)
        assert not {"share", "air", "rotation"} & result.history[-1].keys()


@pytest.mark.parametrize("method", ["ogm-ge", "pmr"])
def test_replicas_whose_observers_do_not_stack_are_trained_one_by_one(data, method):
    def observers(model):
        return [OGM(model, noise=True, seed=7) if method == "ogm-ge" else PMR(seed=7)]

    replicas = static_replicas(data, observers)
    results = fit_replicas(replicas)
    for replica, result, alone in zip(
        replicas, results, static_replicas(data, observers), strict=True
    ):
        expected = fit(alone.model, data, alone.config, observers=alone.observers)
        assert result == expected
        assert_same_state(replica.model.state_dict(), alone.model.state_dict())


def replicas_with(data, *models, configs=(TRAINING, TRAINING), datasets=None):
    datasets = datasets or [data] * len(models)
    return [Replica(*x) for x in zip(models, datasets, configs, strict=False)]


def test_a_rollingq_of_another_model_is_refused(data):
    model, other = small_model(), small_model()
    own = Rolling(RollingQ(model.fusion, 3.0, 0.0, 2))
    replicas = [Replica(one, data, TRAINING, [own]) for one in (model, other)]
    with pytest.raises(ValueError, match="rolling: got one bound to a layer outside of this model"):
        fit_replicas(replicas)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda data: [], "replicas: got none"),
        (lambda data: replicas_with(data, *[small_model()] * 2), "got one model twice"),
        (
            lambda data: replicas_with(data, small_model(), small_model(mode="uniform")),
            "another architecture in number 1 than in 0",
        ),
        (
            lambda data: replicas_with(data, small_model(), small_model(pool="first")),
            "another architecture in number 1",
        ),
        (
            lambda data: replicas_with(
                data, small_model(), small_model(), configs=(TRAINING, replace(TRAINING, lr=0.1))
            ),
            "another configuration in number 1",
        ),
        (
            lambda data: replicas_with(
                data, small_model(), small_model(), datasets=[data, small_data(train_samples=64)]
            ),
            "another data sizes in number 1",
        ),
        (lambda data: replicas_with(data, small_model(**DROPOUT)), "got dropout in number 0"),
        (
            lambda data: replicas_with(data, small_model(output_dropout=0.1)),
            "got dropout in number 0",
        ),
    ],
)
def test_replicas_that_cannot_train_together_are_refused(data, build, message):
    with pytest.raises(ValueError, match=message):
        fit_replicas(build(data))


def test_divergence_is_an_error(data):
    with pytest.raises(ValueError, match=r"loss: got (nan|inf) in epoch"):
        fit_replicas(replicas_with(data, small_model(), configs=[replace(TRAINING, lr=1e9)]))


def note(method, seed, run):
    """Return what tells one run from another."""
    return {
        "weights": float(sum(p.detach().double().abs().sum() for p in run.model.parameters())),
        "history": run.result.history,
        "events": [asdict(event) for event in run.events],
    }


def small_sweep(seeds=(0, 1), **options):
    options = {"over": {"rho": [1.0, 4.0], "beta": [0.0, 0.1]}, "report": note, **options}
    return sweep("synthetic", SETTING, seeds, progress=False, **SIZES, **options)


def by_run(rows):
    return {(r["method"], r["seed"], r["rho"], r["beta"]): r for r in rows}


def test_a_sweep_is_train_on_each_point():
    rows = small_sweep(methods=DYNAMIC, batch=3)
    keys = list(by_run(rows))
    grid = [(rho, beta) for rho in (1.0, 4.0) for beta in (0.0, 0.1)]
    assert keys == [
        key
        for seed in (0, 1)
        for key in [
            *((m, seed, None, None) for m in ("mt", "uniform")),
            *((m, seed, *p) for p in grid for m in DYNAMIC if m not in ("mt", "uniform")),
        ]
    ]
    for seed in (0, 1):
        data = small_data(seed)
        events = {}
        for method, _, rho, beta in (key for key in keys if key[1] == seed):
            own = SETTING if rho is None else replace(SETTING, rho=rho, beta=beta)
            schedule = events.get((rho, beta)) if METHODS[method].follows else None
            run = train(method, data, setting=own, seed=seed, schedule=schedule)
            if method == "mt+rollingq":
                events[rho, beta] = run.events
            row = by_run(rows)[method, seed, rho, beta]
            assert row["data_hash"] == data.data_hash
            assert_close({name: row[name] for name in note(method, seed, run)},
                         note(method, seed, run))  # fmt: skip


def test_every_method_can_be_swept():
    methods = methods_for(("audio", "visual"))
    rows = small_sweep(seeds=(0,), over={"rho": [1.0, 4.0]}, methods=methods)
    found = {(row["method"], row["rho"]): row for row in rows}
    turned = [name for name in methods if METHODS[name].turns]
    # Those that know nothing of the grid are trained once.
    assert [*found] == [
        *((name, None) for name in methods if name not in turned),
        *((name, rho) for rho in (1.0, 4.0) for name in turned),
    ]
    data = small_data(0)
    for method in ("unimodal-audio", "concat", "ogm", "ogm-ge", "pmr"):
        run = train(method, data, setting=SETTING, seed=0)
        expected = note(method, 0, run)
        assert_close({name: found[method, None][name] for name in expected}, expected)


def test_rows_depend_neither_on_order_nor_on_what_is_trained_together():
    expected = by_run(small_sweep(methods=("mt", "mt+rollingq")))
    for other in (
        small_sweep(
            seeds=(1, 0),
            over={"rho": [4.0, 1.0], "beta": [0.0, 0.1]},
            methods=("mt+rollingq", "mt"),
        ),
        small_sweep(methods=("mt", "mt+rollingq"), batch=1),
    ):
        found = by_run(other)
        assert set(found) == set(expected)
        for key, row in expected.items():
            assert_close(found[key], row)


def test_points_part_only_where_their_rotations_differ(data, monkeypatch):
    # Vanilla and four budgets; each point's own rows begin after the rotation that it is denied.
    sizes = []

    def spy(stack, *arguments, **options):
        sizes.append(len(stack.leaders))
        return forward(stack, *arguments, **options)

    forward = together._Stack.__call__
    monkeypatch.setattr(together._Stack, "__call__", spy)
    setting = replace(SETTING, beta=0.0, training=replace(TRAINING, epochs=4))
    rows = sweep("synthetic", setting, [0], over={"max_rotations": [1, 2, 3, 9]}, report=note,
                 methods=("mt", "mt+rollingq"), progress=False, **SIZES)  # fmt: skip
    assert [len(row["events"]) for row in rows] == [0, 1, 2, 3, 4]
    assert sorted(set(sizes)) == [1, 2, 3, 4, 5]
    assert sizes == sorted(sizes)


def test_several_processes_give_the_same_rows():
    assert_close(small_sweep(n_jobs=2, batch=3), small_sweep(batch=3))


def test_a_dask_cluster_gives_the_same_rows():
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")

    def on_worker(method, seed, run):
        distributed.get_worker()  # raises outside of the cluster
        return note(method, seed, run)

    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    )
    with cluster, distributed.Client(cluster), joblib.parallel_config(backend="dask"):
        rows = small_sweep(batch=3, report=on_worker)
    assert_close(rows, small_sweep(batch=3))


def test_seeds_that_draw_datasets_of_other_sizes_are_swept_too(monkeypatch):
    def load(name, seed, **options):
        return small_data(seed, train_samples=(80, 64)[seed % 2])

    monkeypatch.setattr(swept, "load_dataset", load)
    rows = small_sweep(seeds=(0, 1, 2), over={}, methods=("mt", "mt+rollingq"))
    assert [(row["seed"], row["method"]) for row in rows] == [
        (seed, method) for seed in (0, 1, 2) for method in ("mt", "mt+rollingq")
    ]
    for row in rows:
        data = load("synthetic", row["seed"])
        assert row["data_hash"] == data.data_hash
        run = train(row["method"], data, setting=SETTING, seed=row["seed"])
        expected = note(row["method"], row["seed"], run)
        assert_close({name: row[name] for name in expected}, expected)


@pytest.mark.parametrize("methods", [("mt", "mt+rollingq"), ("pmr",)])
def test_each_epoch_of_a_batch_or_of_one_run_ticks(methods):
    ticks = []
    with ticks_heard_by(lambda: ticks.append(1)):
        small_sweep(seeds=(0,), over={}, methods=methods)
    assert len(ticks) == TRAINING.pretrain_epochs + TRAINING.epochs
    small_sweep(seeds=(0,), over={}, methods=methods)
    assert len(ticks) == TRAINING.pretrain_epochs + TRAINING.epochs


def test_without_a_grid_the_setting_alone_is_run():
    (row,) = sweep("synthetic", SETTING, [0], report=summarise, progress=False, **SIZES)
    assert {"method", "seed", "accuracy", "share_normal", "events", "history"} <= set(row)
    assert row["method"] == "mt+rollingq"
    data = small_data()
    found = train("mt+rollingq", data, setting=SETTING)
    assert row["history"]["air"] == pytest.approx(
        [epoch["air"] for epoch in found.result.history if "air" in epoch], **CLOSE
    )


def test_a_bar_shows_the_progress(capsys):
    sweep("synthetic", SETTING, [0], report=note, **SIZES)
    assert "synthetic, grid points: 100%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["rolling"]}, r"methods: got \['rolling'\], expected some of"),
        ({"methods": []}, r"methods: got \[\], expected some of"),
        ({"methods": ["mt+random_matched"]}, r"expected also 'mt\+rollingq' to pair with"),
        ({"batch": 0}, "batch: got 0, expected an integer of at least 1"),
        ({"over": {"dim": [8]}}, r"over: got \['dim'\], expected some of \('rho'"),
        ({"over": {"rho": [0.0]}}, "rho: got 0.0, expected a finite number above 0"),
        ({"over": {"beta": [-1.0]}}, "beta: got -1.0, expected a finite number of at least 0"),
    ],
)
def test_a_sweep_names_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        small_sweep(**options)
