"""Ctrl-C, and ``python -OO``: what a command that is stopped says, and how it goes on."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress

import pytest

from rollingq_core.__main__ import main
from rollingq_core.commands import evaluate, train
from rollingq_core.data import cremad
from rollingq_core.reproduce import comparison, grid
from rollingq_core.training.checkpoint import load_checkpoint

SMOKE = ["train", "--data", "digits", "--profile", "smoke", "--out"]


@contextmanager
def started(root, *arguments):
    clean = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE")}
    command = [sys.executable, "-m", "rollingq_core", *map(str, arguments)]
    with subprocess.Popen(
        command,
        cwd=root,
        env=clean | {"PYTHONPATH": str(root), "GLOO_SOCKET_IFNAME": "lo"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that runs the tests in the background has their children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):  # none is left, unless the test has failed
                os.killpg(process.pid, signal.SIGKILL)


def read_until(process, epoch):
    """Read as far as the row of an epoch, such as ``2/500``."""
    for line in process.stdout:
        if line.split()[:1] == [epoch]:
            return
    raise AssertionError(process.stderr.read())


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--workers", "1"], ["--devices", "2"]])
def test_ctrl_c_keeps_the_checkpoint_and_says_how_to_go_on(root, tmp_path, options):
    folder = tmp_path / "run"
    with started(root, *SMOKE, folder, "--epochs", "500", *options) as process:
        read_until(process, "2/500")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: all of the group gets it
        _, errors = process.communicate(timeout=240)
    assert process.returncode == 130
    epochs = len(load_checkpoint(folder / "checkpoint.pt")["history"])
    assert 2 <= epochs < 500
    said = f"rollingq: stopped after epoch {epochs}; run it again to go on"
    assert errors.splitlines().count(said) == 1
    assert "Traceback" not in errors
    if not options:
        with started(root, *SMOKE, folder, "--epochs", "500") as again:
            read_until(again, f"{epochs + 1}/500")


class Reader:
    """Reads ahead, and is stopped while it is being deleted."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


class HalfMade:
    """Was stopped while it was being made, and lacks what it would be deleted by."""

    def __del__(self):
        raise AttributeError


def test_an_interrupt_that_python_drops_ends_training_with_the_epoch(tmp_path, monkeypatch, capsys):
    complaints = []

    def dropping(folder, wanted, *, watch, **options):
        Reader()
        held = HalfMade()
        watch([])
        pytest.fail(f"training went on with {held}")

    monkeypatch.setattr(train, "train_in", dropping)
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as ended:
            main([*SMOKE, str(tmp_path)])
        assert complaints == []
        Reader()  # from here on, all is told as before
        assert [one.exc_type for one in complaints] == [KeyboardInterrupt]
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == 130
    assert capsys.readouterr().err.count("run it again to go on") == 1


@pytest.mark.parametrize(
    ("arguments", "module", "message"),
    [
        (
            [*SMOKE, "RUN", "--epochs", "2"],
            (train, "train_in"),
            "stopped before the end of the first epoch; run it again to go on",
        ),
        (
            ["evaluate", "RUN", "--test", "noise"],
            (evaluate, "evaluate"),
            "stopped, and nothing was written; run it again",
        ),
        (
            ["reproduce", "grid"],
            (grid, "compute_record"),
            "stopped; run it again to go on",
        ),
        (
            ["reproduce", "comparison", "calibration"],
            (comparison, "reproduce"),
            "stopped; run it again to go on",
        ),
        (
            ["data", "prepare", "cremad", "--root", "RUN"],
            (cremad, "prepare"),
            "stopped; run it again, and prepare goes on from here",
        ),
        (
            ["data", "verify", "cremad", "--root", "RUN"],
            (cremad, "verify"),
            "stopped; run it again, and prepare goes on from here",
        ),
    ],
)
def test_each_command_ends_with_a_line_and_130(
    arguments, module, message, tmp_path, monkeypatch, capsys
):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(*module, stop)
    with pytest.raises(SystemExit) as ended:
        main([a.replace("RUN", str(tmp_path / "run")) for a in arguments])
    assert ended.value.code == 130
    assert capsys.readouterr().err == f"rollingq: {message}\n"


@pytest.mark.slow
def test_without_asserts_and_docstrings_all_is_as_with_them(root, tmp_path):
    code = """
import importlib, pkgutil, sys
import rollingq_core
from rollingq_core.__main__ import main
assert False, "not run"
for one in pkgutil.walk_packages(rollingq_core.__path__, "rollingq_core."):
    if not one.name.endswith("__main__"):
        importlib.import_module(one.name)
for command in ([], ["train"], ["evaluate"], ["reproduce"], ["methods"], ["data"]):
    try:
        main([*command, "--help"])
    except SystemExit as stop:
        if stop.code:
            raise
folder = sys.argv[1]
main(["train", "--data", "digits", "--profile", "smoke", "--out", folder])
main(["evaluate", folder, "--test", "correlation"])
"""
    env = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-OO", "-c", code, tmp_path / "run"]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "pearson" in done.stdout
    assert done.stdout.count("example: python -m rollingq_core") == 5
    assert "media can't be fetched automatically." in " ".join(done.stdout.split())
    main([*SMOKE, str(tmp_path / "plain")])
    histories = [
        load_checkpoint(tmp_path / x / "checkpoint.pt")["history"] for x in ("run", "plain")
    ]
    assert histories[0] == histories[1]
