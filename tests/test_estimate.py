"""What a run will take is told before it starts, and measuring it changes nothing."""

import pytest
import torch

from rollingq_core.data import DataSplits, PairedDataset
from rollingq_core.models.paper import build_paper_model
from rollingq_core.runs.description import RunDescription
from rollingq_core.runs.estimate import Estimate, estimate, training_operations
from rollingq_core.runs.folder import train_in
from rollingq_core.training import Machine


def test_an_epoch_is_steps_and_reading_or_the_slower_of_the_two():
    numbers = {"step_seconds": 0.5, "read_seconds": 2.0, "steps": 100, "epochs": 36}
    assert Estimate(**numbers, workers=0, peak_gib=None).epoch_seconds == 250
    assert Estimate(**numbers, workers=2, peak_gib=None).epoch_seconds == 100
    assert Estimate(**numbers, workers=8, peak_gib=None).epoch_seconds == 50
    told = str(Estimate(**numbers, workers=2, peak_gib=3.21))
    assert "0.5 s a step" in told
    assert "about 1 h, 3.2 GiB" in told


@pytest.mark.parametrize("accumulate", [1, 4])
def test_it_counts_the_steps_of_the_run_it_is_asked_about(accumulate):
    run = RunDescription.of_profile("digits", "mt+rollingq", "smoke")
    found = estimate(run, Machine(accumulate=accumulate), steps=1)
    training = run.setting.training
    assert found.steps == -(-len(run.load_data().train) // training.batch_size)
    assert (found.epochs, found.workers, found.peak_gib) == (training.epochs, 0, None)
    assert found.step_seconds > 0
    assert found.read_seconds > 0
    with pytest.raises(ValueError, match="steps: got 0"):
        estimate(run, Machine(), steps=0)


def test_a_run_is_the_same_with_and_without_an_estimate_before_it(tmp_path):
    run = RunDescription.of_profile("digits", "mt+rollingq", "smoke")
    plain = train_in(tmp_path / "plain", run)
    estimate(run, Machine(), steps=1)
    after = train_in(tmp_path / "after", run)
    pairs = zip(plain.model.parameters(), after.model.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_operations_of_the_papers_model_are_those_counted_by_hand(device):
    inputs = {"audio": torch.zeros(1, 1, 257, 188), "visual": torch.zeros(1, 3, 224, 224)}
    one = PairedDataset(inputs, torch.tensor([0]))
    data = DataSplits("one", one, one, one, tuple("abcdef"), None, "")
    with torch.device(device):
        model = build_paper_model(data)
    batch = {name: values.to(device).repeat(2, 1, 1, 1) for name, values in inputs.items()}
    d, blocks = 768, 4
    # Of a block: queries, keys, values and output 4 d^2, the two layers 8 d^2, attention 2 N d; a
    # multiplication and its addition are two operations, and going back costs twice the way forth.
    by_hand = sum(3 * 2 * blocks * (12 * n * d**2 + 2 * n**2 * d) for n in (177, 197))
    # Beside that, patches are embedded, and tokens fused.
    assert 1 < training_operations(model, batch) / (2 * by_hand) < 1.03
    assert all(parameter.grad is None for parameter in model.parameters())
