"""Work in another process, which finds in the tables what this one has added to them."""

from collections.abc import Callable, MutableMapping
from typing import Any

from rollingq_core.data.sources import SOURCES
from rollingq_core.evaluation import EVALUATIONS
from rollingq_core.methods import METHODS
from rollingq_core.settings import SETTINGS

TABLES: dict[str, MutableMapping[str, Any]] = {
    "methods": METHODS,
    "sources": SOURCES,
    "evaluations": EVALUATIONS,
    "settings": SETTINGS,
}


class Elsewhere:
    """A function that carries the tables of methods, sources, evaluations and settings along.

    A process that joblib starts imports the package anew, and knows only the package's own lines.

    Parameters
    ----------
    function
        What to call there.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.tables = {name: dict(table) for name, table in TABLES.items()}

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Bring this process's tables to that state, and call the function."""
        for name, table in self.tables.items():
            TABLES[name].update(table)
        return self.function(*arguments, **options)
