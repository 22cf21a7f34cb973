"""A disk that is really full, met by each command: one line, and no file half-written."""

import shutil
import subprocess
from dataclasses import replace

import pytest

from benchmarks.cremad_folder import clip_names, make_folder
from rollingq_core.__main__ import main
from rollingq_core.data import cremad
from rollingq_core.data.cache import shards as cache_parts
from rollingq_core.runs import sweep as runs
from rollingq_core.settings import SETTINGS
from rollingq_core.training.checkpoint import load_checkpoint
from tests.refused import refused
from tests.small import SETTING, small_data

TRAIN = ["train", "--data", "digits", "--profile", "smoke", "--epochs", "2"]


def fill(folder, left=0):
    """Fill a disk but for so many bytes."""
    with (folder / "filling").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(file.tell() - left)


def content_of(folder):
    """Return the content of each file, of hidden ones too."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    main([*TRAIN, "--out", str(folder)])
    return folder


@pytest.mark.parametrize("left", [0, 32_768, 262_144])
def test_train(trained, tmp_path, small_disk, capsys, left):
    out = small_disk(tmp_path / "disk", "2m")
    fill(out, left)
    said = refused(capsys, *TRAIN, "--out", out)
    assert f"No space left on device: '{out}/" in said
    assert content_of(out).keys() <= {"filling", "model.json"}
    (out / "filling").unlink()
    main([*TRAIN, "--out", str(out)])
    assert content_of(out).keys() == content_of(trained).keys()
    found, expected = (load_checkpoint(x / "checkpoint.pt")["history"] for x in (out, trained))
    assert found == expected


def test_evaluate(trained, tmp_path, small_disk, capsys):
    out = small_disk(tmp_path / "disk", "2m")
    shutil.copytree(trained, out, dirs_exist_ok=True)
    fill(out)
    before = content_of(out)
    said = refused(capsys, "evaluate", out, "--test", "correlation")
    assert f"No space left on device: '{out}/correlation.json'" in said
    assert content_of(out) == before


def test_reproduce(tmp_path, small_disk, monkeypatch, capsys):
    short = replace(SETTING, training=replace(SETTING.training, epochs=1))
    monkeypatch.setitem(SETTINGS, "T", short)
    monkeypatch.setattr(runs, "load_dataset", lambda name, seed: small_data(seed))
    out = small_disk(tmp_path / "disk", "1m")
    fill(out)
    arguments = ["reproduce", "table2", "--data", "synthetic", "--setting", "T", "--seeds", "1"]
    said = refused(capsys, *arguments, "--jobs", "1", "--out", out)
    assert "No space left on device: '" in said
    assert content_of(out).keys() == {"filling"}


def test_prepare(tmp_path, small_disk, monkeypatch, capsys):
    monkeypatch.setattr(cache_parts, "PART_SIZE", 2)
    root = make_folder(tmp_path / "CREMA-D", clip_names(12), size=(36, 48))
    whole = cremad.prepare(shutil.copytree(root, tmp_path / "whole"))
    disk = small_disk(root / "cache", "2m")
    said = refused(capsys, "data", "prepare", "cremad", "--root", root)
    assert "the disk is full, the cache unfinished; make room, and run again to go on" in said
    assert str(disk / "cremad-code") in said
    assert {path.suffix for path in disk.rglob("*") if path.is_file()} == {".npz"}
    assert not (disk / "cremad-code").exists()
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    main(["data", "prepare", "cremad", "--root", str(root)])
    assert content_of(disk) == content_of(whole)
