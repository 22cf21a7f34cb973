"""Attention before training: the layer's own distribution, and what its symmetry gives."""

import math

import pytest
import torch
from scipy import stats

from rollingq_core import AttentionFusion
from rollingq_core.theory import initial_attention, random_tokens, simultaneous_intervals


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def difference(pair):
    return pair[:, 0] - pair[:, 1]


@pytest.mark.parametrize("cls_std", [0.3, 3.0])
def test_its_layers_are_drawn_as_the_package_draws_them(generator, cls_std):
    draws, dim, counts = 400, 8, (3, 5)
    tokens = random_tokens(draws, dim, counts, generator)
    found = initial_attention(tokens, cls_std, generator)
    torch.manual_seed(1)
    outputs = []
    with torch.no_grad():
        for index in range(draws):
            layer = AttentionFusion(dim, 2, cls_std=cls_std)
            outputs.append(layer([z[index : index + 1] for z in tokens]))
    shares = torch.cat([output.share for output in outputs])
    norms = torch.cat([output.query for output in outputs]).norm(dim=-1)
    # Fixed seeds; a chance of 1 in 1000 for a wrong alarm was accepted once.
    assert stats.ks_2samp(found.share[:, 0], shares[:, 0]).pvalue > 1e-3
    assert stats.ks_2samp(found.query_norm, norms).pvalue > 1e-3


def test_shares_and_scores_belong_together(generator):
    tokens = random_tokens(20, 6, (2, 3, 4), generator)
    found = initial_attention(tokens, 1.0, generator)
    row = found.scores.softmax(-1)
    torch.testing.assert_close(found.share[:, 1], row[:, 2:5].sum(-1))
    torch.testing.assert_close(found.summed[:, 2], found.scores[:, 5:].sum(-1))
    torch.testing.assert_close(found.share.sum(-1), torch.ones(20))


def test_random_tokens_are_normalised(generator):
    for z, count in zip(random_tokens(5, 16, (2, 7), generator), (2, 7), strict=True):
        assert z.shape == (5, count, 16)
        torch.testing.assert_close(z.norm(dim=-1), torch.full((5, count), 4.0), rtol=1e-3, atol=0)


def test_no_favourite_in_the_mean(generator):
    conditions = [(d, s) for d in (4, 32) for s in (0.02, 0.3, 3.0)]
    drawn = [
        initial_attention(random_tokens(800, d, (4, 4), generator), s, generator)
        for d, s in conditions
    ]
    intervals = simultaneous_intervals([difference(r.share) for r in drawn])
    assert (intervals[:, 0].abs() <= intervals[:, 1]).all()


def test_unequal_counts_share_by_count_while_logits_stay_equal(generator):
    found = initial_attention(random_tokens(2000, 16, (2, 6), generator), 1.0, generator)
    shares, logits = simultaneous_intervals([difference(found.share), difference(found.summed)])
    assert abs(shares[0] + 0.5) <= shares[1]
    assert shares[1] < 0.05
    assert abs(logits[0]) <= logits[1]


def test_spread_has_its_limit_for_short_queries(generator):
    found = initial_attention(random_tokens(2000, 32, (8, 8), generator), 0.02, generator)
    limit = float((found.query_norm**2).mean().sqrt()) / math.sqrt(32) / math.sqrt(16)
    assert float(difference(found.share).std()) == pytest.approx(limit, rel=0.1)


def test_intervals_hold_together():
    generator = torch.Generator().manual_seed(0)
    trials = [
        simultaneous_intervals([torch.randn(10, generator=generator) for _ in range(8)], 0.8)
        for _ in range(300)
    ]
    together = torch.stack([(t[:, 0].abs() <= t[:, 1]).all() for t in trials]).double().mean()
    # Bonferroni's bound is 0.8; eight independent intervals come close to it from above.
    assert 0.75 < float(together) < 0.9


def test_one_interval_is_students():
    sample = torch.tensor([1.0, 2.0, 4.0])
    mean, half = simultaneous_intervals([sample])[0].tolist()
    expected = stats.t.interval(0.95, 2, loc=7 / 3, scale=stats.sem(sample.numpy()))
    assert (mean - half, mean + half) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda z, g: initial_attention(z[:1], 1.0, g), "tokens"),
        (lambda z, g: initial_attention([z[0], z[1][:1]], 1.0, g), "tokens"),
        (lambda z, g: initial_attention(z, 0.0, g), "cls_std"),
        (lambda z, g: simultaneous_intervals([torch.ones(3)], 1.0), "level"),
    ],
)
def test_what_does_not_fit_is_refused(generator, call, name):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        call(random_tokens(2, 4, (2, 2), generator), generator)
