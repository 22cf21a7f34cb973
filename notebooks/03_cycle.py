# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. The self-reinforcing cycle
#
# **Recap.** {doc}`01_static_or_dynamic` found a model whose attention stays on audio, and
# {doc}`02_attention` how a query divides attention: by token counts, cosines, lengths and spread.
# Neither says why training should end with a lean to one side.
#
# **The question.** Chapter 1 ended with a story: audio is a little easier, so it gets more
# attention, so its encoder gets more gradient, so it becomes better still. Is each step of this
# story true? And is it really a *cycle*, which keeps itself going once it has begun?
#
# A story can be told of almost any result. This chapter takes it apart, and asks each part for
# its proof.
#
# You will learn
#
# - why an untrained fusion favours no modality *on average* (the paper's Proposition 3.1), and
#   how far a single one may lean all the same,
# - on which two paths a token gets its gradient, what attention has to do with each, and where the
#   paper's account of it (Eq. 6 to 8) stops short,
# - what gradient norms show, once there is a control beside them,
# - a model in two variables in which the cycle can be started and stopped, and what of it is found
#   in training.
#
# **What it takes.** A CPU and about half a minute. From {doc}`02_attention` you need
# {ref}`Eq. 1 <eq-paper-1>`, {ref}`2 <eq-paper-2>` and {ref}`4 <eq-paper-4>`.

# %% tags=["hide-cell"]
from importlib.util import find_spec

if find_spec("rollingq_core") is None:  # on Colab: install the book's package
    from IPython import get_ipython

    package = "rollingq-core[data,plots]"
    url = "https://github.com/rollingq-book/rollingq-book"
    get_ipython().run_line_magic("pip", f'install -q "{package} @ git+{url}"')

# %% [markdown]
# ## Before training: fair on average
#
# ```{prf:proposition} No favourite at the start
# :label: proposition-fair-start
#
# Let the entries of $W_Q$, $W_K$ and $z_{cls}$ be drawn independently, from distributions that are
# symmetric about 0. Then, whatever the tokens, both modalities have the same expected attention
# score in the sense of Eq. 4: it is 0.
# ```
#
# The proof is one line. $-W_K$ is as likely as $W_K$; it turns every logit $A_j$ into $-A_j$; so
# the mean of each logit is 0, and so is the mean of any sum of them. This is the paper's
# Proposition 3.1 in our words, with our proof.
#
# What we care about is the *share*, the softmax mass. There the same argument is not enough, for
# $e^{A}$ and $e^{-A}$ do not average to the same. A second symmetry helps: if the tokens of both
# modalities come from one distribution, then no token is special, and each of the $L$ tokens
# expects the mass $1/L$. With equally many tokens the shares are then equal in the mean.
#
# A statement about a mean can be tested by drawing. `initial_attention` draws many untrained
# layers at once, with the distributions of the package's `AttentionFusion`.

# %%
import torch

from rollingq_core.theory import initial_attention, random_tokens

generator = torch.Generator().manual_seed(0)


# %%
def untrained(dim, counts, cls_std, draws=1000):
    tokens = random_tokens(draws, dim, counts, generator)
    return initial_attention(tokens, cls_std, generator)


def difference(pair):
    return pair[:, 0] - pair[:, 1]


# %% [markdown]
# Three widths, five scales of the class token (it sets the length of the query), eight tokens in
# each modality, a thousand layers for each.

# %%
scales = (0.02, 0.1, 0.3, 1.0, 3.0)
conditions = [(dim, cls_std) for dim in (16, 32, 64) for cls_std in scales]
drawn = [untrained(dim, (8, 8), cls_std) for dim, cls_std in conditions]
gaps = [difference(layers.share) for layers in drawn]

# %% [markdown]
# Of fifteen separate 95 % intervals, one or more misses the truth in over half of all trials. So
# these are wider: *all* of them hold together with 95 %.

# %% tags=["nbval-check-output"]
from rollingq_core.theory import simultaneous_intervals

intervals = simultaneous_intervals(gaps)
covered = (intervals[:, 0].abs() <= intervals[:, 1]).sum()
print(f"intervals that contain 0: {covered} of {len(intervals)}")
print(f"largest distance of a mean from 0: {intervals[:, 0].abs().max():.2f}")
assert covered == len(intervals)

# %% [markdown]
# ## But no single model is average
#
# A mean of 0 says nothing about one model, and one model is what we train. The right panel shows
# how far single layers are from balance.

# %%
import math

rows = [
    {
        "dim": dim,
        "cls_std": cls_std,
        "sharpness": float(layers.query_norm.mean()) / math.sqrt(dim),
        "mean": float(mean),
        "half": float(half),
        "sd": float(gap.std()),
    }
    for (dim, cls_std), layers, gap, (mean, half) in zip(
        conditions, drawn, gaps, intervals, strict=True
    )
]

# %% tags=["hide-input"]
from rollingq_core.plots import BookFigure, initial_balance

BookFigure(
    initial_balance(
        rows, 8, "Balanced on average, and far from it in a single run"
    ),
    caption="Audio's share minus vision's in untrained layers, eight tokens each, 1000 layers a "
    "point. Left: means with intervals that hold together with 95 % (the axis is linear within "
    "±0.001). Right: standard deviation over layers against the length of the query. The dashed "
    "line is its limit for short queries.",
    alt="Left, fifteen means whose bars all cross zero and widen with the scale of the class "
    "token. Right, the standard deviation rises on one line for all three widths, from less than "
    "a hundredth to more than a half.",
)

# %% [markdown]
# The three widths fall on one line: what counts is $\lVert q \rVert / \sqrt d$. The reason is in
# Eq. 1. Given the query, a logit is a sum over $W_K$ with standard deviation
# $\lVert q \rVert / \sqrt d$, if tokens are layer-normalised. For short queries the softmax is
# nearly linear, and the difference of shares has $1/\sqrt{2L}$ of that, with $L$ tokens in
# each modality.

# %% tags=["nbval-check-output"]
found_sd = {(r["dim"], r["cls_std"]): (r["sd"], r["sharpness"]) for r in rows}
for dim in (16, 32, 64):
    soft, sharpness = found_sd[dim, 0.02]
    assert abs(soft / (sharpness / math.sqrt(2 * 8)) - 1) < 0.15
    assert soft < 0.01 < 0.2 < found_sd[dim, 1.0][0] < 0.5 < found_sd[dim, 3.0][0]
    line = [f"{std:g}: {found_sd[dim, std][0]:.3f}" for std in scales]
    print(f"d = {dim}: sd at class token of scale", ", ".join(line))

# %% [markdown]
# So with the class token of the published code (0.02; the paper names no number) an untrained model
# is balanced, and not only on average. With the sharp ones that some of this book's settings use
# (0.3 in setting P, 1 in setting T), a single model begins with a lean by chance. Below we look at
# what becomes of it.
#
# ## What the proposition does not cover
#
# *Unequal counts.* With 4 and 12 tokens the expected logits are still equal. The shares are not:
# each token gets its $1/L$, so the difference should be $(4 - 12)/16$.

# %% tags=["nbval-check-output"]
uneven = [untrained(32, (4, 12), cls_std) for cls_std in scales]
shares = simultaneous_intervals([difference(u.share) for u in uneven])
logits = simultaneous_intervals([difference(u.summed) for u in uneven])
assert ((shares[:, 0] + 0.5).abs() <= shares[:, 1]).all()
assert (logits[:, 0].abs() <= logits[:, 1]).all()
for std, share, logit in zip(scales, shares, logits, strict=True):
    print(
        f"{std:4g}: shares {share[0]:.2f} ± {share[1]:.2f}, "
        f"summed logits {logit[0]:.1f} ± {logit[1]:.1f}"
    )

# %% [markdown]
# *Unlike tokens.* Let all audio tokens of a sample be the same, as in a steady tone, while visual
# tokens differ. The weights are as symmetric as before, the counts are equal, and the summed
# logits agree in the mean. But eight different draws have a larger largest one.

# %%
audio, visual = random_tokens(1000, 32, (8, 8), generator)
steady = audio[:, :1].expand(-1, 8, -1)

# %% tags=["nbval-check-output"]
uneven = initial_attention([steady, visual], cls_std=1.0, generator=generator)
shares, logits = simultaneous_intervals(
    [difference(uneven.share), difference(uneven.summed)]
)
assert shares[0] < -shares[1]
assert abs(logits[0]) <= logits[1]
print(f"shares, steady minus varied: {shares[0]:.2f} ± {shares[1]:.2f}")
print(f"summed logits, the same:     {logits[0]:.1f} ± {logits[1]:.1f}")

# %% [markdown]
# So the fairness of the *score* needs symmetric weights only. Fairness of *attention* also needs
# equally many tokens that are equally diverse.
#
# ## From attention to gradient: the paper's account
#
# The paper follows the gradient backward to the parameters $\theta^m$ of each encoder.
#
# (eq-paper-6)=
# :::{admonition} In the paper, Eq. 6
# :class: in-the-paper
# $$
# \frac{\partial \mathcal L}{\partial \theta^m}
# = \frac{1}{N} \sum_i \frac{\partial \mathcal L}{\partial h_i}
# \frac{\partial h_i}{\partial z_i^m} \frac{\partial z_i^m}{\partial \theta^m}
# \tag{6}
# $$
# :::
#
# (eq-paper-7)=
# :::{admonition} In the paper, Eq. 7
# :class: in-the-paper
# $$
# \frac{\partial h_i}{\partial z_i^a}
# = s(A_i^a) \frac{\partial V_i^a}{\partial z_i^a} + \dots
# \tag{7}
# $$
# :::
#
# (eq-paper-8)=
# :::{admonition} In the paper, Eq. 8
# :class: in-the-paper
# $$
# \frac{\partial h_i}{\partial z_i^v}
# = s(A_i^v) \frac{\partial V_i^v}{\partial z_i^v} + \dots
# \tag{8}
# $$
# :::
#
# $s$ is the softmax, $A_i^m$ the logits of a modality's tokens, $V_i^m = z_i^m W_V$ their values.
# (These three boxes give the argument in our symbols. We had its content before us and not the
# page, so the print may differ; the dots stand for whatever else the derivative holds.)
#
# Side by side, the paper says, "the only difference" between the two gradients is the attention
# score, so that the encoder with more attention is trained more. The three quoted words are the
# paper's {cite}`ni2025rollingq`; the rest of the sentence is our paraphrase.
#
# Two things will turn out. The dots hide a second path, which also runs through attention. And the
# last factor of Eq. 6 is the encoder's own: it differs between the modalities whatever attention does.
#
# ## Two paths to a token
#
# With $p = \operatorname{softmax}(q K^\top / \sqrt d)$ and $v_j = z_j W_V$, the output is
# $h = \sum_j p_j v_j$. Let $g = \partial \mathcal L / \partial h$ be what arrives from the loss.
# A token $z_j$ acts on $h$ in two ways: through its value, with attention held still, and through
# its key, which moves attention. The product rule gives
#
# (eq-3-1)=
# $$
# \begin{aligned}
# \frac{\partial \mathcal L}{\partial z_j}
# &= p_j\, g\, W_V^\top & \text{(value path)} \cr
# &+ \frac{p_j}{\sqrt d}\, \big(g \cdot (v_j - h)\big)\, q\, W_K^\top & \text{(key path)}
# \end{aligned}
# \tag{3.1}
# $$
#
# The value path is what Eq. 7 and 8 write out. For the key path note $\partial p_i / \partial A_j =
# p_i (\delta_{ij} - p_j)$, so that $\partial h / \partial A_j = p_j (v_j - h)$. *Both* terms carry
# the factor $p_j$: a token without attention learns nothing, on either path.
#
# Check it against automatic differentiation, in double precision.

# %%
from rollingq_core.theory import gradient_paths

B, L, d = 3, 7, 32
z, g, q = (
    torch.randn(*shape, generator=generator, dtype=torch.float64)
    for shape in ((B, L, d), (B, d), (d,))
)
W_K, W_V = torch.randn(2, d, d, generator=generator, dtype=torch.float64) / d**0.5
paths = gradient_paths(g, z, q, W_K, W_V)

# %% tags=["nbval-check-output"]
z.requires_grad_()
p = torch.softmax(q @ (z @ W_K).mT / d**0.5, dim=-1)
h = (p.unsqueeze(-1) * (z @ W_V)).sum(1)
(expected,) = torch.autograd.grad((g * h).sum(), z)
error = (paths.value + paths.key - expected).norm() / expected.norm()
assert error < 1e-10
sizes = [float(part.norm()) for part in paths]
print(
    f"value path {sizes[0]:.3f}, key path {sizes[1]:.3f}, their sum {expected.norm():.3f}"
)
print(f"relative error of the formula: {error:.10f}")

# %% [markdown]
# ## What attention decides, and what it doesn't
#
# Sum over the tokens of a modality. On the **value path** nothing but $p_j$ depends on $j$, so a
# modality's norms add up to its share $s^m$ times $\lVert g W_V^\top \rVert$. In every sample the
# two modalities get value gradient exactly in the ratio of their shares.

# %% tags=["nbval-check-output"]
p = p.detach()
share = torch.stack([p[:, :3].sum(1), p[:, 3:].sum(1)])
norms = paths.value.norm(dim=-1)
received = torch.stack([norms[:, :3].sum(1), norms[:, 3:].sum(1)])
assert torch.allclose(received[0] / received[1], share[0] / share[1])
for i in range(B):
    print(
        f"sample {i}: audio's multiple of value gradient {received[0, i] / received[1, i]:.4f}, "
        f"of share {share[0, i] / share[1, i]:.4f}"
    )

# %% [markdown]
# The **key path** is different. Its weights $p_j\, g \cdot (v_j - h)$ add up to 0 over all tokens.
# With $h^m$ for the mean value of modality $m$ under its own attention, the two modalities' sums are
#
# $$
# \begin{aligned}
# \sum_{j \in a} p_j\, g \cdot (v_j - h) &= s^a s^v\; g \cdot (h^a - h^v) \cr
# &= -\sum_{j \in v} p_j\, g \cdot (v_j - h).
# \end{aligned}
# $$
#
# The net push on the keys is equally strong for both, and opposite. The same number says how the
# loss changes as the query shifts mass from vision to audio. So the lean grows while audio's values
# serve the loss better, and the factor $s^a s^v$ stops it once one side has everything.

# %% tags=["nbval-check-output"]
v, h = (z @ W_V).detach(), h.detach()
push = p * (g.unsqueeze(1) * (v - h.unsqueeze(1))).sum(-1)
h_a = (p[:, :3, None] * v[:, :3]).sum(1) / share[0, :, None]
h_v = (p[:, 3:, None] * v[:, 3:]).sum(1) / share[1, :, None]
net = share.prod(0) * (g * (h_a - h_v)).sum(-1)
sums = push[:, :3].sum(1), push[:, 3:].sum(1)
assert torch.allclose(sums[0], net)
assert torch.allclose(sums[1], -net)
for i in range(B):
    print(
        f"sample {i}: push on audio {sums[0][i]:+.4f}, on vision {sums[1][i]:+.4f}"
    )

# %% [markdown]
# Only the value path is in proportion to attention for certain. Single keys may still be pushed
# hard in both modalities; the sums do not limit the sizes. What do the sizes do in training?
#
# ## Both paths while a model trains
#
# We train a vanilla fusion on the synthetic tokens of setting T, and look at both paths after each
# epoch on the same 512 training samples. `fit` calls `on_epoch` when an epoch is done.

# %%
from dataclasses import replace

from rollingq_core.data import load_dataset
from rollingq_core.models.small import build_model
from rollingq_core.runs.run import one_thread
from rollingq_core.settings import SETTINGS
from rollingq_core.theory import path_sizes
from rollingq_core.training import fit

# %%
setting = SETTINGS["T"]
brief = replace(setting.training, epochs=12)
data = load_dataset("synthetic", seed=0)
model = build_model(data, setting, seed=0)

# %%
look = {name: x[:512] for name, x in data.train.inputs.items()}
labels = data.train.labels[:512]
sizes = [path_sizes(model, look, labels)]


# %%
def after_epoch(record):
    sizes.append(path_sizes(model, look, labels))


with one_thread():
    fit(model, data, brief, on_epoch=after_epoch)

# %% tags=["hide-input"]
from rollingq_core.plots import paths_over_epochs

BookFigure(
    paths_over_epochs(
        sizes,
        model.modalities,
        "The favoured modality gets more gradient on both paths",
    ),
    caption="Setting T, seed 0, vanilla fusion; 512 training samples. Left: gradient norms at the "
    "tokens, summed over a modality's tokens, mean over samples (orange: audio, blue: visual). "
    "Right: audio's multiple of vision's. Before training, chance favours vision here.",
    alt="Left, four falling curves on a logarithmic axis, with audio's above vision's after the "
    "first epoch. Right, three ratios that start a little below one, jump above five after one "
    "epoch and stay between one and a half and five.",
)

# %% tags=["nbval-check-output"]
ratios = {
    name: torch.tensor([float(pair[0] / pair[1]) for pair in pairs])
    for name, pairs in (
        (name, [getattr(size, name) for size in sizes])
        for name in ("share", "value", "key")
    )
}
assert ratios["share"][0] < 1 < ratios["share"][1:].min()
assert min(ratios["value"][1:].min(), ratios["key"][1:].min()) > 1
print(
    "audio's multiple of vision's, before training, and its range over the epochs:"
)
for name, ratio in ratios.items():
    print(
        f"{name:6} {ratio[0]:.1f}, {ratio[1:].min():.1f} to {ratio[1:].max():.1f}"
    )

# %% [markdown]
# Two things to notice. At the end the value ratio is *below* the ratio of shares. In each single
# sample the two agree, as proved, so samples in which vision has more attention must be those with the
# larger $\lVert g W_V^\top \rVert$. And the curves on the left *fall*: a modality can have most of the
# attention and little gradient, once the loss is small. More gradient than the other does not mean
# much gradient.

# %% tags=["nbval-check-output"]
audio = torch.stack([size.total[0] for size in sizes])
assert ratios["value"][-1] < ratios["share"][-1]
assert audio[-1] < audio[1] / 5
assert sizes[-1].share[0] > 0.6
left = 100 * audio[-1] / audio[1]
print(
    f"last epoch: ratio of shares {ratios['share'][-1]:.1f}, of value gradients ",
    end="",
)
print(f"{ratios['value'][-1]:.1f}; audio's share {sizes[-1].share[0]:.2f}")
print(f"audio's gradient, in % of what it was after the first epoch: {left:.0f}")

# %% [markdown]
# ## Gradient norms of the encoders
#
# The paper's Fig. 7 draws gradient norms of the encoders over training. Here is the same from the
# record of twelve seeds, with a control that matters: **uniform** attention, in which there is no
# cycle, for attention cannot lean.

# %%
from rollingq_core.records import read_record

digits = read_record("comparison-digits-P")
speech = read_record("comparison-avmnist-P")
pretraining = digits["config"]["training"]["pretrain_epochs"]

# %% tags=["hide-input"]
from rollingq_core.plots import encoder_gradients

BookFigure(
    encoder_gradients(
        digits["runs"],
        ["mt", "mt+rollingq", "uniform"],
        pretraining,
        "Audio's encoder gets more gradient, under equal attention too",
    ),
    caption="Embedded digits, setting P, 12 seeds: gradient norm of each encoder, geometric mean "
    "and one geometric standard deviation (orange, solid: audio; blue, dashed: visual). The "
    "vertical line is the start of fusion. Up to there the three methods are the same run.",
    alt="Three panels with logarithmic axes. In all of them audio's curve lies above the visual "
    "one after fusion starts. The distance is largest for vanilla, and smallest for uniform. With "
    "RollingQ the visual curve is raised in the first epochs of fusion. All curves fall.",
)

# %%
from itertools import pairwise

import numpy as np

from rollingq_core.plots import mean_interval, of_method


# %%
def gradients(record, method):
    """Gradient norms of fusion epochs: seeds, epochs, (audio, visual)."""
    runs = of_method(record["runs"], method)
    found = [r["history"]["gradient_norm"][pretraining:] for r in runs]
    return np.array(
        [[[g["audio"], g["visual"]] for g in epochs] for epochs in found]
    )


# %% [markdown]
# **Audio's encoder gets more**, in nearly all epochs of all seeds, on both sets. But it does so
# without any cycle as well.

# %% tags=["nbval-check-output"]
from rollingq_core.methods import METHODS

for record in (digits, speech):
    for method in ("mt", "mt+rollingq", "uniform"):
        norms = gradients(record, method)
        ahead = 100 * (norms[..., 0] > norms[..., 1]).mean()
        ratio = np.exp(np.log(norms[..., 0] / norms[..., 1]).mean())
        name = f"{record['config']['data']:8} {METHODS[method].label:9}"
        print(f"{name} audio ahead in {ahead:3.0f} % of epochs, {ratio:.1f} times")

# %% [markdown]
# **So attention is not the only difference.** Under uniform attention a token of audio and one of
# vision have the same mass $1/L$ in every sample and every epoch. By {ref}`3.1 <eq-3-1>` they get the
# very same value gradient, and no key gradient, since attention cannot move. If attention were all
# that differs, the encoders' gradients would differ as the fixed shares do. Do they?

# %% tags=["nbval-check-output"]
for record in (digits, speech):
    runs = of_method(record["runs"], "uniform")
    fixed = {share["audio"] for run in runs for share in run["history"]["share"]}
    assert len(fixed) == 1
    share = fixed.pop()
    logs = np.log(gradients(record, "uniform"))
    mean, half = mean_interval((logs[..., 0] - logs[..., 1]).mean(axis=1))
    low, middle, high = (math.exp(mean + k * half) for k in (-1, 0, 1))
    assert low > 1 > share
    print(f"{record['config']['data']:8} share of audio always {share:.3f}")
    print(
        f"{'':8} its encoder's gradient: {middle:.2f} times, {low:.2f} to {high:.2f}"
    )

# %% [markdown]
# They do not. Audio's share is at most one half, and yet its encoder gets more than vision's, with 95 %
# intervals over 12 seeds that stay above 1. The tokens got equal gradients; what makes the
# difference comes after them: the last factor of Eq. 6, and how it adds up over samples.
#
# **Attention adds to it.** How much? Compare vanilla with uniform attention at equal seeds, after
# the last epoch.

# %%
from rollingq_core.plots import paired_difference


def log_ratio(run):
    last = run["history"]["gradient_norm"][-1]
    return math.log(last["audio"] / last["visual"])


# %% tags=["nbval-check-output"]
for record in (digits, speech):
    mean, half = paired_difference(record["runs"], "mt", "uniform", log_ratio)
    low, middle, high = (math.exp(mean + k * half) for k in (-1, 0, 1))
    assert low > 1
    print(
        f"{record['config']['data']:8} {middle:.1f} times, {low:.1f} to {high:.1f}"
    )

# %% [markdown]
# Within a run, the ratio of gradients follows the lean, as the value path says it should. Here is the
# correlation, over a run's epochs, of the log ratio of gradients and the log ratio of shares: its mean
# over seeds, with a 95 % interval.

# %% tags=["nbval-check-output"]
for record in (digits, speech):
    for method in ("mt", "mt+rollingq"):
        runs = of_method(record["runs"], method)
        lean = np.array([[s["audio"] for s in r["history"]["share"]] for r in runs])
        odds = np.log(lean / (1 - lean))
        logs = np.log(gradients(record, method)).transpose(2, 0, 1)
        found = [
            np.corrcoef(*pair)[0, 1]
            for pair in zip(odds, logs[0] - logs[1], strict=True)
        ]
        mean, half = mean_interval(found)
        assert mean > half
        name = f"{record['config']['data']:8} {METHODS[method].label:9}"
        print(f"{name} {mean:.2f} ± {half:.2f}")

# %% [markdown]
# **Once learned, the gradient is gone.** Audio's own gradient falls to a fraction while its share
# rises, in every seed: the second link of the story wears out.

# %% tags=["nbval-check-output"]
for record in (digits, speech):
    norms = gradients(record, "mt")[..., 0]
    lean = [r["history"]["share"] for r in of_method(record["runs"], "mt")]
    assert (norms[:, -1] < norms[:, 0] / 3).all()
    rise = [shares[-1]["audio"] - shares[0]["audio"] for shares in lean]
    assert min(rise) > 0
    left = 100 * norms[:, -1] / norms[:, 0]
    print(
        f"{record['config']['data']:8} {len(rise)} seeds: share rises by at least ",
        end="",
    )
    print(f"{min(rise):.2f}; gradient left: {left.min():.0f} to {left.max():.0f} %")

# %% [markdown]
# ## Does more gradient make better features?
#
# This is the third link, from gradient to quality. A probe tells how well a class can be read off
# one encoder's tokens alone. If the cycle starves vision, its probe should be better under uniform
# attention, and RollingQ should bring part of that back.

# %%
from rollingq_core.plots import signed


def vision(run):
    return 100 * run["probe_accuracy"]["visual"]


# %% tags=["nbval-check-output"]
for record in (digits, speech):
    for pair in (("mt", "uniform"), ("mt+rollingq", "mt")):
        mean, half = paired_difference(record["runs"], *pair, vision)
        compared = " − ".join(METHODS[method].label for method in pair)
        name = f"{record['config']['data']:8} {compared}"
        print(f"{name:28} {signed(mean, 1)} ± {half:.1f} points")

# %% tags=["nbval-check-output"]
norms = {
    m: gradients(digits, m)[..., 1].sum(1).mean() for m in ("mt", "mt+rollingq")
}
assert norms["mt+rollingq"] > 2 * norms["mt"]
mean, half = paired_difference(digits["runs"], "mt+rollingq", "mt", vision)
assert mean < -half
more = norms["mt+rollingq"] / norms["mt"]
print(
    f"digits: with RollingQ vision gets {more:.1f} times vanilla's gradient in all,"
)
print(f"and its probe changes by {signed(mean, 1)} ± {half:.1f} points")

# %% [markdown]
# The first half holds on both sets: vision's features are worse with vanilla attention than with
# equal attention, by a few points. The second half fails. Turning the query sends far more gradient
# to the visual encoder, and yet its probe ends *below* vanilla's on the digits; on speech no
# difference can be told from 0. A gradient norm says how hard an encoder is pushed, not that it is
# pushed to a place where its features get better. (A probe reads the mean of the tokens, with a
# linear map; features that only attention can use would escape it.)
#
# ## A model in two variables
#
# Even where every link holds, the whole need not be a cycle that runs by itself. Whether a chain
# of pushes runs away or settles depends on how strong it is. A small model shows it. Let
#
# - $a$ be the *lean*, half the log odds of audio's share, so that $s^a - s^v = \tanh a$,
# - $\Delta$ be the *gap*, audio's quality of features minus vision's,
#
# and let both relax toward what the other one asks for:
#
# (eq-3-2)=
# $$
# \begin{aligned}
# \dot a &= G\,\Delta - a, \cr
# \dot\Delta &= r\,(\tanh a + b - \Delta).
# \end{aligned}
# \tag{3.2}
# $$
#
# The assumptions, in the open:
#
# 1. The query follows the gap, and forgets (weight decay, new batches). $G$ is the **gain**. The
#    true push fades as $s^a s^v$, see above; here, only the forgetting limits it.
# 2. Quality follows the gradient, hence the share: this is the value path, taken to be all there
#    is. An encoder that is not fed loses quality.
# 3. $b$ is the **head start**: the gap that equal shares would leave, since audio is easier.
# 4. $r$ is the pace of the encoders, relative to the query.
# 5. All samples are alike, and nothing is random but the start.
#
# Units are chosen such that no further constants are left.
#
# ## When does the cycle run by itself?
#
# At rest $a = G\,(\tanh a + b)$. The right-hand side is an S-shaped curve, whose steepest slope is
# $G$. With $G \le 1$ it meets the diagonal once. With $G > 1$ and a small $b$ it does so three
# times. They merge into one where the curve touches the diagonal, and that gives the largest head
# start which still leaves a choice:
#
# $$
# b^*(G) = \sqrt{1 - \tfrac1G} - \tfrac1G \operatorname{arcosh} \sqrt G .
# $$

# %% tags=["nbval-check-output"]
from rollingq_core.theory import FeedbackLoop

for gain, head_start in ((0.8, 0.04), (1.6, 0.04), (1.6, 0.3)):
    loop = FeedbackLoop(gain, head_start)
    ends = [f"{(1 + math.tanh(p.lean)) / 2:.2f}" for p in loop.fixed_points()]
    print(
        f"G = {gain}, b = {head_start:.2f} (b* = {loop.largest_head_start:.2f}):",
        *ends,
    )

# %% tags=["hide-input"]
from rollingq_core.plots import loop_portraits

BookFigure(
    loop_portraits(
        {
            "G = 0.8, b = 0.04": FeedbackLoop(0.8, 0.04),
            "G = 1.6, b = 0.04": FeedbackLoop(1.6, 0.04),
            "G = 1.6, b = 0.3": FeedbackLoop(1.6, 0.3),
        },
        "Above a gain of 1 the start may decide; with a large head start it doesn't",
    ),
    caption="The model's plane for three pairs of gain and head start, r = 1. On the solid line the "
    "gap is at rest, on the dashed line the lean is; where they cross are the fixed points, full "
    "if stable. Arrows: direction of change. Orange: states that end with audio, blue: with vision.",
    alt="Three panels. Left and right have one crossing and are all orange, with the fixed point at "
    "a share a little above one half, and close to one. The middle panel has three crossings; a "
    "falling dotted line through the middle one parts a blue from an orange region.",
)

# %% [markdown]
# Three regimes. On the left there is no cycle: the lean is what the head start calls for, a
# little amplified. In the middle the cycle feeds itself: even with $b = 0$ the balanced state
# would be unstable, and chance at the start decides who wins. On the right the gain is the same, but
# audio is so much easier that it wins from any start.
#
# ## The dial
#
# Start and stop the cycle yourself. The path begins with equal encoders, is left alone, and then the
# query is *turned*: its lean is multiplied by the last slider, the encoders stay as they are.

# %% tags=["nbval-check-output"]
from rollingq_core.explorer import LoopExplorer

LoopExplorer(gain=1.6, head_start=0.04, share=0.5, turn=-1)

# %% [markdown]
# Try this:
#
# - Lower the gain below 1. The ring meets one of the black points, both vanish, and every turn is
#   undone.
# - Back at 1.6, a turn to the mirror image, −1, comes back, but only just: see how the path follows
#   the boundary. At −1.2 it does not come back.
# - Start from a share of 0.4 instead of 0.5. The same model now goes to vision, until the turn makes
#   audio win.
# - Raise the head start to 0.2. Now *every* turn comes back, and every start leads to audio.
#
# ## What a turn can do in this model
#
# A RollingQ rotation is a sudden change of $a$ at the same $\Delta$, a horizontal jump. It lasts
# only if it ends beyond the boundary. Near a balanced loop the boundary is nearly a straight line
# through the saddle, and then the factor on the lean has to be below
#
# $$
# -\frac{2}{\sqrt{(1 - r)^2 + 4 r G} + r - 1},
# $$
#
# which for $r = 1$ is $-1/\sqrt G$. The slower the encoders, the farther the turn must go: a query
# that is quick to learn is back before the encoders have noticed. The jump below goes from the
# stable end, where curves bend the boundary, so the formula is only a guide. The cell finds the
# true factor by bisection.


# %%
def needed_factor(pace, gain=1.6):
    """Largest factor on the lean from which the state does not come back."""
    loop = FeedbackLoop(gain, 0.0, pace)
    lean, gap, _ = loop.fixed_points()[-1]
    stays, returns = -20.0, 0.0
    for _ in range(14):
        middle = (stays + returns) / 2
        end = loop.run(middle * lean, gap, 30 / min(pace, 1))[-1, 0]
        stays, returns = (stays, middle) if end > 0 else (middle, returns)
    return stays


# %% tags=["nbval-check-output"]
for pace in (0.3, 1.0, 3.0):
    root = math.sqrt((1 - pace) ** 2 + 4 * pace * 1.6)
    rule = -2 / (root + pace - 1)
    print(f"r = {pace}: factor {needed_factor(pace):.2f}, straight line {rule:.2f}")

# %% [markdown]
# And beyond the boundary? There waits the *other* lopsided state. In the middle regime balance is
# the saddle, and no single turn can rest there. On the left and on the right there is one stable
# state only, and every turn is undone. So in this model **no rotation buys a lasting balance**. It
# buys time: while the lean is on the other side, the gap shrinks.

# %% tags=["hide-input"]
loops = {"one end: G = 1.6, b = 0.3": FeedbackLoop(1.6, 0.3)}
loops["two ends: G = 1.6, b = 0.04"] = FeedbackLoop(1.6, 0.04)
turns = {}
for (name, loop), factors in zip(
    loops.items(), ((-0.7,), (-0.7, -1.2)), strict=True
):
    lean, gap, _ = loop.fixed_points()[-1]
    turns[name] = [loop.run(factor * lean, gap, 30) for factor in factors]

BookFigure(
    loop_portraits(
        loops, "A turn is undone, or it makes the other side win", turns
    ),
    caption="Rotations in the model: from the state in which audio has won, the lean is multiplied "
    "by −0.7 (both panels) or −1.2 (right, in addition); diamonds mark the states right after. "
    "Left: every turn is undone. Right: the small turn is undone, the large one ends with vision.",
    alt="Two panels with pink paths that begin at diamonds in the upper left. On the left the path "
    "dips and returns to the fixed point at a share close to one. On the right one path returns "
    "likewise, and the other, from beyond the dotted boundary, goes down to the fixed point of "
    "vision.",
)

# %% tags=["nbval-check-output"]
for name, paths_of in turns.items():
    ends = [f"{(1 + math.tanh(path[-1, 0])) / 2:.2f}" for path in paths_of]
    lowest = [f"{path[:, 1].min():+.2f}" for path in paths_of]
    print(f"{name}: shares end at", *ends, "| smallest gap on the way", *lowest)

# %% [markdown]
# ## The dial on real training
#
# Which regime is a trained model in? The model has dials, and setting T has them too. The strength
# of audio's signal is the head start; with strength 2 for both modalities there is none. A longer
# query makes attention sharper, hence the gain larger; the scale of the class token sets it.
#
# If the cycle ran by itself, then single runs without a head start would go off to one end or the
# other. Twelve runs for each of four conditions, trained side by side:

# %%
from rollingq_core.models.predictions import predict
from rollingq_core.runs import prepare
from rollingq_core.runs.replica import Replica
from rollingq_core.runs.replicas import fit_replicas

# %%
small = {"train_samples": 1000, "validation_samples": 500, "test_samples": 100}


def replica(cls_std, strength, seed):
    own = replace(setting, cls_std=cls_std, training=brief)
    tokens = load_dataset("synthetic", seed=seed, audio_strength=strength, **small)
    model, config, observers = prepare("mt", tokens, own, seed)
    return Replica(model, tokens, config, observers)


# %% [markdown]
# Of each run we keep audio's share before training and in each epoch, and how much better audio's
# probe is than vision's in the end.


# %%
def watch(runs):
    first = [float(predict(r.model, r.data.train).share[:, 0].mean()) for r in runs]
    with one_thread():
        found = fit_replicas(runs)
    shares = [
        [s, *(e["share"]["audio"] for e in f.history)]
        for s, f in zip(first, found, strict=True)
    ]
    probes = [predict(r.model, r.data.validation).probe_accuracy for r in runs]
    return np.array(shares), np.array([p["audio"] - p["visual"] for p in probes])


# %%
shares, gaps = {}, {}
for strength, cls_std in ((2, 0.02), (2, 1), (3, 0.02), (3, 1)):
    runs = [replica(cls_std, strength, seed) for seed in range(100, 112)]
    shares[strength, cls_std], gaps[strength, cls_std] = watch(runs)

# %% tags=["hide-input"]
from rollingq_core.plots import share_paths

names = {2: "equal", 3: "unequal"}
kinds = {0.02: "soft", 1: "sharp"}
BookFigure(
    share_paths(
        {f"{names[s]}, {kinds[std]}": found for (s, std), found in shares.items()},
        "A head start is amplified; a lean by chance is kept, but fades",
    ),
    caption="Setting T with 1000 training samples, vanilla, seeds 100 to 111: audio's share before "
    "training (epoch 0) and in each of 12 epochs, a line for each run. Equal: both signals have "
    "strength 2; unequal: 3 in audio, 2 in vision. Soft and sharp: class token of scale 0.02 and 1.",
    alt="Four panels of twelve lines. Equal and soft: all lines lie on one half. Equal and sharp: "
    "lines part within two epochs, then draw nearer to one half again, in nearly unchanged order. "
    "Unequal and soft: all rise a little above one half. Unequal and sharp: all rise far above it.",
)

# %% [markdown]
# **Soft and equal**: nothing happens. **With a head start** every run ends with audio, and much
# further so when queries are sharp. That is the feedback, amplifying.

# %% tags=["nbval-check-output"]
ends = {key: found[:, -1] for key, found in shares.items()}
assert (abs(ends[2, 0.02] - 0.5) < 0.05).all()
assert ((ends[3, 0.02] > 0.5) & (ends[3, 0.02] < 0.7)).all()
assert (ends[3, 1] > ends[3, 0.02] + 0.05).all()
for s, std in ((2, 0.02), (3, 0.02), (3, 1)):
    found = ends[s, std]
    print(f"{names[s]}, {kinds[std]}: share of audio ", end="")
    print(f"{found.min():.2f} to {found.max():.2f} in {len(found)} runs")

# %% [markdown]
# **Sharp and equal** is the test of the cycle. The lean *before* training tells nothing
# about the end that twelve runs could show. But the lean *after* that epoch is kept in rank to
# the end. The runs' standard deviation first grows, as in a cycle. Then it shrinks again. (The bounds
# below were set once the runs were seen. They pin down a finding, and are not a test of a
# prediction.)

# %% tags=["nbval-check-output"]
sharp = shares[2, 1]
sd = sharp.std(axis=0, ddof=1)
untrained_r, first_r = (
    np.corrcoef(sharp[:, k], sharp[:, -1])[0, 1] for k in (0, 1)
)
assert abs(untrained_r) < 0.576  # beyond this, r of 12 pairs has p < 0.05
assert first_r > 0.8
assert sd[1:5].max() > 1.2 * sd[1]
assert sd[-1] < 0.85 * sd[1:5].max()
assert ((sharp[:, -1] > 0.15) & (sharp[:, -1] < 0.85)).all()
print(f"correlation with the end: before training {untrained_r:.1f}, ", end="")
print(f"after epoch 1 {first_r:.1f}")
print(
    f"sd of the share after epoch 1, at its largest, at the end: {sd[1]:.2f}, ",
    end="",
)
print(f"{sd[1:5].max():.2f}, {sd[-1]:.2f}")
print(f"shares at the end: {sharp[:, -1].min():.1f} to {sharp[:, -1].max():.1f}")

# %% [markdown]
# Does the lean reach the *features*? The soft run of the same seed has the same data, the same order
# of batches and the same initial encoders. Subtract its probes' difference, so that what is due to
# these is gone. What is left follows the lean of the sharp run, in both conditions.

# %% tags=["nbval-check-output"]
for strength in (2, 3):
    extra = gaps[strength, 1] - gaps[strength, 0.02]
    r = np.corrcoef(extra, shares[strength, 1][:, -1])[0, 1]
    assert r > 0.576
    print(
        f"audio strength {strength}: r = {r:.1f} over {len(extra)} seeds (p < 0.05)"
    )

# %% [markdown]
# So all links are there, from the first epoch on, and for a few epochs the loop may even feed itself.
# But it does not run off to an end. The model's gain is a constant; in training it can't be: as the
# loss falls, both paths carry less and less, as we saw above. What else holds the loop back (the
# samples that are still wrong, the falling learning rate) is not measured here.
#
# And with pretrained encoders? The digits have twelve more runs. They have 7 audio and 8 visual
# tokens, so the even share of audio is $7/15$. In the first epoch of fusion the runs lean to either
# side of it. Then the head start takes over.

# %% tags=["nbval-check-output"]
runs = of_method(digits["runs"], "mt")
lean = np.array([[s["audio"] for s in run["history"]["share"]] for run in runs])
even = 7 / 15
assert (lean[:, -1] > even).all()
for name, column in (("first", 0), ("last", -1)):
    above = (lean[:, column] > even).sum()
    print(f"{name} epoch of fusion: {above} of {len(lean)} above {even:.3f}")

# %% [markdown]
# RollingQ's runs tell much the same ({doc}`07_training` draws one). Each of them makes all six turns
# that the setting allows. How often is AIR above 0 again before the next turn or the end, and how many
# runs end so?

# %% tags=["nbval-check-output"]
for record in (digits, speech):
    runs = of_method(record["runs"], "mt+rollingq")
    back, turns = 0, 0
    for run in runs:
        air = run["history"]["air"]
        bounds = [event["epoch"] for event in run["events"]] + [len(air) - 1]
        parts = [air[a + 1 : b + 1] for a, b in pairwise(bounds)]
        back, turns = back + sum(max(p) > 0 for p in parts), turns + len(parts)
    last = sum(run["history"]["air"][-1] > 0 for run in runs)
    print(
        f"{record['config']['data']:8} back after {back} of {turns} turns, "
        f"at the end in {last} of {len(runs)} runs"
    )

# %% [markdown]
# Every run ends with a lean to audio, wherever it began and however often it was turned. That is what
# the model does where it has one end only: too little gain for two, or too large a head start.
#
# ## What to conclude, and what not
#
# - **Supported**: an untrained fusion favours no modality in the mean. For *scores* symmetric
#   weights suffice; for *attention* the tokens must be equally many and equally diverse. A single
#   sharp model leans by chance; that this lean lasts, twelve runs do not show.
# - **Supported, exactly**: value gradient is shared out as attention is, and without attention there
#   is no gradient at all.
# - **Supported in part**: the favoured encoder gets more gradient. It does; but an easier modality
#   gets more under equal attention too, so attention is not "the only difference". A figure of
#   gradient norms without that control shows the sum of two causes.
# - **Mixed**: that attention makes better features. With sharp queries on synthetic tokens the
#   favoured encoder's probe gains, and in both records equal attention helps vision's probe. But the
#   extra gradient that RollingQ sends to vision doesn't.
# - **Not found here**: a cycle in the strict sense, with two ends and a choice by chance. What we
#   see is a head start, amplified; and where there is none, a lean of the first epoch that is kept,
#   and fades.
# - **Don't conclude** anything from the model that its assumptions put in. It has no loss that goes
#   to zero, no length of the query, and no samples that differ. It can say what feedback *could* do,
#   and which experiment would show it; the experiment decides.
#
# ## Exercises
#
# ```{exercise} Code: a token that nobody looks at
# :label: ex-cycle-1
# A visual token has attention $p_j = 10^{-6}$, but would be very useful: $g \cdot (v_j - h)$ is
# large and negative. By which of the two paths can it be found? How long does that take? Use
# `gradient_paths` to see it.
# ```
#
# ```{solution-start} ex-cycle-1
# :class: dropdown
# ```
#
# By the key path: a gradient step moves its key so that $A_j$ grows. But this path carries $p_j$ as
# well, so the step is a million times smaller than that of a token with all the attention. The
# query gets a gradient from it, too: $\sum_j p_j\, g \cdot (v_j - h)\, k_j / \sqrt d$, with the same
# factor. In numbers, one token with the key $-10$ beside one with the key 10, in one dimension:

# %% tags=["nbval-check-output"]
one = torch.ones(1, 1, dtype=torch.float64)
pair = torch.tensor([[[10.0], [-10.0]]], dtype=torch.float64)
for length in (0.1, 0.3, 0.7):
    steps = gradient_paths(one[0][None], pair, length * one[0], one, one)
    gained = float(steps.key[0, 1].norm() / length)
    mass = float((pair[0] * length).softmax(0)[1])
    print(f"attention {mass:.7f}: key gradient over |q| {gained:.7f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Net push
# :label: ex-cycle-2
# Show that the net push on audio, $\sum_{j \in a} p_j\, g \cdot (v_j - h)$, is
# $s^a s^v\, g \cdot (h^a - h^v)$.
# ```
#
# ```{solution} ex-cycle-2
# :class: dropdown
# $\sum_{j \in a} p_j v_j = s^a h^a$, so the left side is $s^a\, g \cdot (h^a - h)$. Insert
# $h = s^a h^a + s^v h^v$ and use $1 - s^a = s^v$.
# ```
#
# ```{exercise} The largest head start
# :label: ex-cycle-3
# Derive $b^*(G)$. What is it for very large gains, and what does that mean?
# ```
#
# ```{solution} ex-cycle-3
# :class: dropdown
# Where $G(\tanh a + b)$ touches $a$, its slope is 1: $\cosh^2 a = G$. Then
# $\tanh a = \mp\sqrt{1 - 1/G}$ and $a = \mp\operatorname{arcosh}\sqrt G$; insert both into
# $b = a/G - \tanh a$. As $G \to \infty$, $b^* \to 1$: with such a gain any start wins, unless audio
# is better even when *all* attention is on vision.
# ```
#
# ```{exercise} Code: weaker feedback
# :label: ex-cycle-4
# Compute with `FeedbackLoop` the lean at rest for $G = 0.8$ and a head start of 0.02, 0.1 and 0.2. For
# small leans, by which factor is a head start amplified?
# ```
#
# ```{solution-start} ex-cycle-4
# :class: dropdown
# ```

# %% tags=["nbval-check-output"]
for b in (0.02, 0.1, 0.2):
    (rest,) = FeedbackLoop(0.8, b).fixed_points()
    share = (1 + math.tanh(rest.lean)) / 2
    print(f"b = {b}: share {share:.3f}, lean over head start {rest.lean / b:.2f}")

# %% [markdown]
# With $\tanh a \approx a$, rest means $a = G b / (1 - G)$: four times the head start at $G = 0.8$.
# The factor grows without limit as $G$ approaches 1. A strongly amplified head start and a cycle
# with two ends can look alike in a single run; many runs from different starts tell them apart.
# For larger head starts the tanh bends, and the factor falls.
#
# ```{solution-end}
# ```
#
# ## Summary
#
# - At the start attention is fair in the mean, and a matter of chance in a single sharp model.
# - A token's gradient is $p_j\, g W_V^\top$ on the value path, and
#   $p_j\, g \cdot (v_j - h)\, q W_K^\top / \sqrt d$ on the key path.
# - The favoured encoder gets more gradient, partly because it is favoured, and partly because it is
#   the easier one. Both encoders' gradients fade as the loss does.
# - Feedback runs by itself only above a gain of 1. Below, it amplifies a head start. In training we
#   saw the second, and of the first a brief beginning.
#
# ## Further reading
#
# - {cite:t}`ni2025rollingq`, section 3: the original argument.
# - {cite:t}`peng2022balanced`: one modality suppresses another in static fusion.
# - {cite:t}`glorot2010understanding`: the initial weights.
# - {cite:t}`strogatz2018nonlinear`, chapters 3 and 6: fixed points, and how they appear in pairs.
