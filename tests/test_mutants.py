"""The script that breaks the method on purpose: its changes fit, and its verdicts are right."""

import ast
import subprocess
import sys

import pytest

from rollingq_core.records import read_record
from scripts import mutants
from scripts.mutants import MUTANTS, RECORDS, Change, Mutant


@pytest.fixture(scope="module")
def tree(tmp_path_factory, root):
    if not (root / ".git").exists():
        pytest.skip("what git knows of the tree is needed")
    folder = tmp_path_factory.mktemp("tree")
    mutants.copy_tree(folder)
    return folder


@pytest.mark.parametrize("name", MUTANTS)
def test_each_mutant_changes_todays_source(name, root):
    texts = {}
    for change in MUTANTS[name].changes:
        text = texts.get(change.file) or (root / change.file).read_text()
        texts[change.file] = mutants.changed(text, change)
    for file, text in texts.items():
        assert text != (root / file).read_text()
        ast.parse(text)
    assert texts or MUTANTS[name].record
    assert all(list(root.glob(f"notebooks/{x}*.ipynb")) for x in MUTANTS[name].chapters)


def test_a_source_that_has_moved_is_named():
    for text in ("", "a a"):
        with pytest.raises(ValueError, match=r"f.py: got \d of 'a', expected one: the source has"):
            mutants.changed(text, Change("f.py", "a", "b"))


def test_a_shifted_record_still_has_a_fitting_checksum(tree):
    name = "comparison-digits-P"
    before = read_record(name)["runs"]
    mutants.apply(Mutant((), record=name), tree)
    after = read_record(name, tree / "results")["runs"]
    for old, new in zip(before, after, strict=True):
        point = 0.01 if old["method"] == "mt+rollingq" else 0
        assert new["accuracy"] == pytest.approx([x + point for x in old["accuracy"]], abs=1e-6)
        assert new | {"accuracy": 0} == old | {"accuracy": 0}


def test_two_chapters_or_the_record_check_are_enough(tree):
    def judge(failing, checks=("05", "04", "06", RECORDS)):
        found = mutants.judge(Mutant(()), list(checks), lambda root, check: check in failing)
        return found, mutants.noticed(found)

    assert judge({"05", "04"}) == ({"05": True, "04": True}, True)
    assert judge({"05"}) == ({"05": True, "04": False, "06": False, RECORDS: False}, False)
    assert judge({RECORDS}) == ({"05": False, "04": False, "06": False, RECORDS: True}, True)
    assert judge(set())[1] is False


def test_the_command_lists_its_mutants_and_refuses_others(root):
    done = subprocess.run(
        [sys.executable, "scripts/mutants.py", "--only", "nothing"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "expected some of ['alpha-sign'" in done.stderr
