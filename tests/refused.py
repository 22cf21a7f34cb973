"""A command that refuses what it is given."""

import os

import pytest

from rollingq_core.__main__ import main


def refused(capsys, *arguments) -> str:
    """Return the one line that a command ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    assert stop.value.code == 1
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("rollingq: ")]
    assert len(lines) == 1
    return lines[0]


class Payload:
    """Makes a folder when unpickled carelessly."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)
