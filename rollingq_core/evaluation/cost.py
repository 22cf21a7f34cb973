"""What a model costs: its weights, counted as they are and as the paper counts them (Table 4)."""

from torch import nn

from rollingq_core.rotation import QueryRotation

# What the paper's counter knows. It never looks into PyTorch's own multi-head attention.
COUNTED = (nn.Linear, nn.Conv2d, nn.Conv3d, nn.LayerNorm)
NOT_ENTERED = nn.MultiheadAttention


def parameters(model: nn.Module) -> int:
    """Return the number of a model's trainable numbers.

    Examples
    --------
    >>> parameters(nn.MultiheadAttention(2, 1))
    24
    """
    return sum(weight.numel() for weight in model.parameters())


def parameters_as_in_table4(model: nn.Module, *, turned: bool = False) -> int:
    """Return the number of parameters that the paper's Table 4 has for a model.

    It was taken with a counter of single layers: class tokens, positions and bottlenecks, which
    belong to none, are left out, and so is all of PyTorch's own multi-head attention.

    Parameters
    ----------
    model
        The model.
    turned
        Whether a rotation counts, as the weights of a layer of d x d.

    Examples
    --------
    >>> parameters_as_in_table4(nn.Linear(2, 3))
    9
    >>> parameters_as_in_table4(nn.MultiheadAttention(2, 1))
    0
    """
    if isinstance(model, NOT_ENTERED):
        return 0
    if isinstance(model, COUNTED):
        return parameters(model)
    rotation = model.matrix.numel() if turned and isinstance(model, QueryRotation) else 0
    return rotation + sum(parameters_as_in_table4(m, turned=turned) for m in model.children())
