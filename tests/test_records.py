"""Result records: what they keep, what they refuse, and where they come from."""

import json
import subprocess
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollingq_core import _files, records
from rollingq_core.methods import METHODS
from rollingq_core.records import provenance, read_record, rounded, write_record
from rollingq_core.reproduce import RECIPES


def test_round_trip(tmp_path):
    content = {
        "runs": [{"seed": 1, "accuracy": [0.5, 0.25], "event": None}],
        "name": "α",
        "on": True,
    }
    write_record(tmp_path / "new" / "first.json", content)
    assert read_record("first", tmp_path / "new") == content
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "first.json"]


def test_same_content_gives_the_same_bytes(tmp_path):
    for name in ("a.json", "b.json"):
        write_record(tmp_path / name, {"x": 1 / 3, "y": [2.0]})
    text = (tmp_path / "a.json").read_text()
    assert text == (tmp_path / "b.json").read_text()
    assert text.endswith("}\n")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (0.123456789, 0.123457),
        (-123456789.0, -123457000.0),
        (1.23456789e-12, 1.23457e-12),
        (np.float64(2 / 3), 0.666667),
        (np.float32(2 / 3), 0.666667),
        (np.int64(7), 7),
        (np.array([[1, 2]]), [[1, 2]]),
        (0.0, 0.0),
        (123456789, 123456789),
        (True, True),
        ("0.123456789", "0.123456789"),
        ((0.1234567, [0.1234567]), [0.123457, [0.123457]]),
        ({3: 0.1234567}, {"3": 0.123457}),
        (None, None),
    ],
)
def test_floats_are_cut_to_six_digits_and_nothing_else(tmp_path, value, kept):
    write_record(tmp_path / "r.json", {"value": value})
    found = read_record("r", tmp_path)["value"]
    assert found == kept
    assert type(found) is type(kept)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_is_close_and_stable(value):
    once = rounded(value)
    assert abs(once - value) <= 0.5000001e-5 * abs(value) + 5e-324
    assert rounded(once) == once


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused_and_nothing_is_written(tmp_path, bad):
    write_record(tmp_path / "r.json", {"value": 1.0})
    before = (tmp_path / "r.json").read_bytes()
    for path in (tmp_path / "r.json", tmp_path / "other" / "r.json"):
        with pytest.raises(ValueError, match=f"content: got {bad}, expected finite"):
            write_record(path, {"deep": [{"value": bad}]})
    assert (tmp_path / "r.json").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "r.json"]


@pytest.mark.parametrize("bad", [object(), 1j, np.datetime64("2026-01-01")])
def test_what_json_does_not_know_is_refused_and_nothing_is_written(tmp_path, bad):
    with pytest.raises(ValueError, match=r"content: got a \w+, expected numbers, strings, lists"):
        write_record(tmp_path / "r.json", {"deep": [{"value": bad}]})
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_the_old_record(tmp_path, monkeypatch):
    write_record(tmp_path / "r.json", {"value": 1})

    def fail(*names):
        raise OSError("no space left")

    monkeypatch.setattr(_files.os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_record(tmp_path / "r.json", {"value": 2})
    assert read_record("r", tmp_path) == {"value": 1}
    assert list(tmp_path.iterdir()) == [tmp_path / "r.json"]


def test_unknown_record_lists_those_that_there_are(tmp_path):
    for name in ("b", "a"):
        write_record(tmp_path / f"{name}.json", {})
    with pytest.raises(FileNotFoundError, match=r"name: got 'c', expected one of \['a', 'b'\]"):
        read_record("c", tmp_path)


def test_the_books_records_are_found_by_default():
    assert (records.results_folder() / "status.json").is_file()
    assert read_record("status") == json.loads(
        (records.results_folder() / "status.json").read_text()
    )


def test_a_record_that_was_changed_is_refused_and_named(tmp_path):
    path = tmp_path / "r.json"
    write_record(path, {"runs": [{"accuracy": 0.81}], "note": "α"})
    text = path.read_text()
    for old, new in (("0.81", "0.82"), ("accuracy", "recall"), ("sha256", "sha512")):
        path.write_text(text.replace(old, new))
        if old == "sha256":  # a record of an earlier version, or by hand, has none
            assert "sha512" in read_record("r", tmp_path)
            continue
        with pytest.raises(
            ValueError, match=r"^\S+r.json: got content of checksum .*, expected"
        ) as e:
            read_record("r", tmp_path)
        assert "\n" not in str(e.value)
    # Layout and order of names are not content.
    path.write_text(json.dumps(json.loads(text), indent=3, sort_keys=True).replace("\n", "\r\n"))
    assert read_record("r", tmp_path) == {"runs": [{"accuracy": 0.81}], "note": "α"}


ALL = sorted(path.stem for path in records.results_folder().glob("*.json"))


def names_in(record):
    """Return every name of a method that a record holds."""
    config = record.get("config") or {}
    rows = record.get("runs", [])
    return {*config.get("methods", ()), *(row["method"] for row in rows if "method" in row)}


@pytest.mark.parametrize("name", ALL)
def test_the_books_records_name_methods_as_they_are_called_now(name):
    record = read_record(name)
    assert not names_in(record) & {*records.RENAMED}
    if record.get("recipe") in RECIPES:
        assert names_in(record) <= {*METHODS}
    # Nothing but names is read in another way than it was written, and the file stays as it was.
    written = json.loads((records.results_folder() / f"{name}.json").read_text())
    found = written.pop("sha256", None)
    assert found in (None, records.checksum(written))
    for row, old in zip(record.get("runs", []), written.get("runs", []), strict=True):
        if "method" in row:
            row["method"] = old["method"]
    if "methods" in (written.get("config") or {}):
        record["config"]["methods"] = written["config"]["methods"]
    assert record == written


OLD = ("vanilla", "rollingq", "random_matched", "random_free", "uniform")
NEW = ("mt", "mt+rollingq", "mt+random_matched", "mt+random_free", "uniform")


def test_older_names_are_translated_wherever_a_method_is_named(tmp_path):
    def content(names):
        rows = [{"method": name, "x": 0.5, "vanilla": "stays"} for name in names]
        config = {"methods": list(names), "method": names[1], "data": "vanilla"}
        return {"config": config, "runs": [*rows, {"kind": "rollingq"}], "rows": rows}

    write_record(tmp_path / "r.json", content(OLD))
    assert read_record("r", tmp_path) == content(NEW)
    write_record(tmp_path / "new.json", content(NEW))
    assert read_record("new", tmp_path) == content(NEW)
    # Of the record that is written again, the checksum is that of the new names.
    write_record(tmp_path / "again.json", read_record("r", tmp_path))
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "new.json").read_bytes()


def test_translating_hides_no_change(tmp_path):
    path = tmp_path / "r.json"
    write_record(path, {"runs": [{"method": "vanilla", "accuracy": 0.81}]})
    text = path.read_text()
    assert read_record("r", tmp_path) == {"runs": [{"method": "mt", "accuracy": 0.81}]}
    # The checksum is that of the names in the file.
    for old, new in (("0.81", "0.82"), ('"vanilla"', '"mt"'), ('"vanilla"', '"rollingq"')):
        path.write_text(text.replace(old, new))
        with pytest.raises(ValueError, match=r"r.json: got content of checksum .*, expected"):
            read_record("r", tmp_path)


def test_a_record_can_be_written_again(tmp_path):
    write_record(tmp_path / "r.json", {"x": 1 / 3})
    raw = json.loads((tmp_path / "r.json").read_text())
    assert raw["sha256"] == records.checksum({"x": 0.333333})
    before = (tmp_path / "r.json").read_bytes()
    for content in (raw, read_record("r", tmp_path)):
        write_record(tmp_path / "r.json", content)
        assert (tmp_path / "r.json").read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "3"])
def test_a_file_that_is_no_record_is_named(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ValueError, match=r"r.json: got .*, expected a record"):
        read_record("r", tmp_path)


def test_a_changed_package_marks_the_commit_and_changed_prose_does_not(tmp_path, monkeypatch):
    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    module = tmp_path / "rollingq_core" / "records.py"
    module.parent.mkdir()
    module.write_text("1")
    (tmp_path / "README.md").write_text("1")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    monkeypatch.setattr(records, "__file__", str(module))
    commit = git("rev-parse", "--short", "HEAD")
    assert provenance()["commit"] == commit
    (tmp_path / "README.md").write_text("2")
    (tmp_path / "notes.md").write_text("new")
    assert provenance()["commit"] == commit
    module.write_text("2")  # changed
    assert provenance()["commit"] == f"{commit}-changed"
    git("add", "-A")  # changed and staged
    assert provenance()["commit"] == f"{commit}-changed"
    git("commit", "-q", "-m", "second")
    commit = git("rev-parse", "--short", "HEAD")
    assert provenance()["commit"] == commit
    (module.parent / "new.py").write_text("1")  # not known to git
    assert provenance()["commit"] == f"{commit}-changed"
    (module.parent / "new.py").unlink()
    module.unlink()
    assert provenance()["commit"] == f"{commit}-changed"


def test_a_repository_without_a_commit_or_without_git_has_no_commit(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    module = tmp_path / "rollingq_core" / "records.py"
    module.parent.mkdir()
    module.write_text("1")
    monkeypatch.setattr(records, "__file__", str(module))
    assert provenance()["commit"] is None
    monkeypatch.setenv("PATH", "")
    assert provenance()["commit"] is None


def test_provenance_tells_of_the_gpu_that_was_used_or_that_none_was():
    assert provenance()["hardware"].endswith("cores, no GPU used")
    assert provenance("A100")["hardware"].endswith("cores, A100 used")


def test_provenance_names_everything_needed_to_repeat(root):
    found = provenance()
    assert date.fromisoformat(found["date"]) <= date.today()
    assert set(found["versions"]) >= {"rollingq-core", "torch", "numpy"}
    assert found["versions"]["numpy"] == np.__version__
    assert "cores" in found["hardware"]
    if (root / ".git").exists():
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        ).stdout
        assert head.startswith(found["commit"].removesuffix("-changed"))
    json.dumps(found)


def test_installed_package_does_not_claim_a_commit(tmp_path, monkeypatch):
    # As in a virtual environment that lies inside somebody's own repository.
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    module = tmp_path / "venv" / "site-packages" / "rollingq_core" / "records.py"
    module.parent.mkdir(parents=True)
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", tmp_path,
         "commit", "-q", "--allow-empty", "-m", "theirs"],
        check=True,
    )  # fmt: skip
    monkeypatch.setattr(records, "__file__", str(module))
    assert provenance()["commit"] is None


def test_unknown_package_has_no_version(monkeypatch):
    monkeypatch.setattr(records, "PACKAGES", ("no-such-package-at-all",))
    assert provenance()["versions"] == {"no-such-package-at-all": None}
