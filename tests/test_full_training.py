"""Chapter 15 on a small CREMA-D: one notebook prepares, verifies, trains, cuts off and tests."""

import json
import re

import jupytext
import pytest
from nbclient import NotebookClient

from benchmarks.cremad_folder import clip_names, make_folder
from rollingq_core.data import video
from rollingq_core.records import read_record


@pytest.fixture(scope="module")
def executed(tmp_path_factory, root):
    """Return the chapter run in the smoke profile, the data root and the folder of its runs."""
    folder, runs = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("runs")
    flvs = video.available_decoder() == "pyav"
    make_folder(folder / "CREMA-D", clip_names(24), jpgs=not flvs, flvs=flvs, size=(36, 48))
    (script,) = (root / "notebooks").glob("15_*.py")
    client = NotebookClient(
        jupytext.read(script),
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(script.parent)}},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROLLINGQ_PROFILE", "smoke")
        patch.setenv("ROLLINGQ_DATA", str(folder))
        patch.setenv("ROLLINGQ_RUNS", str(runs))
        patch.setenv("PYTHONPATH", str(root))
        notebook = client.execute()
    return notebook, folder, runs


def outputs(notebook, words):
    """Return all that the one cell with ``words`` in it shows, as text."""
    (cell,) = [c for c in notebook.cells if c.cell_type == "code" and words in c.source]
    found = []
    for output in cell.outputs:
        found += [output.get("text", ""), *output.get("data", {}).values()]
    return "\n".join(map(str, found))


@pytest.mark.slow
def test_it_prepares_and_verifies_cremad(executed):
    notebook, folder, _ = executed
    shown = outputs(notebook, "cremad.prepare")
    assert "24 clips, another split than the published" in shown
    assert re.search(r"^ok$", shown, flags=re.MULTILINE)
    assert (folder / "CREMA-D" / "cache" / "cremad-code" / "manifest.json").is_file()


@pytest.mark.slow
def test_it_trains_both_methods_in_folders_that_are_kept(executed):
    notebook, _, runs = executed
    for method in ("mt", "mt+rollingq"):
        run = runs / f"cremad-{method}-0"
        described = json.loads((run / "model.json").read_text())
        assert (described["data"], described["profile"]) == ("cremad", "smoke")
        assert described["measured"]["shapes"]["audio"] == [1, 257, 188]
        assert len(json.loads((run / "history.json").read_text())) == 1
    assert "<svg" in outputs(notebook, 'of_profile(DATA, "mt+rollingq"')
    assert "every weight is the same" in outputs(notebook, 'RUNS / "whole"')


@pytest.mark.slow
def test_it_tests_them_and_puts_them_beside_the_papers(executed):
    notebook, _, runs = executed
    shown = outputs(notebook, '["", "paper"')
    for method, label in (("mt", "vanilla"), ("mt+rollingq", "RollingQ")):
        record = read_record("noise", runs / f"cremad-{method}-0")
        assert record["test_data"] == "cremad"
        clean = 100 * record["runs"][0]["mix audio"][0]
        (row,) = [line for line in shown.splitlines() if line.startswith(label)]
        assert row.split()[-1] == "1"  # one run
        assert f"{clean:.1f}" in row.split()


def test_the_quoted_accuracies_are_those_of_the_papers_table_1():
    quoted = {run["method"]: 100 * run["accuracy"] for run in read_record("quoted-cremad")["runs"]}
    assert quoted == pytest.approx(
        {"unimodal-audio": 47.6, "unimodal-visual": 36.3, "concat": 49.3, "ogm": 51.2, "pmr": 50.1}
        | {"mt": 48.8, "mt2": 51.5, "mbt": 51.5, "jmt": 50.7, "mmml": 52.0}
        | {"mt+rollingq": 51.9, "mt2+rollingq": 52.2, "mmml+rollingq": 52.7}
    )


@pytest.mark.slow
def test_quoted_numbers_stand_in_italics_and_say_where_they_are_from(executed):
    notebook, _, _ = executed
    shown = outputs(notebook, '["method", "accuracy, %", "parameters"]')
    assert "quoted from Tables 1 and 4 of the paper" in shown
    assert re.search(r"font-style:italic[^>]*>51\.9</td>", shown)
