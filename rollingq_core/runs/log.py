"""The history of a run in forms that other programs read: a table, or TensorBoard's events."""

import csv
import io
from pathlib import Path
from typing import Any

from rollingq_core._checks import require_choice
from rollingq_core._extras import needs
from rollingq_core._files import written_whole

LOGS = ("csv", "tensorboard")


class Log:
    """Writes each epoch's numbers into a run's folder, also those of a run that goes on.

    Parameters
    ----------
    folder
        Where ``history.csv``, or the folder ``events``, is written.
    kind
        ``"csv"`` or ``"tensorboard"``.

    Raises
    ------
    ValueError
        No such kind.
    ModuleNotFoundError
        The library that writes TensorBoard's events is missing.
    """

    def __init__(self, folder: str | Path, kind: str) -> None:
        require_choice("kind", kind, LOGS)
        self.folder, self.events = Path(folder), None
        self.told = 0
        if kind == "tensorboard":
            with needs("tensorboard"):
                from tensorboardX import SummaryWriter
            # Of a run that goes on all epochs are told again, and those told before are dropped.
            self.events = SummaryWriter(str(self.folder / "events"), purge_step=0)

    def tell(self, history: list[dict[str, Any]]) -> None:
        """Write what is new in the history of all epochs so far."""
        if self.events is None:
            self._write_table(history)
            return
        for record in history[self.told :]:
            for name, value in numbers(record).items():
                if value is not None and name != "epoch":
                    self.events.add_scalar(name.replace(".", "/"), value, record["epoch"])
        self.told = len(history)
        self.events.flush()

    def close(self) -> None:
        """Close what is open."""
        if self.events is not None:
            self.events.close()

    def _write_table(self, history: list[dict[str, Any]]) -> None:
        rows = [{"stage": record["stage"]} | numbers(record) for record in history]
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        table = csv.DictWriter(text, names, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        with written_whole(self.folder / "history.csv") as file:
            file.write(text.getvalue().encode())


def numbers(record: dict[str, Any]) -> dict[str, float | None]:
    """Return an epoch's numbers, those of a modality under ``name.modality``.

    A rotation counts as its angle in radians, none as 0.
    """
    row: dict[str, float | None] = {}
    for name, value in record.items():
        if name == "rotation":
            row["rotation_angle"] = value["angle"] if value else 0.0
        elif isinstance(value, dict):
            row |= {f"{name}.{key}": number for key, number in value.items()}
        elif not isinstance(value, str):
            row[name] = value
    return row
