"""Warnings about queries that make a rotation pointless, which would go unnoticed otherwise."""

import warnings
from collections.abc import Callable

from torch import Tensor


class QueryWatch:
    """Warns, once each, of queries that ignore a rotation, and of queries that cancel each other.

    The first query after a turn is compared with the last one before it: between the two lies one
    training step at most, which moves a query by much less than a turn.
    """

    def __init__(self) -> None:
        self.query: Tensor | None = None
        self.turned: tuple[Tensor, Tensor, float] | None = None
        self.warned: set[str] = set()

    def turn(self, apply: Callable[[Tensor], Tensor], mean: Tensor, length: Tensor | None) -> None:
        """Remember where the last query seen will be once turned.

        ``mean`` is the expected query that the turn was made for, ``length`` that of a query.
        """
        if self.query is not None:
            before, error = _mean_and_error(self.query)
            self.turned = before, apply(before), error
        if length is not None and mean.norm() < 0.1 * length:
            self._warn(
                "output.query: the samples' queries nearly cancel: their mean is less than a tenth "
                "as long as they are, and turning it says little about each of them"
            )

    def see(self, query: Tensor) -> None:
        """Take in a query, ``[d]`` or ``[B, d]``, in which an expected turn has to show."""
        self.query = query.detach()
        if self.turned is None:
            return
        (before, after, error), self.turned = self.turned, None
        now, own_error = _mean_and_error(self.query)
        # Queries that differ between samples have to differ less than the turn is long.
        resolved = (after - before).norm() > 8 * (error + own_error)
        if resolved and 4 * (now - before).norm() < (now - after).norm():
            self._warn(
                "output.query: the first query after a rotation points where it did before: "
                "pass the query through the QueryRotation, and observe what comes out"
            )

    def _warn(self, message: str) -> None:
        if message not in self.warned:
            self.warned.add(message)
            warnings.warn(message, stacklevel=4)


def _mean_and_error(query: Tensor) -> tuple[Tensor, float]:
    """Return the mean over the samples, ``[d]``, and its standard error, a length."""
    rows = query.cpu().double().reshape(-1, query.shape[-1])
    return rows.mean(dim=0), float((rows.var(dim=0, correction=0).sum() / len(rows)).sqrt())
