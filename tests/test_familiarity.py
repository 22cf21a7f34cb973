"""Distances between average keys: in units of training, whatever the scale of the keys."""

import pytest
import torch

from rollingq_core.data import PairedDataset
from rollingq_core.evaluation import NoisyDataset, average_keys, familiarity
from rollingq_core.fusion import ConcatFusion
from tests.small import small_data, small_model


@pytest.fixture(scope="module")
def data():
    return small_data(3)


def test_average_keys_are_those_of_the_model_and_its_mode_stays(data):
    model = small_model(1)
    model.train()
    keys = average_keys(model, data.test, "visual")
    assert model.training
    model.eval()
    place = model.modalities.index("visual")
    torch.testing.assert_close(keys, model(data.test.inputs).fusion.mean_keys[:, place].detach())


def test_units_are_the_distances_between_training_samples(data):
    model = small_model(1)
    told = familiarity(model, data.train, data.test, "audio", seed=4)
    known, keys, noisy = (
        average_keys(model, samples, "audio").double()
        for samples in (data.train, data.test, NoisyDataset(data.test, "audio", 1.0, seed=4))
    )
    among = torch.cdist(known, known).fill_diagonal_(torch.inf).min(dim=1).values.quantile(0.5)
    for value, found in ((told.normal, keys), (told.noisy, noisy)):
        nearest = torch.cdist(found, known).min(dim=1).values.quantile(0.5)
        assert value == pytest.approx(float(nearest / among), rel=1e-4)


def test_training_samples_are_at_home(data):
    told = familiarity(small_model(1), data.train, data.train, "audio")
    assert told.normal == pytest.approx(0, abs=1e-3)
    assert told.noisy > 0.5


def test_the_scale_of_the_keys_does_not_count(data):
    model = small_model(1)
    before = familiarity(model, data.train, data.test, "audio")
    with torch.no_grad():
        model.fusion.k_proj.weight.mul_(7)
        model.fusion.k_proj.bias.mul_(7)
    assert familiarity(model, data.train, data.test, "audio") == pytest.approx(before, rel=1e-4)


def test_what_has_no_keys_is_refused(data):
    model = small_model(1)
    with pytest.raises(ValueError, match=r"modality: got 'smell', expected one of \['audio'"):
        familiarity(model, data.train, data.test, "smell")
    model.fusion = ConcatFusion(model.fusion.dim, 3, 2)
    model.train()
    with pytest.raises(ValueError, match="got ConcatFusion, expected a fusion with attention"):
        average_keys(model, data.test, "audio")
    assert model.training


@pytest.mark.parametrize(
    ("rows", "message"),
    [([0], "training: got 1 sample, expected at least 2"), ([0, 0, 1, 1], "have a double")],
)
def test_training_samples_without_a_distance_are_refused(rows, message, data):
    inputs = {name: values[rows] for name, values in data.train.inputs.items()}
    training = PairedDataset(inputs, data.train.labels[rows])
    with pytest.raises(ValueError, match=message):
        familiarity(small_model(1), training, data.test, "audio")
