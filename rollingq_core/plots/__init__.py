"""Figures and tables: one function each, from records to a picture."""

from rollingq_core.plots.attention import (
    key_distributions,
    lean_over_epochs,
    mass_against_imbalance,
    share_against,
    share_distributions,
    token_attention,
)
from rollingq_core.plots.geometry import alpha_curves, plane_of_turn
from rollingq_core.plots.regimes import (
    interval_columns,
    of_regime,
    regime_differences,
    regime_map,
)
from rollingq_core.plots.rotation import anchor_lengths, partial_products, turn_angles
from rollingq_core.plots.samples import sample_pairs
from rollingq_core.plots.style import COLOURS, METHODS, BookFigure, Table, figure
from rollingq_core.plots.training import (
    accuracy_table,
    difference_table,
    epoch_curves,
    mean_interval,
    noise_curves,
    of_method,
    paired_difference,
    signed,
)

__all__ = [
    "COLOURS",
    "METHODS",
    "BookFigure",
    "Table",
    "accuracy_table",
    "alpha_curves",
    "anchor_lengths",
    "difference_table",
    "epoch_curves",
    "figure",
    "interval_columns",
    "key_distributions",
    "lean_over_epochs",
    "mass_against_imbalance",
    "mean_interval",
    "noise_curves",
    "of_method",
    "of_regime",
    "paired_difference",
    "partial_products",
    "plane_of_turn",
    "regime_differences",
    "regime_map",
    "sample_pairs",
    "share_against",
    "share_distributions",
    "signed",
    "token_attention",
    "turn_angles",
]
