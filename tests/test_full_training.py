"""Chapter 15 on small folders of the paper's datasets: it prepares, trains, cuts off and tests."""

import json
import re

import jupytext
import pytest
from nbclient import NotebookClient

from rollingq_core.records import read_record
from tests import folders


@pytest.fixture(scope="module", params=folders.HOMES)
def executed(request, tmp_path_factory, root):
    """Return the chapter run in the smoke profile, the dataset, its folder and that of the runs."""
    folder, runs = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("runs")
    home, make = folders.HOMES[request.param]
    make(folder / home)
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
    return notebook, request.param, folder / home, runs


def outputs(notebook, words):
    """Return all that the one cell with ``words`` in it shows, as text."""
    (cell,) = [c for c in notebook.cells if c.cell_type == "code" and words in c.source]
    found = []
    for output in cell.outputs:
        found += [output.get("text", ""), *output.get("data", {}).values()]
    return "\n".join(map(str, found))


@pytest.mark.slow
def test_it_verifies_prepares_and_says_what_a_run_will_take(executed):
    notebook, name, folder, _ = executed
    shown = outputs(notebook, ".prepare(jobs")
    assert re.search(r"^ok$", shown, flags=re.MULTILINE)
    assert str(folder / "cache" / name) in shown
    assert [*(folder / "cache").glob(f"{name}*")]
    assert re.search(
        r"s a step, .* to read a batch, \d+ steps", outputs(notebook, "print(estimate(")
    )


@pytest.mark.slow
def test_it_trains_both_methods_in_folders_that_are_kept(executed):
    notebook, name, _, runs = executed
    for method in ("mt", "mt+rollingq"):
        run = runs / f"{name}-{method}-0"
        described = json.loads((run / "model.json").read_text())
        assert (described["data"], described["profile"]) == (name, "smoke")
        assert len(json.loads((run / "history.json").read_text())) == 1
    assert "<svg" in outputs(notebook, 'of_profile(DATA, "mt+rollingq", profile, SEED),')
    assert "every weight is the same" in outputs(notebook, 'RUNS / "whole"')


@pytest.mark.slow
def test_it_tests_them_and_puts_them_beside_the_papers(executed):
    notebook, name, _, runs = executed
    shown = outputs(notebook, '"paper", "yours"')
    papers = {"mt": "48.8", "mt+rollingq": "51.9"} if name == "cremad" else {}
    for method, label in (("mt", "vanilla (1)"), ("mt+rollingq", "RollingQ (1)")):
        noise = read_record("noise", runs / f"{name}-{method}-0")
        leaning = read_record("correlation", runs / f"{name}-{method}-0")
        assert noise["test_data"] == name
        (rates,) = [v for k, v in noise["runs"][0].items() if k == f"mix {favoured_of(name)}"]
        (row,) = [line for line in shown.splitlines() if line.startswith(label)]
        paper, yours, correlation, noisy = row.removeprefix(label).split()
        assert paper == papers.get(method, "–")
        assert (yours, noisy) == (f"{100 * rates[0]:.1f}", f"{100 * rates[-1]:.1f}")
        assert correlation == f"{leaning['runs'][0]['pearson']:.2f}"


def favoured_of(name):
    """The modality that noise replaces: the data's own, or its first."""
    return {"mosei": "text", "ucf101": "visual", "hmdb51": "visual"}.get(name, "audio")


def test_the_quoted_accuracies_are_those_of_the_papers_table_1():
    quoted = {run["method"]: 100 * run["accuracy"] for run in read_record("quoted-cremad")["runs"]}
    assert quoted == pytest.approx(
        {"unimodal-audio": 47.6, "unimodal-visual": 36.3, "concat": 49.3, "ogm": 51.2, "pmr": 50.1}
        | {"mt": 48.8, "mt2": 51.5, "mbt": 51.5, "jmt": 50.7, "mmml": 52.0}
        | {"mt+rollingq": 51.9, "mt2+rollingq": 52.2, "mmml+rollingq": 52.7}
    )


@pytest.mark.slow
def test_quoted_numbers_stand_in_italics_and_say_where_they_are_from(executed):
    notebook, *_ = executed
    shown = outputs(notebook, '["method", "accuracy, %", "parameters"]')
    assert "quoted from Tables 1 and 4 of the paper" in shown
    assert re.search(r"font-style:italic[^>]*>51\.9</td>", shown)
