"""The table that a recipe ends with: each method's means over the seeds, and what differs."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from rollingq_core._extras import needs

with needs("train"):
    import numpy as np

    from rollingq_core.methods import METHODS
    from rollingq_core.records import read_record
    from rollingq_core.statistics import (
        Rows,
        mean_interval,
        of_method,
        of_shared_seeds,
        paired_difference,
        signed,
    )
    from rollingq_core.tables import Table

# From a run to its number, or to None where it has none.
Column = Callable[[Mapping[str, Any]], float | None]
# What the others are compared with, where it was trained.
BASELINE = "mt"


def accuracy_by_level(record: dict[str, Any]) -> Table:
    """Return test accuracy without noise, and with each level of it, in percent."""
    columns = {
        f"noise {level:g}": _at("accuracy", index) for index, level in enumerate(record["levels"])
    }
    return over_seeds(record["runs"], columns, "Test accuracy, %", baseline=BASELINE)


def with_quoted(record: dict[str, Any]) -> Table:
    """Return :func:`accuracy_by_level`, and beside it what the paper quotes for CREMA-D."""
    table = accuracy_by_level(record)
    quoted = {run["method"]: run["accuracy"] for run in read_record("quoted-cremad")["runs"]}
    names: list[str] = list(dict.fromkeys(run["method"] for run in record["runs"]))
    rows = []
    for index, row in enumerate(table.rows):
        # The rows of methods come first, then those of differences.
        accuracy = quoted.get(names[index]) if index < len(names) else None
        rows.append([*row, "–" if accuracy is None else f"{100 * accuracy:.1f}"])
    title = "paper, CREMA-D"
    caption = f"{table.caption} The last column is quoted: the paper's Table 1, on CREMA-D."
    return Table([*table.header, title], rows, caption, quoted=[title])


def last_level(record: dict[str, Any]) -> Table:
    """Return accuracy with noise of level 1, mixed in and added, in percent, by target."""
    names = [name for name in record["runs"][0] if name.startswith(("mix ", "add "))]
    columns = {name: _at(name, -1) for name in names}
    return over_seeds(record["runs"], columns, "Test accuracy at noise level 1, %")


def alone(record: dict[str, Any]) -> Table:
    """Return accuracy on all modalities and on each alone, in percent."""
    columns: dict[str, Column] = {"all": lambda run: 100 * run["accuracy"]}
    for name in record["runs"][0]["alone"]:
        columns[f"{name} alone"] = _percent("alone", name)
    return over_seeds(record["runs"], columns, "Test accuracy, %", baseline=BASELINE)


def separated(record: dict[str, Any]) -> Table:
    """Return accuracy on the known classes, and GEN's AUROC by what lies outside, in percent."""
    columns: dict[str, Column] = {"accuracy": lambda run: 100 * run["accuracy"]}
    for name in record["runs"][0]["auroc"]:
        if name.endswith(" gen"):
            columns[name.removesuffix(" gen")] = _percent("auroc", name)
    caption = "Accuracy, and AUROC of GEN by what lies outside, %"
    return over_seeds(record["runs"], columns, caption, baseline=BASELINE)


def by_modality(record: dict[str, Any]) -> Table:
    """Return accuracy without noise and with noise alone in each modality, in percent."""
    names = [*record["runs"][0]["accuracy"]]
    columns = {"clean": _under_noise(names[0], 0)}
    for name in names:
        columns[f"noise for {name}"] = _under_noise(name, -1)
    return over_seeds(record["runs"], columns, "Test accuracy, %", baseline=BASELINE)


def numbers(record: dict[str, Any]) -> Table:
    """Return the mean of each number that is a run's own."""
    first, runs = record["runs"][0], record["runs"]
    columns = {
        name: _own(name)
        # Some runs may lack a number.
        for name in first
        if any(isinstance(run[name], int | float) for run in runs)
        and name not in ("seed", "p_value")
    }
    for name, value in first.items():
        if isinstance(value, dict):
            for key in value:
                columns[f"{name} {key}"] = _entry(name, key)
    return over_seeds(runs, columns, "The test's numbers", digits=3)


def by_variant(record: dict[str, Any]) -> Table:
    """Return accuracy without noise and with half of it in each variant, in percent."""
    half = record["levels"].index(0.5)
    columns = {"clean": _at("accuracy", 0), "noise 0.5": _at("accuracy", half)}
    rows: list[list[str]] = []
    for variant in dict.fromkeys(run["variant"] for run in record["runs"]):
        runs = [run for run in record["runs"] if run["variant"] == variant]
        table = over_seeds(runs, columns, "Test accuracy, %", baseline=BASELINE)
        rows += [[f"{variant}: {title}", *cells] for title, *cells in table.rows]
    return Table(["", *columns], rows, table.caption)


def by_rho_and_beta(record: dict[str, Any]) -> Table:
    """Return what RollingQ adds to vanilla's accuracy under noise alone, for each rho and beta."""
    value = _at("accuracy", -1)
    vanilla = {run["seed"]: value(run) for run in of_method(record["runs"], BASELINE)}
    gains: dict[tuple[int, int], list[float]] = {}
    for run in record["runs"]:
        for rho, beta in run["cells"]:
            gains.setdefault((rho, beta), []).append(value(run) - vanilla[run["seed"]])
    rows = [
        [f"rho {rho:g}", *(_gain(gains[i, j]) for j in range(len(record["betas"])))]
        for i, rho in enumerate(record["rhos"])
    ]
    titles = [f"beta {beta:g}" for beta in record["betas"]]
    return Table(["", *titles], rows, _gains("under noise alone", len(vanilla)))


def by_regime(record: dict[str, Any]) -> Table:
    """Return what RollingQ adds to vanilla's accuracy under noise, by regime and budget."""
    value = _at("accuracy", record["levels"].index(0.5))
    axes = ("cls_std", "visual_strength", "train_samples")
    rows = []
    for regime in product(*(record[axis] for axis in axes)):
        runs = [run for run in record["runs"] if tuple(run[axis] for axis in axes) == regime]
        vanilla = [value(run) for run in of_method(runs, BASELINE)]
        cells = []
        for budget in record["budgets"]:
            turned = [run for run in runs if run["max_rotations"] == budget]
            rolling = [value(run) for run in of_method(turned, "mt+rollingq")]
            cells.append(_gain([a - b for a, b in zip(rolling, vanilla, strict=True)]))
        rows.append([", ".join(f"{number:g}" for number in regime), *cells])
    titles = [f"at most {budget} turn{'s' * (budget > 1)}" for budget in record["budgets"]]
    caption = _gains("at noise level 0.5", len(record["seeds"]))
    return Table(["sharpness, vision, samples", *titles], rows, caption)


def _gain(differences: Sequence[float]) -> str:
    if len(differences) < 2:
        return signed(differences[0], 1)
    mean, half = mean_interval(differences)
    # What has no star stands where the digits of the others do.
    return signed(mean, 1) + ("*" if abs(mean) > half else " ")


def _gains(where: str, count: int) -> str:
    return (
        f"{_label('mt+rollingq')} − {_label(BASELINE)} {where}, in points of test accuracy: mean "
        f"over {count} seed{'s' * (count != 1)}, with a star where the 95 % interval leaves out 0."
    )


def _at(name: str, index: int) -> Callable[[Mapping[str, Any]], float]:
    return lambda run: 100 * run[name][index]


def _under_noise(modality: str, index: int) -> Column:
    return lambda run: 100 * run["accuracy"][modality][index]


def _percent(name: str, key: str) -> Column:
    return lambda run: 100 * run[name][key]


def _own(name: str) -> Column:
    return lambda run: run[name]


def _entry(name: str, key: str) -> Column:
    return lambda run: run[name][key]


def over_seeds(
    runs: Rows,
    columns: Mapping[str, Column],
    caption: str,
    *,
    baseline: str | None = None,
    digits: int = 1,
) -> Table:
    """Return each method's mean ± sd over seeds, a row each.

    Parameters
    ----------
    runs
        One a method and seed.
    columns
        By title: from a run to its number, or to None where it has none.
    caption
        What the numbers are.
    baseline
        The method that the others' differences are told from, paired by seed, with their 95 %
        intervals; where it was not trained, or at one seed only, there are none.
    digits
        Digits after the point.
    """
    names: list[str] = list(dict.fromkeys(run["method"] for run in runs))
    count = len({run["seed"] for run in runs})
    rows = []
    for name in names:
        own = of_method(runs, name)
        cells = [_cell([value(run) for run in own], digits) for value in columns.values()]
        rows.append([_label(name), *cells])
    text = f"{caption}: mean ± sd over {count} seed{'s' * (count != 1)}"
    fewer = {name: len(of_method(runs, name)) for name in names}
    fewer = {name: number for name, number in fewer.items() if number < count}
    if fewer:
        told = ", ".join(f"{_label(name)} {number}" for name, number in fewer.items())
        text += f" ({told})"
    text += "."
    if baseline in names and len(names) > 1 and count > 1:
        others = [name for name in names if name != baseline]
        rows += [_difference(runs, name, baseline, [*columns.values()], digits) for name in others]
        text += " Differences are paired by seed, with their 95 % intervals."
    return Table(["", *columns], rows, text)


def _difference(
    runs: Rows, name: str, baseline: str, columns: Sequence[Callable], digits: int
) -> list[str]:
    cells = []
    shared = of_shared_seeds(runs, name, baseline)
    for column in columns:
        if len(shared) < 4 or any(column(run) is None for run in shared):
            cells.append("–")
            continue
        mean, half = paired_difference(shared, name, baseline, column)
        cells.append(f"{signed(mean, digits)} ± {half:.{digits}f}")
    return [f"{_label(name)} − {_label(baseline)}", *cells]


def _label(name: str) -> str:
    return METHODS[name].label if name in METHODS else name


def _cell(values: Sequence[float | None], digits: int) -> str:
    known = np.array([value for value in values if value is not None], dtype=float)
    if not len(known):
        return "–"
    spread = f" ± {known.std(ddof=1):.{digits}f}" if len(known) > 1 else ""
    return f"{known.mean():.{digits}f}{spread}"
