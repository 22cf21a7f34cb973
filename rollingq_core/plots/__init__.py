"""Figures and tables: one function each, from records to a picture."""

from rollingq_core._extras import needs

with needs("plots"):
    from rollingq_core.plots.attention import (
        lean_over_epochs,
        mass_against_imbalance,
        share_against,
        token_attention,
    )
    from rollingq_core.plots.contrast import (
        key_distributions,
        share_distributions,
        shares_beside_keys,
    )
    from rollingq_core.plots.cost import counted_dots
    from rollingq_core.plots.cycle import (
        encoder_gradients,
        initial_balance,
        loop_portraits,
        paths_over_epochs,
        share_paths,
    )
    from rollingq_core.plots.deciding import alone_over_epochs, differences_by_method, mediation
    from rollingq_core.plots.earlier import (
        deviation_angles,
        gains_by_set,
        gradients_by_block,
        share_by_block,
        stage_curves,
    )
    from rollingq_core.plots.geometry import alpha_curves, plane_of_turn
    from rollingq_core.plots.masks import averaged_dots, masked_dots
    from rollingq_core.plots.methods import accuracy_by_method
    from rollingq_core.plots.noise import (
        calibration_curves,
        conflict_bars,
        detection_dots,
        differences_by_set,
        gain_by_detection,
        noise_grid,
        values_by_set,
    )
    from rollingq_core.plots.outside import separation_dots
    from rollingq_core.plots.regimes import (
        interval_columns,
        of_regime,
        regime_differences,
        regime_map,
    )
    from rollingq_core.plots.rotation import anchor_lengths, partial_products, turn_angles
    from rollingq_core.plots.run import run_curves
    from rollingq_core.plots.samples import sample_pairs
    from rollingq_core.plots.style import COLOURS, METHODS, BookFigure, figure
    from rollingq_core.plots.training import (
        accuracy_table,
        difference_table,
        epoch_curves,
        noise_curves,
    )
    from rollingq_core.plots.turn import cost_of_turn, keys_around_query
    from rollingq_core.plots.wiring import wiring
    from rollingq_core.statistics import (
        mean_interval,
        of_method,
        paired_difference,
        signed,
        starred,
    )
    from rollingq_core.tables import Table

__all__ = [
    "COLOURS",
    "METHODS",
    "BookFigure",
    "Table",
    "accuracy_by_method",
    "accuracy_table",
    "alone_over_epochs",
    "alpha_curves",
    "anchor_lengths",
    "averaged_dots",
    "calibration_curves",
    "conflict_bars",
    "cost_of_turn",
    "counted_dots",
    "detection_dots",
    "deviation_angles",
    "difference_table",
    "differences_by_method",
    "differences_by_set",
    "encoder_gradients",
    "epoch_curves",
    "figure",
    "gain_by_detection",
    "gains_by_set",
    "gradients_by_block",
    "initial_balance",
    "interval_columns",
    "key_distributions",
    "keys_around_query",
    "lean_over_epochs",
    "loop_portraits",
    "masked_dots",
    "mass_against_imbalance",
    "mean_interval",
    "mediation",
    "noise_curves",
    "noise_grid",
    "of_method",
    "of_regime",
    "paired_difference",
    "partial_products",
    "paths_over_epochs",
    "plane_of_turn",
    "regime_differences",
    "regime_map",
    "run_curves",
    "sample_pairs",
    "separation_dots",
    "share_against",
    "share_by_block",
    "share_distributions",
    "share_paths",
    "shares_beside_keys",
    "signed",
    "stage_curves",
    "starred",
    "token_attention",
    "turn_angles",
    "values_by_set",
    "wiring",
]
