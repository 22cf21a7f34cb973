"""Labels are class indices from 0; whatever else comes is named before anything is trained."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rollingq_core.data import DataSplits, PairedDataset
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.models.predictions import batches, predict
from rollingq_core.runs.replica import Replica
from rollingq_core.runs.replicas import fit_replicas
from rollingq_core.theory import path_sizes
from rollingq_core.training.loop import fit
from tests.small import TRAINING, small_data, small_model

INPUTS = {"audio": torch.zeros(4, 2), "visual": torch.zeros(4, 2)}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0.0, 1.0, 2.0, 3.0]), "got dtype torch.float32, expected integers"),
        ([0, 1.5, 2, 3], "got dtype torch.float32, expected integers"),
        (torch.zeros(4, dtype=torch.bool), "got dtype torch.bool, expected integers"),
        (np.array([True, False, True, False]), "got dtype torch.bool, expected integers"),
        (torch.zeros(4, dtype=torch.complex64), "got dtype torch.complex64, expected integers"),
        (torch.eye(4, dtype=torch.int64), r"got shape \[4, 4\], expected \[N\]"),
        (torch.tensor(3), r"got shape \[\], expected \[N\]"),
        ([0, 1, -1, 2], "got classes -1 to 2, expected 0 or more"),
        ([0, 1, -100, 2], "got classes -100 to 2, expected 0 or more"),
        (["zero", "one", "two", "three"], "got list, expected integers"),
        (None, "got NoneType, expected integers"),
    ],
)
def test_what_is_no_class_index_is_named(labels, message):
    with pytest.raises(ValueError, match=f"labels: {message}"):
        PairedDataset(INPUTS, labels)


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 1, 2, 3, 4], []])
def test_labels_of_another_number_than_the_samples_are_named(labels):
    labels = torch.tensor(labels, dtype=torch.int64)
    with pytest.raises(ValueError, match=rf"got shape \(4, 2\), expected \[{len(labels)}, "):
        PairedDataset(INPUTS, labels)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32, torch.int64, np.int32])
def test_integers_of_any_width_are_labels(kind):
    labels = torch.arange(4).to(kind) if isinstance(kind, torch.dtype) else np.arange(4, dtype=kind)
    assert PairedDataset(INPUTS, labels).labels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", "b", "c", "d"], r"inputs\['audio'\]: got list, expected numbers"),
        (torch.zeros(4, 2, dtype=torch.complex64), "got dtype torch.complex64, expected real"),
        (torch.zeros(4), r"inputs\['audio'\]: got shape \(4,\), expected \[4, \.\.\.\]"),
    ],
)
def test_what_is_no_input_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        PairedDataset({"audio": values}, torch.arange(4))


def shifted(place, by=1):
    """Return the small data with one split's labels counted from 1."""
    data = small_data()
    split = getattr(data, place)
    return replace_split(data, place, PairedDataset(split.inputs, split.labels + by))


def replace_split(data, place, split):
    return replace(data, **{place: split})


@pytest.mark.parametrize("place", ["train", "validation", "test"])
def test_labels_from_1_are_refused_where_the_classes_are_known(place):
    with pytest.raises(ValueError, match=rf"{place}\.labels: got classes 1 to 4, expected 0 to 3"):
        shifted(place)


def test_splits_know_their_classes_by_name():
    data = small_data()
    with pytest.raises(ValueError, match=r"train\.labels: got classes 0 to 3, expected 0 to 2"):
        replace(data, classes=("a", "b", "c"))


def three_classes():
    data = small_data(classes=5)
    assert data.train.labels.max() == 4
    return data


def test_a_model_of_fewer_classes_is_refused_before_it_is_trained():
    model, data = small_model(), three_classes()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"train\.labels: got classes 0 to 4, expected 0 to 3"):
        fit(model, data, TRAINING)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    with pytest.raises(ValueError, match=r"train\.labels: got classes 0 to 4, expected 0 to 3"):
        fit_replicas([Replica(small_model(), data, TRAINING)])
    with pytest.raises(ValueError, match=r"labels: got classes 0 to 4, expected 0 to 3"):
        path_sizes(small_model(), data.train.inputs, data.train.labels)


class Loose:
    """A dataset of one's own, which tells its labels batch by batch only."""

    def __init__(self, split, change):
        self.split, self.change = split, change

    def __len__(self):
        return len(self.split)

    def __getitems__(self, indices):
        inputs, labels = self.split.__getitems__(indices)
        return inputs, self.change(labels)


WRONG = [
    (lambda y: y + 1, "labels: got classes [01234] to 4, expected 0 to 3"),
    (lambda y: y - 100, r"labels: got classes -\d+ to -\d+, expected 0 to 3"),
    (lambda y: torch.where(y == 2, -1, y), "labels: got classes -1 to 3, expected 0 to 3"),
    (lambda y: y.float(), "labels: got dtype torch.float32, expected integers"),
    (lambda y: y > 1, "labels: got dtype torch.bool, expected integers"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_labels_that_come_batch_by_batch_are_checked_as_they_come(change, message):
    data = small_data()
    with pytest.raises(ValueError, match=message):
        predict(small_model(), Loose(data.test, change))
    for place in ("train", "validation"):
        loose = replace_split(data, place, Loose(getattr(data, place), change))
        with pytest.raises(ValueError, match=message):
            fit(small_model(), loose, TRAINING)


def test_a_batch_of_narrow_integers_is_trained_on():
    data = small_data()
    narrow = replace_split(data, "train", Loose(data.train, lambda y: y.to(torch.int32)))
    assert (
        fit(small_model(), narrow, TRAINING).history == fit(small_model(), data, TRAINING).history
    )
    (first, *_) = batches(narrow.train, 16)
    assert first[1].dtype == torch.int64


def test_probes_and_fusion_have_the_same_classes():
    model = small_model()
    with pytest.raises(ValueError, match="num_classes: got 5, expected the fusion's 4"):
        MultimodalModel(dict(model.encoders), model.fusion, 5)
    assert isinstance(small_data(), DataSplits)
