"""Confidence inside and outside of the known classes (Table 10)."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from rollingq_core.data import PairedDataset, load_dataset
from rollingq_core.data.outside import foreign
from rollingq_core.evaluation import (
    EVALUATIONS,
    confidences,
    detection,
    generalised_entropy,
    separation,
)
from rollingq_core.runs import train
from rollingq_core.runs.description import few
from tests.small import small_data, small_model

INSIDE, OUTSIDE = torch.tensor([5.0, 4, 3, 2, 1]), torch.tensor([3.5, 0.5, 0, -1])


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([0.7, 0.2, 0.1], -2.474060),
        ([0.4, 0.35, 0.25], -2.575246),
        ([1 / 3] * 3, -2.581071),
        ([0.98, 0.01, 0.01], -1.935526),
        ([1.0, 0.0, 0.0], 0.0),
    ],
)
def test_generalised_entropy_of_the_spec(probabilities, expected):
    values = torch.tensor([probabilities], dtype=torch.float64)
    assert float(generalised_entropy(values)) == pytest.approx(expected, abs=1e-6)


def test_generalised_entropy_of_the_largest_few():
    values = torch.tensor([[0.1, 0.2, 0.7]], dtype=torch.float64)
    expected = -((0.7 * 0.3) ** 0.5 + (0.2 * 0.8) ** 0.5)
    assert float(generalised_entropy(values, 0.5, top=2)) == pytest.approx(expected)


def test_separation_of_the_spec():
    auroc, flagged, accepted = separation(INSIDE, OUTSIDE)
    assert (auroc, flagged, accepted) == pytest.approx((0.85, 0.6, 0.25))


@given(st.integers(0, 2**32 - 1), st.floats(-2, 2))
def test_what_a_separation_means(seed, shift):
    generator = np.random.default_rng(seed)
    inside, outside = generator.normal(shift, 1, 40), generator.normal(0, 1, 60)
    told = separation(torch.from_numpy(inside), torch.from_numpy(outside))
    above = (inside[:, None] > outside).mean()
    assert told.auroc == pytest.approx(above)
    caught = np.sort(outside)[57 - 1]  # 57 of 60 are at or below it
    assert told.flagged == pytest.approx((inside <= caught).mean())
    kept = np.sort(inside)[2]  # 38 of 40 are at or above it
    assert told.accepted == pytest.approx((outside >= kept).mean())
    # Which side is which, and a score's scale, make no difference.
    turned = separation(torch.from_numpy(-outside), torch.from_numpy(-inside))
    assert turned == pytest.approx((told.auroc, told.accepted, told.flagged))
    scaled = separation(torch.from_numpy(3 * inside + 1), torch.from_numpy(3 * outside + 1))
    assert scaled == pytest.approx(told)


def test_each_score_is_higher_where_a_model_is_surer():
    scores = confidences(torch.tensor([[9.0, 0, 0], [0.2, 0, 0.1]]))
    for name, values in scores.items():
        assert values[0] > values[1], name
        assert values.dtype == torch.float64
    gen, energy, softmax, entropy = (float(values[1]) for values in scores.values())
    p = np.exp([0.2, 0, 0.1]) / np.exp([0.2, 0, 0.1]).sum()
    assert energy == pytest.approx(np.log(np.exp([0.2, 0, 0.1]).sum()), abs=1e-6)
    assert softmax == pytest.approx(p.max(), abs=1e-6)
    assert entropy == pytest.approx((p * np.log(p)).sum(), abs=1e-6)
    assert gen == pytest.approx(-((p * (1 - p)) ** 0.1).sum(), abs=1e-6)


def test_a_model_that_knows_its_classes_is_surer_of_them():
    data = load_dataset("digits-seven", seed=100)
    assert data.classes == tuple("0123456")
    run = train("mt", data, setting="P", seed=100)
    told = EVALUATIONS["ood"](run.model, data.test, run.favoured, 100)
    kinds = ("near", "far", "mismatched", "noise")
    assert [*told["auroc"]] == [f"{k} {s}" for k in kinds for s in confidences(torch.eye(2))]
    assert told["auroc"]["near gen"] > 0.75
    sides = [answers(run.model, split) for split in (data.test, data.test.outside["near"])]
    entropy = [-confidences(logits)["entropy"] for logits in sides]
    truth = np.repeat([0, 1], [len(logits) for logits in sides])
    expected = roc_auc_score(truth, torch.cat(entropy).numpy())
    assert told["auroc"]["near entropy"] == pytest.approx(expected)


@torch.no_grad()
def answers(model, dataset):
    return model(dataset.inputs).fusion.logits


@pytest.mark.parametrize("name", ["digits-seven", "avmnist-seven"])
def test_what_lies_outside_of_the_digits(name):
    try:
        data = load_dataset(name, seed=1)
    except ConnectionError:
        pytest.skip("the recordings are neither in the data root nor to be downloaded")
    whole = load_dataset(name.split("-")[0], seed=1)
    for split in ("train", "validation", "test"):
        known = getattr(whole, split).labels < 7
        assert torch.equal(getattr(data, split).labels, getattr(whole, split).labels[known])
    near, far = data.test.outside["near"], data.test.outside["far"]
    assert len(near) == len(far) == int((whole.test.labels >= 7).sum())
    for outside in (near, far):
        shapes = {n: v.shape[1:] for n, v in outside.inputs.items()}
        assert shapes == {n: v.shape[1:] for n, v in data.test.inputs.items()}
        assert all(v.isfinite().all() for v in outside.inputs.values())
    assert data.data_hash == load_dataset(name, seed=1).data_hash
    assert not whole.test.outside
    assert few(data, 10).test.outside["near"].inputs["audio"].shape[0] == 10


def test_sounds_and_pictures_that_are_no_digits():
    made = foreign(9, (8, 8), 16.0, 3)
    assert made.inputs["audio"].shape == (9, 1, 32, 49)
    assert made.inputs["visual"].shape == (9, 1, 8, 8)
    assert made.inputs["visual"].min() >= 0
    assert made.inputs["visual"].max() <= 16
    assert len({bytes(row.numpy().tobytes()) for row in made.inputs["audio"]}) == 9
    again = foreign(9, (8, 8), 16.0, 3)
    assert torch.equal(made.inputs["audio"], again.inputs["audio"])


def test_any_data_has_noise_and_mismatches_outside():
    data, model = small_data(), small_model()
    assert {key.split()[0] for key in detection(model, data.test, "audio").auroc} == {
        "mismatched",
        "noise",
    }


@pytest.mark.parametrize("known", [1, 11, 2.5])
def test_a_number_of_known_digits_out_of_range(known):
    with pytest.raises(ValueError, match="known_digits: got"):
        load_dataset("digits", known_digits=known)


def test_hostile_scores_and_answers():
    with pytest.raises(ValueError, match="inside: got"):
        separation(torch.tensor([1.0, float("nan")]), OUTSIDE)
    with pytest.raises(ValueError, match="outside: got"):
        separation(INSIDE, torch.tensor([]))
    with pytest.raises(ValueError, match="gamma: got 2"):
        generalised_entropy(torch.eye(2), 2)
    with pytest.raises(ValueError, match="probabilities: got"):
        generalised_entropy(2 * torch.eye(2))
    data, model = small_data(), small_model()
    wrong = {n: torch.full_like(v, 1e30) for n, v in data.test.inputs.items()}
    outside = {"far": PairedDataset(wrong, data.test.labels * 0)}
    dataset = PairedDataset(data.test.inputs, data.test.labels, outside=outside)
    with pytest.raises(ValueError, match=r"far|tokens"):
        detection(model, dataset, "audio")
