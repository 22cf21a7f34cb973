"""Many runs at once: replicas trained as one batch, in as many processes as wanted."""

from rollingq_core.sweep.runs import sweep
from rollingq_core.sweep.together import Replica, fit_together

__all__ = ["Replica", "fit_together", "sweep"]
