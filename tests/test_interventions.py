"""Parts frozen after a turn, and turns taken back."""

from dataclasses import replace

import pytest
import torch

from rollingq_core.balancing import Frozen
from rollingq_core.evaluation import masked_accuracy
from rollingq_core.models.predictions import predict
from rollingq_core.records import read_record
from rollingq_core.reproduce import RECIPES, interventions
from rollingq_core.runs import train
from rollingq_core.settings import SETTINGS
from rollingq_core.training import fit
from tests.small import TRAINING, small_data, small_model

SHORT = replace(
    SETTINGS["T"],
    training=replace(SETTINGS["T"].training, epochs=4),
    beta=0.0,
    start_epoch=1,
    max_rotations=1,
)


def test_what_is_frozen_stays_and_the_rest_goes_on():
    data, model = small_data(), small_model()
    states = []

    class Kept(Frozen):
        def before_validation(self, model, validation):
            states.append({name: p.detach().clone() for name, p in model.named_parameters()})
            return {}

    fit(model, data, replace(TRAINING, epochs=5), observers=[Kept(["encoders."], after=2)])
    for name, value in states[2].items():
        stays = torch.equal(value, states[4][name])
        assert stays == name.startswith("encoders."), name
        assert not torch.equal(value, states[1][name]), name  # it learned before


def test_a_frozen_run_goes_on_bit_for_bit(tmp_path):
    data, whole, resumed = small_data(), small_model(), small_model(1)

    def freeze(model, **options):
        observers = [Frozen(["encoders."], after=1)]
        fit(model, data, replace(TRAINING, epochs=4), observers=observers, **options)

    def stop(record):
        if record["epoch"] == 3:
            raise KeyboardInterrupt

    freeze(whole)
    with pytest.raises(KeyboardInterrupt):
        freeze(small_model(), checkpoint=tmp_path / "c.pt", on_epoch=stop)
    freeze(resumed, checkpoint=tmp_path / "c.pt")
    for left, right in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize(
    ("parts", "after", "message"),
    [
        ("encoders.", 1, "parts: got"),
        ([], 1, "parts: got"),
        (["encoders."], -1, "after: got"),
        (["decoder."], 1, "parts: got 'decoder.'"),
    ],
)
def test_hostile_interventions(parts, after, message):
    with pytest.raises(ValueError, match=message):
        fit(small_model(), small_data(), TRAINING, observers=[Frozen(parts, after)])


def test_the_record_of_interventions(monkeypatch, tmp_path):
    monkeypatch.setitem(SETTINGS, "T", SHORT)
    monkeypatch.setattr(interventions, "load_dataset", lambda name, seed: small_data(seed))
    out = tmp_path / "interventions.json"
    record = interventions.reproduce("synthetic", "T", [100, 101], out=out, jobs=1)
    assert record["runs"] == read_record(out.stem, tmp_path)["runs"]
    kinds = [(run["variant"], run["method"]) for run in record["runs"] if run["seed"] == 100]
    parts = [f"{part} frozen" for part in interventions.PARTS]
    expected = [(parts[0], m) for m in ("mt", "mt+rollingq", "mt+random_matched")]
    expected += [(part, method) for part in parts[1:] for method in ("mt", "mt+rollingq")]
    assert kinds == [*expected, (f"{interventions.UNDONE} frozen", "mt+rollingq")]
    rows = dict(zip(kinds, record["runs"], strict=False))
    plain, undone = rows[parts[0], "mt+rollingq"], rows[kinds[-1]]
    assert [event["epoch"] for event in plain["events"]] == [1]
    assert undone["share_normal"] != plain["share_normal"]
    assert len(plain["history"]["alone"]) == len(plain["history"]["share"]) == 4
    # What was not intervened in is a run as any other.
    data = small_data(100)
    run = train("mt+rollingq", data, setting=SHORT, seed=100)
    assert plain["alone"]["audio"] == pytest.approx(
        masked_accuracy(run.model, data.test).alone["audio"], abs=1e-5
    )
    assert plain["accuracy"][0] == pytest.approx(predict(run.model, data.test).accuracy, abs=1e-5)
    shown = str(RECIPES["interventions"].table(record))
    assert "values and head frozen: RollingQ" in shown


def test_no_such_data_or_setting(tmp_path):
    for wrong in (("cremad", "P"), ("digits", "X")):
        with pytest.raises(ValueError, match="_name: got"):
            interventions.reproduce(*wrong, [1], out=tmp_path / "x.json")
