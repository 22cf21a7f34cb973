"""The theory of the self-reinforcing cycle: its start, its gradients, a model of it."""

from rollingq_core._extras import needs

with needs("train"):
    from rollingq_core.theory.gradients import GradientPaths, PathSizes, gradient_paths, path_sizes
    from rollingq_core.theory.initialisation import (
        InitialAttention,
        initial_attention,
        random_tokens,
        simultaneous_intervals,
    )
    from rollingq_core.theory.loop import FeedbackLoop, FixedPoint

__all__ = [
    "FeedbackLoop",
    "FixedPoint",
    "GradientPaths",
    "InitialAttention",
    "PathSizes",
    "gradient_paths",
    "initial_attention",
    "path_sizes",
    "random_tokens",
    "simultaneous_intervals",
]
