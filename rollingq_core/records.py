"""Result records: numbers with everything needed to trust or repeat them."""

import hashlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from rollingq_core._files import written_whole

# Methods of older records, and what they are called now.
RENAMED = {
    "vanilla": "mt",
    "rollingq": "mt+rollingq",
    "random_matched": "mt+random_matched",
    "random_free": "mt+random_free",
}
# Name of the checksum in a record's file.
CHECKSUM = "sha256"
PACKAGES = ("rollingq-core", "torch", "torchvision", "timm", "numpy", "librosa")


def results_folder() -> Path:
    """Return the folder of the book's records: the package's own, or the source tree's."""
    packaged = Path(__file__).parent / "results"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "results"


def read_record(name: str, folder: str | Path | None = None) -> dict[str, Any]:
    """Read a record by name, and make sure that it is what :func:`write_record` wrote.

    A record without a checksum, of an earlier version or by hand, is read as it is.

    Parameters
    ----------
    name
        File name without ``.json``.
    folder
        Where it lies; the book's records by default.

    Raises
    ------
    FileNotFoundError
        There is no such record; the message names those that there are.
    ValueError
        The file is no record, or its content is not that of its checksum.
    """
    folder = results_folder() if folder is None else Path(folder)
    path = folder / f"{name}.json"
    if not path.is_file():
        there = sorted(p.stem for p in folder.glob("*.json"))
        raise FileNotFoundError(f"name: got {name!r}, expected one of {there} in {folder}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: got no JSON ({error}), expected a record") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: got a {type(content).__name__}, expected a record")
    written = content.pop(CHECKSUM, None)
    if written is not None and written != checksum(content):
        raise ValueError(
            f"{path}: got content of checksum {checksum(content)}, expected {written}: "
            "it was changed after it was written"
        )
    return _renamed(content)


def _renamed(content: dict[str, Any]) -> dict[str, Any]:
    """Return a record, or a part of one, with its methods under the names they have now."""
    config = content.get("config")
    if isinstance(config, dict):
        config = _with_new_name(config)
        if isinstance(config.get("methods"), list):
            config = config | {"methods": [RENAMED.get(name, name) for name in config["methods"]]}
        content = content | {"config": config}
    for key in ("runs", "rows"):
        rows = content.get(key)
        if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
            content = content | {key: [_with_new_name(row) for row in rows]}
    return content


def _with_new_name(row: dict[str, Any]) -> dict[str, Any]:
    name = row.get("method")
    return row | {"method": RENAMED[name]} if isinstance(name, str) and name in RENAMED else row


def checksum(content: dict[str, Any]) -> str:
    """Return the SHA-256 (hex) of a record's content, whatever its layout and order of names."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_record(path: str | Path, content: dict[str, Any]) -> None:
    """Write a record as JSON in one step, floats rounded to six significant digits.

    Its checksum is written with it, under ``sha256``.

    Parameters
    ----------
    path
        File to write; its folder is made.
    content
        Numbers, strings, lists and dicts.

    Raises
    ------
    ValueError
        A number is not finite, or something is none of these; nothing is written.
    """
    kept = rounded(content)
    kept.pop(CHECKSUM, None)
    text = _text(kept | {CHECKSUM: checksum(kept)})
    with written_whole(path) as file:
        file.write(text.encode())


def _text(content: dict[str, Any]) -> str:
    """Return JSON with a line for each key, and for each row of a list of dicts."""
    lines = []
    for key, value in content.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            body = "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in value) + "\n ]"
        else:
            body = json.dumps(value)
        lines.append(f" {json.dumps(key)}: {body}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def rounded(content: Any, digits: int = 6) -> Any:
    """Return ``content`` as JSON knows it, each float cut to ``digits`` significant digits.

    Raises
    ------
    ValueError
        A number is not finite, or something is none of numbers, strings, lists and dicts.
    """
    if content is None or isinstance(content, bool | str):
        return content
    if isinstance(content, Integral):
        return int(content)
    if isinstance(content, Real):
        if not math.isfinite(content):
            raise ValueError(f"content: got {content}, expected finite numbers only")
        return float(f"{content:.{digits}g}")
    if isinstance(content, Mapping):
        return {str(key): rounded(value, digits) for key, value in content.items()}
    if isinstance(content, Iterable):
        return [rounded(value, digits) for value in content]
    raise ValueError(
        f"content: got a {type(content).__name__}, expected numbers, strings, lists and dicts"
    )


def provenance(gpu: str | None = None) -> dict[str, Any]:
    """Return when and with what a record is made: date, git commit, versions, hardware.

    ``gpu`` names the one that was used, if any.
    """
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "hardware": f"{platform.machine()}, {os.cpu_count()} logical cores, {gpu or 'no GPU'} used",
    }


def _commit() -> str | None:
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():  # an installed package may lie inside another repository
        return None
    # Only a change of the package makes a record's numbers doubtful, not one of the prose.
    changed = _git(root, "status", "--porcelain", "--", "rollingq_core")
    commit = _git(root, "rev-parse", "--short", "HEAD")
    return f"{commit}-changed" if commit and changed else commit


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
