"""MMML's losses of single modalities: each encoder also learns to answer alone (Wu et al. 2024)."""

from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from rollingq_core.models.multimodal import ModelOutput, MultimodalModel
from rollingq_core.training.observer import Observer


class UnimodalLosses(Observer):
    r"""Adds the cross-entropy of each modality's classifier, which teaches its encoder too.

    .. math:: L = L_{fused} + \sum_m L_m,\qquad L_m = \mathrm{CE}(W_m f^m + b_m, y)

    The classifiers are the model's probes. These learn from the loop's own loss, on detached
    features; here their weights are detached and the features are not, so that together each loss
    counts once for both.

    Parameters
    ----------
    model
        The model that is trained.

    Raises
    ------
    ValueError
        On starting, a model that is another one.
    """

    name = "unimodal_losses"

    def __init__(self, model: MultimodalModel) -> None:
        self.model = model

    def require_own(self, model: MultimodalModel) -> None:
        """Raise a ``ValueError`` where the probes are those of another model."""
        if model is not self.model:
            raise ValueError("unimodal_losses: got another model's probes, expected this model's")

    def extra_loss(self, output: ModelOutput, labels: Tensor) -> Tensor | None:
        """Return the sum of the modalities' losses."""
        losses = []
        for name, features in output.features.items():
            probe = self.model.probes[name]
            weight, bias = probe.weight.detach(), probe.bias.detach()  # type: ignore[operator,union-attr]
            losses.append(
                cross_entropy(linear(features, weight.to(features), bias.to(features)), labels)
            )
        return sum(losses)  # type: ignore[return-value]
