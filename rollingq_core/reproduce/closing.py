"""The table that a recipe ends with: each method's means over the seeds, and what differs."""

from collections.abc import Callable, Sequence
from typing import Any

from rollingq_core._extras import needs

with needs("train"):
    import numpy as np

    from rollingq_core.methods import METHODS
    from rollingq_core.statistics import Rows, of_method, paired_difference, signed
    from rollingq_core.tables import Table

# What the others are compared with, where it was trained.
BASELINE = "mt"


def accuracy_by_level(record: dict[str, Any]) -> Table:
    """Return test accuracy without noise, and with each level of it, in percent."""
    columns = {
        f"noise {level:g}": _at("accuracy", index) for index, level in enumerate(record["levels"])
    }
    return _table(record["runs"], columns, "Test accuracy, %", difference=True)


def last_level(record: dict[str, Any]) -> Table:
    """Return accuracy where noise is all that is left, in percent, by kind and target."""
    names = [name for name, value in record["runs"][0].items() if isinstance(value, list)]
    columns = {name: _at(name, -1) for name in names}
    return _table(record["runs"], columns, "Test accuracy at noise level 1, %")


def by_modality(record: dict[str, Any]) -> Table:
    """Return accuracy without noise and with noise alone in each modality, in percent."""
    names = [*record["runs"][0]["accuracy"]]
    columns = {"clean": lambda run: 100 * run["accuracy"][names[0]][0]}
    for name in names:
        columns[f"noise for {name}"] = lambda run, name=name: 100 * run["accuracy"][name][-1]
    return _table(record["runs"], columns, "Test accuracy, %", difference=True)


def numbers(record: dict[str, Any]) -> Table:
    """Return the mean of each number that is a run's own."""
    first = record["runs"][0]
    columns = {
        name: lambda run, name=name: run[name]
        for name, value in first.items()
        if isinstance(value, int | float) and name not in ("seed", "p_value")
    }
    for name, value in first.items():
        if isinstance(value, dict):
            for key in value:
                columns[f"{name} {key}"] = lambda run, name=name, key=key: run[name][key]
    return _table(record["runs"], columns, "Mean over seeds", digits=3)


def _at(name: str, index: int) -> Callable[[dict[str, Any]], float]:
    return lambda run: 100 * run[name][index]


def _table(
    runs: Rows,
    columns: dict[str, Callable[[dict[str, Any]], float]],
    caption: str,
    *,
    difference: bool = False,
    digits: int = 1,
) -> Table:
    names = list(dict.fromkeys(run["method"] for run in runs))
    count = len({run["seed"] for run in runs})
    rows = []
    for name in names:
        found = of_method(runs, name)
        cells = [_cell([value(run) for run in found], digits) for value in columns.values()]
        rows.append([_label(name), *cells])
    text = f"{caption}: mean ± sd over {count} seed{'s' * (count != 1)}."
    if difference and BASELINE in names and count > 1:
        rows += _differences(runs, [n for n in names if n != BASELINE], [*columns.values()], digits)
        text += " Differences: paired by seed, with their 95 % intervals."
    return Table(["", *columns], rows, text)


def _differences(
    runs: Rows, names: Sequence[str], columns: Sequence[Callable], digits: int
) -> list[list[str]]:
    rows = []
    for name in names:
        found = [paired_difference(runs, name, BASELINE, column) for column in columns]
        cells = [f"{signed(mean, digits)} ± {half:.{digits}f}" for mean, half in found]
        rows.append([f"{_label(name)} − {_label(BASELINE)}", *cells])
    return rows


def _label(name: str) -> str:
    return METHODS[name].label if name in METHODS else name


def _cell(values: Sequence[float | None], digits: int) -> str:
    known = np.array([value for value in values if value is not None], dtype=float)
    if not len(known):
        return "–"
    spread = f" ± {known.std(ddof=1):.{digits}f}" if len(known) > 1 else ""
    return f"{known.mean():.{digits}f}{spread}"
