"""Which image goes with which clip: pairs of the same class, drawn by seed."""

import numpy as np

from rollingq_core._checks import require_integer


def balanced_choice(labels: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Draw ``count`` different positions, the classes as equally frequent as possible.

    Parameters
    ----------
    labels : np.ndarray
        Class of each candidate ``[n]``.
    count : int
        How many to draw.
    generator : np.random.Generator
        Source of the draws.

    Returns
    -------
    np.ndarray
        Positions in ``labels`` ``[count]``, in random order.

    Raises
    ------
    ValueError
        If ``count`` is no integer of at least 1, or a class has too few candidates.
    """
    require_integer("count", count, at_least=1)
    classes = np.unique(labels)
    chosen = []
    for position, label in enumerate(classes):
        wanted = len(range(position, count, len(classes)))
        candidates = np.flatnonzero(labels == label)
        if wanted > len(candidates):
            raise ValueError(
                f"count: got {count}, which takes {wanted} samples of class {label}, "
                f"expected at most {len(candidates)}"
            )
        chosen.append(generator.permutation(candidates)[:wanted])
    return generator.permutation(np.concatenate(chosen))


def match_labels(
    wanted: np.ndarray, labels: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Return, for each wanted class, the position of a candidate of that class.

    No candidate is used again before every other one of its class has been used.

    Parameters
    ----------
    wanted : np.ndarray
        Classes to match ``[n]``.
    labels : np.ndarray
        Classes of the candidates ``[m]``.
    generator : np.random.Generator
        Source of the draws.

    Raises
    ------
    ValueError
        If a wanted class has no candidate.
    """
    matched = np.empty(len(wanted), dtype=np.int64)
    for label in np.unique(wanted):
        places = np.flatnonzero(wanted == label)
        candidates = np.flatnonzero(labels == label)
        if not len(candidates):
            raise ValueError(f"labels: got no candidate of class {label}, expected at least one")
        matched[places] = np.resize(generator.permutation(candidates), len(places))
    return matched
