"""The paper's datasets from files in their exact layouts to answers, by commands alone."""

import json

import pytest

from benchmarks.cremad_folder import clip_names, make_folder
from rollingq_core.__main__ import main
from tests import folders

HOMES = {
    "cremad": ("CREMA-D", lambda root: make_folder(root, clip_names(24), size=(36, 48))),
    "kinetics_sounds": ("Kinetics-Sounds", folders.make_kinetics_sounds),
    "mosei": ("CMU-MOSEI", folders.make_mosei),
    "ucf101": ("UCF-101", folders.make_ucf101),
    "hmdb51": ("HMDB51", folders.make_hmdb51),
}


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """A data root that holds all five, none of them prepared."""
    root = tmp_path_factory.mktemp("data")
    for home, make in HOMES.values():
        make(root / home)
    return root


@pytest.mark.parametrize("name", HOMES)
def test_from_files_to_answers_by_commands(name, data_root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ROLLINGQ_DATA", str(data_root))
    main(["data", "verify", name])
    assert capsys.readouterr().out.splitlines()[-1] == "ok"
    main(["data", "prepare", name])
    assert str(data_root) in capsys.readouterr().out
    run = tmp_path / "run"
    main(
        [
            "train",
            "--data",
            name,
            "--profile",
            "smoke",
            "--method",
            "mt+rollingq",
            "--out",
            str(run),
        ]
    )
    main(["evaluate", str(run), "--test", "noise"])
    record = json.loads((run / "noise.json").read_text())
    assert record["config"]["data"] == name
    rates = [x for key, value in record["runs"][0].items() if " " in key for x in value]
    assert len(rates) >= 5 * 5 * 3
    assert all(0 <= rate <= 1 for rate in rates)
