"""The whole model: one encoder a modality, the fusion layer, and a probe beside each encoder."""

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from rollingq_core._checks import require_choice, require_integer
from rollingq_core._padding import padding_name, pooled
from rollingq_core.fusion.output import FusionOutput


class ModelOutput(NamedTuple):
    """What the model returns.

    ``fusion``, the fusion's output (None where it did not run); ``probes``, each probe's logits
    ``[B, C]``; ``features``, the vector ``[B, d]`` that stands for each modality.
    """

    fusion: FusionOutput | None
    probes: dict[str, Tensor]
    features: dict[str, Tensor]

    def each(self, change: Callable[[Tensor], Tensor]) -> "ModelOutput":
        """Return the output with each of its tensors changed."""
        return _joined([self], lambda tensors: change(tensors[0]))

    @staticmethod
    def joined(outputs: Sequence["ModelOutput"]) -> "ModelOutput":
        """Return the outputs of several pieces of a batch as one."""
        return outputs[0] if len(outputs) == 1 else _joined(outputs, torch.cat)


def _joined(outputs: Sequence[ModelOutput], join: Callable[[list[Tensor]], Tensor]) -> ModelOutput:
    def by_name(pieces: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: join([piece[name] for piece in pieces]) for name in pieces[0]}

    fusions = [output.fusion for output in outputs]
    fusion = fusions[0]
    if fusion is not None:
        columns = zip(*fusions, strict=True)
        fusion = FusionOutput._make(None if c[0] is None else join(list(c)) for c in columns)
    probes, features = (
        by_name([getattr(output, field) for output in outputs]) for field in ("probes", "features")
    )
    return ModelOutput(fusion, probes, features)


class MultimodalModel(nn.Module):
    """Encoders, fusion, and probes that tell how good each modality's features are.

    A probe is a linear classifier on one encoder's pooled tokens. It reads them detached, so that
    it learns without teaching the encoder, unless the encoders are being pretrained.

    Parameters
    ----------
    encoders
        One module a modality, each giving tokens ``[B, L_m, d]``. Their order is that of the
        fusion's modalities. One whose ``forward`` has an argument ``padding`` gets the mask
        ``[B, L_m]`` of a batch that has one.
    fusion
        A layer from a list of token tensors to a :class:`FusionOutput`; ``fusion.dim`` is d.
    num_classes
        Number of classes C.
    pool
        What a probe reads: ``"mean"`` of the tokens, or the ``"first"`` (a ViT's class token), each
        among those that are no padding; zeros where there is none.

    Raises
    ------
    ValueError
        No such pool, or a number of classes that is no integer above 0 or not the fusion's.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        fusion: nn.Module,
        num_classes: int,
        pool: Literal["mean", "first"] = "mean",
    ) -> None:
        super().__init__()
        require_choice("pool", pool, ("mean", "first"))
        require_integer("num_classes", num_classes, at_least=1)
        fused = getattr(getattr(fusion, "head", None), "out_features", num_classes)
        if fused != num_classes:
            raise ValueError(f"num_classes: got {num_classes}, expected the fusion's {fused}")
        self.encoders = nn.ModuleDict(encoders)
        self.fusion = fusion
        width: Any = fusion.dim
        self.probes = nn.ModuleDict({name: nn.Linear(width, num_classes) for name in self.encoders})
        self.pool, self.num_classes = pool, num_classes
        self.masked = [
            name
            for name, encoder in self.encoders.items()
            if "padding" in signature(encoder.forward).parameters
        ]

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities in the fusion's order."""
        return tuple(self.encoders)

    def forward(
        self, inputs: Mapping[str, Tensor], *, fuse: bool = True, detach_probes: bool = True
    ) -> ModelOutput:
        """Run encoders, probes and, with ``fuse``, the fusion layer on one batch.

        Beside a modality, ``inputs`` may hold its padding, ``[B, L_m]`` bool, True where a token is
        padding, under the modality's name and ``_padding``. Such tokens change neither the fusion's
        output nor the probe's. An encoder that mixes tokens has seen them, though, unless it takes
        the mask itself. Modalities that the model has no encoder for are left alone.

        Raises
        ------
        ValueError
            ``inputs`` lacks a modality, or padding does not fit the tokens.
        """
        missing = [name for name in self.encoders if name not in inputs]
        if missing:
            raise ValueError(f"inputs: got {list(inputs)}, expected also {missing}")
        masks = {name: inputs.get(padding_name(name)) for name in self.encoders}
        tokens, features, probes = {}, {}, {}
        for name, encoder in self.encoders.items():
            mask = masks[name]
            taken = {"padding": mask} if mask is not None and name in self.masked else {}
            tokens[name] = _without(encoder(inputs[name], **taken), mask, padding_name(name))
            features[name] = pooled(tokens[name], mask, self.pool)  # [B, d] of [B, L_m, d]
        for name, feature in features.items():
            probes[name] = self.probes[name](feature.detach() if detach_probes else feature)
        if not fuse:
            return ModelOutput(None, probes, features)
        padded = any(mask is not None for mask in masks.values())
        options = {"key_padding_masks": list(masks.values())} if padded else {}
        return ModelOutput(self.fusion(list(tokens.values()), **options), probes, features)


def _without(tokens: Tensor, mask: Tensor | None, name: str) -> Tensor:
    """Return the tokens with zeros in place of padding."""
    if mask is None:
        return tokens
    if mask.dtype != torch.bool or mask.shape != tokens.shape[:2]:
        raise ValueError(
            f"inputs[{name!r}]: got {mask.dtype} of shape {list(mask.shape)}, "
            f"expected bool of shape {list(tokens.shape[:2])}"
        )
    return tokens.masked_fill(mask.unsqueeze(-1), 0)
