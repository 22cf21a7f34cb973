"""One recipe for each table and figure, one line each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rollingq_core._extras import needs

with needs("train", "data"):
    from rollingq_core.methods import DECIDING, DYNAMIC, METHODS
    from rollingq_core.reproduce import (
        closing,
        grid,
        interventions,
        regimes,
        scale,
        tuning,
        variants,
    )
    from rollingq_core.reproduce.reports import (
        Report,
        Tested,
        accuracies,
        deciding,
        familiar,
        noticing,
        summarise,
    )
    from rollingq_core.reproduce.seeds import FEWER, REPORTING_SEEDS, TUNING_SEEDS
    from rollingq_core.tables import Table


@dataclass(frozen=True)
class Recipe:
    """How a result record is computed, and the table that it ends with.

    Parameters
    ----------
    about
        What it tells, in a line.
    report
        What is kept of each run, for a recipe that trains methods over seeds; such recipes can be
        computed together, from the same models.
    methods
        Names of the methods that it trains, in order; those that the data has no modality for are
        left out.
    fewer
        Those of them that are trained at the first few seeds only, as they cost much more.
    compute
        Its own way, for a recipe that has one: from seeds, ``out`` and ``jobs``, and ``options``.
    seeds
        Those of the book's own record.
    options
        Options of the command line that it takes, beside ``--seeds``, ``--jobs`` and ``--out``.
    table
        From the record to the table to end with.

    Examples
    --------
    >>> RECIPES["table1"].methods[:2]
    ('unimodal-audio', 'unimodal-visual')
    """

    about: str
    report: Report | None = None
    methods: tuple[str, ...] = DYNAMIC
    fewer: tuple[str, ...] = ()
    compute: Callable[..., dict[str, Any]] | None = None
    seeds: tuple[int, ...] = REPORTING_SEEDS
    options: tuple[str, ...] = ("data", "setting")
    table: Callable[[dict[str, Any]], Table] = closing.accuracy_by_level


def _variants(about: str) -> Recipe:
    """Return the recipe of a table whose rows are variants of one model."""
    return Recipe(
        about,
        methods=variants.COMPARED,
        compute=variants.reproduce,
        seeds=variants.SEEDS,
        options=("data",),
        table=closing.by_variant,
    )


# Those of the paper, and the controls beside its own host.
ALL = tuple(name for name in METHODS if name in DYNAMIC or name not in DECIDING)
DEEPER = tuple(name for name in METHODS if name.startswith(("mt2", "mult", "mbt", "jmt", "mmml")))
# Those whose attention is over the tokens of all modalities, in one layer and in two.
LAYERED = (
    *("mt", "mt+rollingq", "mt+random_matched", "uniform"),
    *("mt2", "mt2+progressive", "mt2+rollingq", "mt2+random_matched"),
)
# The layer, its controls, and the deeper ways to fuse, beside which RollingQ can stand.
HOSTS = (
    *("mt", "mt+rollingq", "mt+random_matched", "uniform", "mt2", "mt2+rollingq"),
    *("mult", "mult+rollingq", "mbt", "jmt", "mmml", "mmml+rollingq"),
)
HALF = REPORTING_SEEDS[:FEWER]
LEANING = Tested("correlation")
RECIPES = {
    "comparison": Recipe("methods, noise and attention over training", summarise),
    "controls": Recipe("what a turn's gain comes from", deciding, DECIDING),
    "interventions": Recipe(
        "what a turn changes, where",
        compute=interventions.reproduce,
        seeds=interventions.SEEDS,
        table=closing.by_variant,
    ),
    "tuning": Recipe(
        "what tuning changes, for vanilla and for RollingQ",
        compute=tuning.reproduce,
        table=closing.by_variant,
    ),
    "table1": Recipe(
        "accuracy of every method, static and dynamic",
        accuracies,
        ALL,
        DEEPER,
        table=closing.with_quoted,
    ),
    "table2": Recipe("whether attention notices noise", LEANING, table=closing.numbers),
    "table3": Recipe("accuracy by kind of noise", Tested("noise"), table=closing.last_level),
    "dynamic": Recipe(
        "tables 2 and 3 for every dynamic method",
        noticing,
        HOSTS,
        seeds=HALF,
        table=closing.last_level,
    ),
    "familiarity": Recipe(
        "how far noise lies from what was trained on", familiar, ("mt",), table=closing.numbers
    ),
    "conflict": Recipe("whom a model follows", Tested("conflict"), table=closing.numbers),
    "calibration": Recipe("confidence under noise", Tested("calibration")),
    "table5": _variants("Algorithm 1 with one of its choices changed"),
    "table6": _variants("transformers of 2, 4 and 6 blocks as encoders"),
    "table7": _variants("ResNet18 as encoder"),
    "table11": _variants("fusion from an earlier block"),
    "table8": Recipe(
        "accuracy with modalities masked out",
        Tested("masks"),
        LAYERED,
        seeds=HALF,
        table=closing.alone,
    ),
    "table9": Recipe(
        "accuracy with attention averaged",
        Tested("quag"),
        LAYERED,
        seeds=HALF,
        table=closing.numbers,
    ),
    "table10": Recipe(
        "known classes and all else",
        Tested("ood"),
        seeds=HALF,
        table=closing.separated,
    ),
    "grid": Recipe(
        "the map of rho and beta",
        compute=grid.reproduce,
        seeds=TUNING_SEEDS,
        options=(),
        table=closing.by_rho_and_beta,
    ),
    "regimes": Recipe(
        "when the anchor helps", compute=regimes.reproduce, options=(), table=closing.by_regime
    ),
    "scale": Recipe(
        "methods at the size of a profile",
        compute=scale.reproduce,
        seeds=scale.SEEDS,
        options=("data", "profile", "precision"),
        table=closing.by_modality,
    ),
}
