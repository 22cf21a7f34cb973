"""A sweep over seeds, rho, beta and methods, as plain rows."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from threading import Lock
from typing import Any, NamedTuple

from joblib import Parallel, delayed
from tqdm.auto import tqdm

from rollingq_core._checks import require_integer
from rollingq_core.data import load_dataset
from rollingq_core.methods import METHODS
from rollingq_core.runs.elsewhere import Elsewhere
from rollingq_core.runs.replica import Replica, data_sizes, stackable
from rollingq_core.runs.replicas import fit_replicas
from rollingq_core.runs.run import Run, events_of, one_thread, prepare
from rollingq_core.settings import Setting

# torch's random state and number of threads are the process's: where workers are threads, as they
# may be on a cluster, they take turns.
_one_at_a_time = Lock()


# What of a setting only RollingQ and its random controls know.
ROLLING = ("rho", "beta", "max_rotations", "start_epoch", "spacing")


class _Point(NamedTuple):
    """Methods at one seed and one choice of RollingQ's options, as pairs of name and value."""

    seed: int
    options: tuple[tuple[str, Any], ...]
    methods: tuple[str, ...]


def sweep(
    data_name: str,
    setting: Setting,
    seeds: Sequence[int],
    *,
    report: Callable[[str, int, Run], dict[str, Any]],
    over: Mapping[str, Sequence[float]] | None = None,
    methods: Sequence[str] = ("mt+rollingq",),
    batch: int = 32,
    n_jobs: int = 1,
    progress: bool = True,
    **data_options: Any,
) -> list[dict[str, Any]]:
    """Train each method at each seed and point of a grid, and return one row a run.

    Each run is that of :func:`rollingq_core.runs.train`, but for rounding: at
    one seed all share initial weights and data order, and the random controls follow the events
    of RollingQ at the same point. Vanilla and uniform attention know nothing of the grid, and are
    trained once a seed. What two points have in common is trained once, too: as long as they have
    called for the same rotations, they are the same run.

    Parameters
    ----------
    data_name, data_options
        Dataset and further options of :func:`rollingq_core.data.load_dataset`, which gets the
        run's seed.
    setting
        Model and training, for example ``SETTINGS["T"]``.
    seeds
        One grid a seed.
    report
        From method, seed and finished run to the numbers to keep.
    over
        The grid: values of RollingQ's options by name, for example
        ``{"rho": [1, 3], "beta": [0.05, 0.1]}``; the setting's own for all others.
    methods
        Some of ``METHODS``.
    batch
        Grid points trained as one batch.
    n_jobs
        Processes; another backend of joblib, such as a Dask cluster, takes over inside
        ``joblib.parallel_config(backend="dask")``.
    progress
        Whether to show a progress bar.

    Returns
    -------
    list of dict
        What ``report`` returned, with ``method``, ``seed``, ``data_hash`` and the options of the
        grid (None where they play no part), by seed, then grid point and method.

    Raises
    ------
    ValueError
        No such method or option, a random control without ``"mt+rollingq"``, or a number that is no
        integer in its range.
    """
    over = dict(over or {})
    if foreign := [name for name in over if name not in ROLLING]:
        raise ValueError(f"over: got {foreign}, expected some of {ROLLING}")
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods:
        raise ValueError(f"methods: got {list(methods)}, expected some of {[*METHODS]}")
    for leader in {METHODS[method].follows for method in methods} - {None, *methods}:
        raise ValueError(f"methods: got {list(methods)}, expected also {leader!r} to pair with")
    size = require_integer("batch", batch, at_least=1)
    require_integer("n_jobs", n_jobs)
    for seed in seeds:
        require_integer("seeds", seed, at_least=0)
    still = tuple(method for method in methods if not METHODS[method].turns)
    turned = tuple(method for method in methods if METHODS[method].turns)
    grid = [tuple(zip(over, values, strict=True)) for values in product(*over.values())]
    points = []
    for seed in seeds:
        points += [_Point(seed, (), still)] if still else []
        points += [_Point(seed, options, turned) for options in grid] if turned else []
    chunks = [points[start : start + size] for start in range(0, len(points), size)]
    tasks = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(Elsewhere(_run))(chunk, tuple(over), data_name, data_options, setting, report)
        for chunk in chunks
    )
    rows = []
    with tqdm(total=len(points), disable=not progress, desc=f"{data_name}, grid points") as bar:
        for chunk, done in zip(chunks, tasks, strict=True):
            rows += done
            bar.update(len(chunk))
    return rows


def _trained(point: _Point) -> tuple[str, ...]:
    """Return a point's methods, and those that they follow and that are told of elsewhere."""
    leaders = (METHODS[method].follows for method in point.methods)
    return tuple(dict.fromkeys([*(name for name in leaders if name), *point.methods]))


def _waves(methods: set[str]) -> list[list[str]]:
    """Return which methods train together: those of one fusion layer, and followers later."""
    waves: dict[tuple[Hashable, ...], list[str]] = {}
    for name in (name for name in METHODS if name in methods):
        method = METHODS[name]
        waves.setdefault((method.follows, method.fusion, method.modalities), []).append(name)
    return [waves[key] for key in sorted(waves, key=lambda key: key[0] is not None)]


def _run(
    points: Sequence[_Point],
    names: Sequence[str],
    data_name: str,
    data_options: dict[str, Any],
    setting: Setting,
    report: Callable[[str, int, Run], dict[str, Any]],
) -> list[dict[str, Any]]:
    """Train all methods of some grid points, wave by wave."""
    seeds = {point.seed for point in points}
    data = {seed: load_dataset(data_name, seed=seed, **data_options) for seed in seeds}
    runs: dict[tuple[_Point, str], Run] = {}
    with _one_at_a_time, one_thread():
        for wave in _waves({method for point in points for method in _trained(point)}):
            keys = [(point, m) for point in points for m in _trained(point) if m in wave]
            groups: dict[Hashable, dict[tuple[_Point, str], Replica]] = {}
            for point, method in keys:
                own = replace(setting, **dict(point.options))
                leader = METHODS[method].follows
                schedule = runs[point, leader].schedule_for(method) if leader else None
                drawn = data[point.seed]
                model, config, observers = prepare(method, drawn, own, point.seed, schedule)
                replica = Replica(model, drawn, config, observers)
                # Where a seed draws splits of another size, its runs can't be of the same batch.
                group = groups.setdefault((data_sizes(drawn), stackable(replica)), {})
                group[point, method] = replica
            for group in groups.values():
                results = fit_replicas([*group.values()])
                for (key, replica), result in zip(group.items(), results, strict=True):
                    events = events_of(replica.observers)
                    runs[key] = Run(replica.model, replica.data, result, events)
        reports: dict[Hashable, dict[str, Any]] = {}
        rows = []
        for point in points:
            for method in point.methods:
                run = runs[point, method]
                same = (point.seed, method, *run.events)
                if same not in reports:
                    reports[same] = report(method, point.seed, run)
                row = reports[same] | {"method": method, "seed": point.seed}
                row |= dict.fromkeys(names) | dict(point.options)
                rows.append(row | {"data_hash": data[point.seed].data_hash})
        return rows
