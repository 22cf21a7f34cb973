"""Many runs at once, replicas trained as one batch, and the recipes that are made of many runs."""

from rollingq_core._extras import needs

with needs("train"):
    from rollingq_core.sweep.runs import sweep
    from rollingq_core.sweep.together import Replica, fit_together

__all__ = ["Replica", "fit_together", "sweep"]
