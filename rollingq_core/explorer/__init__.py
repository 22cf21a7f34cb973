"""Figures to move by sliders, on a page without Python and in a running notebook."""

from rollingq_core._extras import needs

with needs("plots"):
    from rollingq_core.explorer.geometry import GeometryExplorer
    from rollingq_core.explorer.live_curves import LiveCurves
    from rollingq_core.explorer.loop import LoopExplorer
    from rollingq_core.explorer.noise_dial import NoiseDial
    from rollingq_core.explorer.training_map import TrainingMap

__all__ = ["GeometryExplorer", "LiveCurves", "LoopExplorer", "NoiseDial", "TrainingMap"]
