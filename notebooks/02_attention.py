# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. Attention, one query at a time
#
# **Recap.** {doc}`01_static_or_dynamic` trained a fusion by attention, which may weigh its senses
# anew for each sample. It measured how much attention each sense gets, and left open how one query
# comes to divide its attention so.
#
# **The question.** How does one query divide its attention among the tokens of two senses, and
# what do angles have to do with it?
#
# RollingQ reads angles and turns a vector. That can only help if angles decide where attention
# goes. Sometimes they do. This chapter takes the fusion layer apart until you can say when, with
# numbers that a pencil can check.
#
# You will learn
#
# - to compute attention fusion by hand: logits, softmax, shares (the paper's Eq. 1 and 2),
# - why one row of the attention matrix is enough, and how much work that saves,
# - why the *sum of logits* (Eq. 4) and the *share* are two different things,
# - which four quantities decide a share, of which the angle is only one.
#
# **What it takes.** A CPU and a few seconds. Nothing is trained here.

# %% tags=["hide-cell"]
from importlib.util import find_spec

if find_spec("rollingq_core") is None:  # on Colab: install the book's package
    from IPython import get_ipython

    package = "rollingq-core[plots]"
    url = "https://github.com/rollingq-book/rollingq-book"
    get_ipython().run_line_magic("pip", f'install -q "{package} @ git+{url}"')

# %% [markdown]
# ## Five tokens in the plane
#
# An encoder for each modality $m$, audio ($a$) or vision ($v$), turns an input into tokens,
# $z^m = \phi^m(x^m)$. What it does inside is no matter here. We write its tokens down: two of audio,
# three of vision, each with $d = 2$ numbers. One more vector is learned with the model and belongs
# to no input, the class token $z_{cls}$.

# %%
import torch

audio = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
visual = torch.tensor([[1.0, 1.0], [-1.0, 0.0], [0.0, 0.0]])
cls = torch.tensor([1.0, 0.0])

# %% [markdown]
# The class token asks, and all tokens of both senses answer:
#
# (eq-2-1)=
# $$
# \begin{aligned}
# q &= z_{cls} W_Q R, \cr
# K &= [z^a\,;\, z^v]\, W_K, \cr
# V &= [z^a\,;\, z^v]\, W_V
# \end{aligned}
# \tag{2.1}
# $$
#
# The paper introduces the rotation $R$ later, as a second step. We write it from the start, as the
# package does; it is the identity until {doc}`05_rolling`. To keep the pencil sharp, let the three
# weights be the identity too.

# %%
query = cls
keys = values = torch.cat([audio, visual])

# %% [markdown]
# ## Logits, softmax, shares
#
# (eq-paper-1)=
# :::{admonition} In the paper, Eq. 1
# :class: in-the-paper
# $$
# A_i = \frac{q K_i^\top}{\sqrt d}
# \tag{1}
# $$
# :::
#
# The index $i$ is the sample; here we have one. The *logit* of a token is the inner product of its
# key with the query, over $\sqrt d$. With $q = (1, 0)$ it is the key's first number over $\sqrt 2$.

# %% tags=["nbval-check-output"]
logits = query @ keys.T / 2**0.5
print("logits", [f"{x:.6f}" for x in logits])

# %% [markdown]
# The output is a mixture of the values, weighted by the softmax of the logits.
#
# (eq-paper-2)=
# :::{admonition} In the paper, Eq. 2
# :class: in-the-paper
# $$
# h_i = \operatorname{softmax}(A_i)\, V_i
# \tag{2}
# $$
# :::
#
# The softmax makes the logits positive and lets them sum to one. With the pencil:
# $e^{0.7071} = 2.0281$ and $e^{-0.7071} = 0.4931$, so the row is
# $(2.0281,\ 1,\ 2.0281,\ 0.4931,\ 1)$ over its sum, $6.5493$.

# %% tags=["nbval-check-output"]
row = logits.softmax(dim=0)
print("attention", [f"{x:.6f}" for x in row])

# %% [markdown]
# The *share* of a modality is the mass that falls on its tokens. This is what the book means by
# how much a model listens to a sense. The output $h$ is the mixture of values under that row.
# The paper has no number for the share: its *attention score* is another quantity, to which we come.

# %% tags=["nbval-check-output"]
share_audio, share_visual = row[:2].sum(), row[2:].sum()
fused = row @ values
print(f"share: audio {share_audio:.6f}, visual {share_visual:.6f}")
print("h", [f"{x:.6f}" for x in fused])

# %% [markdown]
# ## The layer gives the same numbers
#
# `AttentionFusion` is the layer that all models of the book use. Here it is with our weights.

# %%
from rollingq_core import AttentionFusion


def identity_layer(cls, **options):
    """Return a fusion layer whose maps are the identity and whose class token is given."""
    layer = AttentionFusion(
        len(cls), 2, bias=False, output_projection=False, **options
    )
    with torch.no_grad():
        layer.cls.copy_(cls)
        for linear in (layer.q_proj, layer.k_proj, layer.v_proj):
            linear.weight.copy_(torch.eye(len(cls)))
    return layer.eval().requires_grad_(False)


# %% tags=["nbval-check-output"]
output = identity_layer(cls)([audio[None], visual[None]])
assert torch.allclose(output.attention[0, 0], row)
assert torch.allclose(output.fused[0], fused)
print("share from the layer", [f"{x:.6f}" for x in output.share[0]])

# %% [markdown]
# Note what the query is *not*: it does not depend on the sample. Every sample of a dataset meets
# the same $q$. If attention is to react to a sample, the keys must bring the reaction. That is why
# {doc}`04_keys` looks at keys.
#
# ## The length of the query sets how sharp attention is
#
# Keep the direction of the query and change its length only.

# %% tags=["hide-input"]
from rollingq_core.plots import BookFigure, token_attention

rows = {
    f"|q| = {length:g}": identity_layer(length * cls)(
        [audio[None], visual[None]]
    ).attention[0, 0]
    for length in (0.1, 1, 5)
}
BookFigure(
    token_attention(
        rows, ["audio"] * 2 + ["visual"] * 3, "A longer query is a choosier one"
    ),
    caption="Attention of the same query direction over the five tokens, at three lengths. A short "
    "query gives each token a fifth, wherever it points. A long one picks the two tokens that "
    "reach farthest in its direction, one of each sense, and ignores the rest.",
    alt="Three bar charts of five bars. At length 0.1 all bars are near 0.2, at length 5 only the "
    "first audio and the first visual token have bars worth speaking of, just under one half each.",
)

# %% tags=["nbval-check-output"]
for name, attention in rows.items():
    print(f"{name}: share of audio {attention[:2].sum():.4f}")

# %% [markdown]
# Two limits are worth keeping. As $\lvert q \rvert \to 0$ a modality's share goes to its part of
# the tokens, here $2/5$. As $\lvert q \rvert \to \infty$ all mass goes to the largest logits.
#
# ## One row is enough
#
# The textbook computes attention from every token to every token: a matrix with a row for each.
# Here is that form, with the class token placed first, as a query only.


# %%
def textbook(layer, tokens):
    """Return h from all rows of the attention matrix, each map formed in full."""
    z = torch.cat(tokens, dim=1)
    with_cls = torch.cat([layer.cls.expand(len(z), 1, -1), z], dim=1)
    q, k, v = layer.q_proj(with_cls), layer.k_proj(z), layer.v_proj(z)
    rows = (q @ k.mT / layer.dim**0.5).softmax(dim=-1)
    return layer.out_proj(rows @ v)[:, 0]


# %% [markdown]
# The last line throws away all rows but the first, because the classifier reads only that. So only
# that row needs computing. Two more steps use no more than the fact that matrix products can be
# bracketed as one likes:
#
# $$
# \begin{aligned}
# q\,(z W_K)^\top &= (q W_K^\top)\, z^\top, \cr
# p\,(z W_V) &= (p z)\, W_V .
# \end{aligned}
# $$
#
# On the left, $W_K$ and $W_V$ act on each token. On the right, $W_K$ acts once, on the query, and
# $W_V$ once a sample, on the pooled tokens. In code:


# %%
def one_row(layer, tokens):
    """Return h from the class token's row alone; W_K and W_V are applied once."""
    z = torch.cat(tokens, dim=1)
    query = layer.q_proj(layer.cls[0])[0]
    pushed = query @ layer.k_proj.weight  # q W_K^T: a Linear's weight is transposed
    p = (z @ pushed / layer.dim**0.5).softmax(dim=-1)
    return layer.out_proj(layer.v_proj((p.unsqueeze(1) @ z)[:, 0]))


# %% [markdown]
# It leaves out the bias of the keys, for a reason that an exercise asks for. `AttentionFusion` does
# the same where its maps are plain linear ones. All three must agree, with random weights and
# biases, and with as many tokens as you like.

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
layer = AttentionFusion(dim=64, num_classes=10, cls_std=1.0).double()
layer.eval().requires_grad_(False)
tokens = [torch.randn(3, count, 64, dtype=torch.float64) for count in (20, 30)]
layer.k_proj.bias.data.normal_()
for way in (textbook, one_row):
    difference = float((layer(tokens).fused - way(layer, tokens)).abs().max())
    assert difference < 1e-12
    print(f"{way.__name__:8} differs from the layer by at most {difference:.12f}")

# %% [markdown]
# ### What it saves
#
# Count multiply-adds for $B$ samples of $L$ tokens in all, each of width $d$, without biases and
# without the class token's own few. Forming queries, keys and values costs $d^2$ a token each;
# logits and pooling cost $d$ for each pair of a query and a token.


# %%
def multiply_adds(B, L, d):
    """Return the multiply-adds of three ways to compute the same output."""
    return {
        "all rows": 3 * B * L * d**2 + 2 * B * L**2 * d,
        "one row": d**2 + 2 * B * L * d**2 + 2 * B * L * d,
        "one row, pushed through": 2 * d**2 + 2 * B * L * d + B * d**2,
    }


# %% tags=["nbval-check-output"]
from rollingq_core.plots import Table

costs = multiply_adds(B=16, L=375, d=768)
least = costs["one row, pushed through"]
Table(
    ["way", "million multiply-adds", "times the least"],
    [[way, f"{n / 1e6:,.1f}", f"{n / least:,.0f}"] for way, n in costs.items()],
    "Forward pass of one single-head fusion, B = 16, L = 375, d = 768: about the token count and "
    "the width of a ViT-B/16 on one spectrogram and one picture. No output map. By formula, not timed.",
)

# %% [markdown]
# Operations are not seconds: memory traffic and small products take their part too, and a model's
# encoders cost what they did. What of it is left in seconds, `make bench` measures.
#
# ## A sum of logits is not a share
#
# For its theory the paper scores a modality by the sum of its logits, and writes that sum with the
# *average key* of the modality in the sample.
#
# (eq-paper-3)=
# :::{admonition} In the paper, Eq. 3
# :class: in-the-paper
# $$
# \hat k_i^m = \frac{1}{L^m} \sum_{j=1}^{L^m} k_{i,j}^m
# \tag{3}
# $$
# :::
#
# (eq-paper-4)=
# :::{admonition} In the paper, Eq. 4
# :class: in-the-paper
# $$
# \begin{aligned}
# & \sum_{j=1}^{L^m} \frac{q\, (k_{i,j}^m)^\top}{\sqrt d} \cr
# &\ = \frac{L^m}{\sqrt d}\, \lVert q \rVert\, \lVert \hat k_i^m \rVert \cos\theta_i^m
# \end{aligned}
# \tag{4}
# $$
# :::
#
# $\theta_i^m$ is the angle between the query and the average key. The step is exact: a sum of inner
# products with $q$ is the inner product with the sum. Here are both sides on our five tokens.

# %%
from rollingq_core.air import modality_cosines

left = torch.stack([logits[:2].sum(), logits[2:].sum()])
counts = torch.tensor([2.0, 3.0])
lengths = output.mean_keys[0].norm(dim=-1)
cosines = modality_cosines(output.query, output.mean_keys)[0]
right = counts / 2**0.5 * output.query[0].norm() * lengths * cosines

# %% tags=["nbval-check-output"]
assert torch.allclose(left, right, atol=1e-6)
for name, *sides in zip(("audio", "visual"), left, right, strict=True):
    print(f"{name:6} sum {sides[0]:.4f}, by norms and cosine {sides[1] + 0:.4f}")

# %% [markdown]
# So the score follows the cosine. The share need not: our five tokens already disagree.

# %% tags=["nbval-check-output"]
assert left[0] > left[1] and share_audio < share_visual
print(f"score: audio {left[0]:.4f}, visual {left[1]:.4f}")
print(f"share: audio {share_audio:.4f}, visual {share_visual:.4f}")

# %% [markdown]
# By the score audio leads. By mass vision does. Four small cases show what lies between the two. The
# query is $q = (2, 0)$ in all of them.


# %%
def repeated(key, count):
    """Return the same key count times, shape [count, 2]."""
    return torch.tensor([key]).repeat(count, 1)


one_sharp = torch.cat([repeated([4.0, 1.0], 1), repeated([-1.0, 1.0], 3)])
cases = {
    "equal otherwise": (repeated([0.8, 0.6], 3), repeated([0.6, 0.8], 3)),
    "more visual tokens": (repeated([-0.6, 0.8], 2), repeated([-0.6, 0.8], 6)),
    "longer visual keys": (repeated([0.6, 0.8], 3), repeated([1.8, 2.4], 3)),
    "one sharp audio token": (one_sharp, repeated([0.5, 1.0], 4)),
}

# %%
from rollingq_core import attention_imbalance_rate


def describe(keys_a, keys_v):
    """Return both scores, AIR (chapter 5), and the share of audio, with q = (2, 0)."""
    query = torch.tensor([2.0, 0.0])
    scores = [float((query @ keys.T).sum() / 2**0.5) for keys in (keys_a, keys_v)]
    air = attention_imbalance_rate(
        query, keys_a.mean(0)[None], keys_v.mean(0)[None]
    )
    share = identity_layer(query)([keys_a[None], keys_v[None]]).share[0, 0]
    return *scores, float(air), float(share)


# %% tags=["nbval-check-output"]
def rounded(number):
    return f"{round(number, 2) + 0.0:.2f}".replace("-", "−")


Table(
    ["case", "score a", "score v", "AIR", "share a"],
    [[name, *map(rounded, describe(*keys))] for name, keys in cases.items()],
    "Scores of audio (a) and vision (v) by Eq. 4, the difference of the two cosines (AIR), and the "
    "share of audio, in four toy cases with d = 2 and |q| = 2.",
)

# %% [markdown]
# AIR is the first cosine minus the second. Chapter 5 builds on it; here it stands for "where the
# query points".
#
# - *Equal otherwise*: same counts, same lengths, no spread. All three agree that audio leads.
# - *More visual tokens*: all keys are the same, so AIR is 0. Each visual token adds a negative
#   logit, so Eq. 4 favours audio; each also takes its part of the mass, so audio gets $2/8$.
# - *Longer visual keys*: the directions are equal, so AIR is 0 again. Vision gets most of the mass.
# - *One sharp audio token*: on average the audio keys lean less to the query than the visual ones,
#   so Eq. 4 and AIR both favour vision. One token of the eight takes most of the mass all the same.
#
# The score is convenient in a proof. Where this book measures, it reports shares.
#
# ## Four things decide a share
#
# Exact algebra sorts this out. Write $\ell^m$ for the logarithm of the summed exponentials of a
# modality's logits. A share is then a logistic function of a difference,
#
# (eq-2-2)=
# $$
# \begin{aligned}
# s^a &= \operatorname{sigmoid}(\ell^a - \ell^v), \cr
# \ell^m &= \log L_m & \text{(count)} \cr
# &\ + \frac{\lvert q \rvert\, \lVert \hat k^m \rVert}{\sqrt d} \cos\theta^m & \text{(mean logit)} \cr
# &\ + J^m & \text{(spread)}
# \end{aligned}
# \tag{2.2}
# $$
#
# The middle term is the mean of the modality's logits: Eq. 4 over $L_m$. The rest, $J^m$, is never
# negative (Jensen's inequality), and 0 only when all logits of the modality are equal. On the five
# tokens:

# %%
mean_logits = right / counts
sums = torch.stack([logits[:2].logsumexp(0), logits[2:].logsumexp(0)])
spread = sums - counts.log() - mean_logits

# %% tags=["nbval-check-output"]
assert (spread >= 0).all()
gaps = {"count": counts.log(), "mean logit": mean_logits, "spread": spread}
for name, (of_audio, of_visual) in gaps.items():
    print(f"{name:10s} audio {of_audio:.4f}  visual {of_visual:.4f}")
total = sum(of_audio - of_visual for of_audio, of_visual in gaps.values())
assert torch.isclose(total.sigmoid(), share_audio)
print(f"share of audio = sigmoid({total:.4f}) = {total.sigmoid():.6f}")

# %% [markdown]
# Four things, then: the number of tokens, the cosine, the lengths that multiply it
# ($\lvert q \rvert$ and $\lVert \hat k^m \rVert$), and the spread. AIR is a faithful stand-in for the share where the
# counts agree, the norms of the average keys agree, the spreads agree, and $\lvert q \rvert$ is
# large enough. The first two are assumptions of the paper. {doc}`04_keys` checks them on a trained
# model.
#
# ## The same lean, a different share
#
# Let everything else be as simple as can be: all keys have norm $\sqrt d$ (the encoders end in a
# layer norm, so a token starts out with that norm), the tokens of a modality have the same key,
# and the two cosines are $\pm \mathrm{AIR}/2$. There are 7 audio and 8 visual tokens, as in our
# digits. Only $\lvert q \rvert$ varies.


# %%
def modelled_keys(cosine, count, d=32):
    """Return keys [N, count, d] of norm sqrt(d) at the given cosines [N] to the first axis."""
    keys = torch.zeros(len(cosine), count, d)
    keys[..., 0] = cosine[:, None]
    keys[..., 1] = (1 - cosine[:, None] ** 2).sqrt()
    return keys * d**0.5


def share_and_air(length, lean):
    """Return the share of audio and AIR, one value each for every lean."""
    layer = identity_layer(length * torch.eye(32)[0])
    output = layer([modelled_keys(lean / 2, 7), modelled_keys(-lean / 2, 8)])
    cosines = modality_cosines(output.query, output.mean_keys)
    return output.share[:, 0], cosines[:, 0] - cosines[:, 1]


# %% tags=["hide-input"]
from rollingq_core.plots import mass_against_imbalance

lean = torch.linspace(-2, 2, 101)
measured = {length: share_and_air(length, lean) for length in (0.1, 1.0, 3.0, 10.0)}
curves = {f"|q| = {length:g}": share for length, (share, _) in measured.items()}
BookFigure(
    mass_against_imbalance(
        lean, curves, None, "AIR alone does not tell how much attention moves"
    ),
    caption="Share of audio over AIR for queries of four lengths. 7 audio and 8 visual tokens, "
    "keys of norm √32, no spread: a model computed with the fusion layer, not a trained one. "
    "With |q| = 0.1 the share stays close to 7/15 at any AIR; with |q| = 10 it is a switch.",
    alt="Four curves of the share of audio over AIR from −2 to 2. The one for the shortest query "
    "is almost flat at 0.47, the one for the longest is a step at AIR 0.",
)

# %% tags=["nbval-check-output"]
for length, (share, air) in measured.items():
    assert torch.allclose(air, lean, atol=1e-5)
    at_one = float(share[lean.sub(1).abs().argmin()])
    print(f"|q| = {length:4g}: share of audio at AIR = 1 is {at_one:.3f}")

# %% [markdown]
# All four queries lean alike. The share of audio goes from a little under one half to almost one.
# A rotation keeps $\lvert q \rvert$, so turning a short query moves next to no attention: it has
# little to move. And training after the turn may change $\lvert q \rvert$. That is why this book
# shows AIR, share and $\lvert q \rvert$ together.
#
# ## Options: the class token as a key, and masks
#
# The authors' code lets the class token attend to itself too. Some mass then stays with it, and
# the shares no longer sum to one. In our toy:

# %% tags=["nbval-check-output"]
self_key = identity_layer(cls, cls_self_key=True)
output = self_key([audio[None], visual[None]])
print("shares", [f"{x:.6f}" for x in output.share[0]])
print(f"left on the class token: {1 - output.share.sum():.6f}")
print("h", [f"{x:.6f}" for x in output.fused[0]])

# %% [markdown]
# A mask takes tokens out before the softmax, and the rest share the mass among them. To pad
# sequences of unequal length one masks a few tokens. To ask what a model does without a sense, one
# masks all of its tokens.

# %% tags=["nbval-check-output"]
no_vision = torch.ones(1, 3, dtype=torch.bool)
masked = self_key([audio[None], visual[None]], key_padding_masks=[None, no_vision])
print("audio and visual tokens", [f"{x:.6f}" for x in masked.attention[0, 0]])
print(f"left on the class token: {1 - masked.share.sum():.6f}")

# %% [markdown]
# ## What to conclude, and what not
#
# - A share is the softmax mass of a modality's logits. Their sum, the score of Eq. 4, may rank the
#   senses the other way round.
# - A cosine moves the mean logit in proportion to $\lvert q \rvert$ and to the norm of the average
#   key. Token counts and spread act beside it.
# - So AIR says where the query points. It does *not* say how much attention a modality gets.
# - **Don't conclude** from these toys which case trained models are in. That is a measurement, not
#   algebra, and {doc}`04_keys` makes it.
#
# ## Exercises
#
# ```{exercise} Another query
# :label: ex-attention-1
# With a pencil: the five tokens of the beginning, but $q = (0, 1)$. What is the share of audio?
# ```
#
# ```{solution-start} ex-attention-1
# :class: dropdown
# ```
#
# The logits are the second numbers over $\sqrt 2$: $(0,\ 0.7071 \mid 0.7071,\ 0,\ 0)$. The
# exponentials are $(1,\ 2.0281 \mid 2.0281,\ 1,\ 1)$, and they sum to $7.0562$. The share of audio
# is $3.0281 / 7.0562 = 0.4291$. The layer agrees:

# %% tags=["nbval-check-output"]
upward = identity_layer(torch.tensor([0.0, 1.0]))([audio[None], visual[None]])
print(f"share of audio {upward.share[0, 0]:.4f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} A coincidence
# :label: ex-attention-2
# In the first example the second number of $h$ equals the share of audio, to all digits. Why? Would
# it for any query?
# ```
#
# ```{solution} ex-attention-2
# :class: dropdown
# Only the second audio token and the first visual one have a second number, 1 each, so
# $h_2 = p_2 + p_3$. The share is $p_1 + p_2$. The first audio and the first visual token have
# equal logits as long as $q$ has no second component, and then $p_1 = p_3$. With $q = (0, 1)$ they
# have not: it is a coincidence of this query.
# ```
#
# ```{exercise} Code: a bias on the keys
# :label: ex-attention-3
# Add the bias $b_K = (0, 3)$ to every key of the toy, with $q = (1, 1)$. Which outputs of the layer
# change: attention, share, AIR? And what gradient does $b_K$ get?
# ```
#
# ```{solution-start} ex-attention-3
# :class: dropdown
# ```
#
# Add it to the tokens as keys only, and let autograd answer the second question.

# %%
q = torch.tensor([1.0, 1.0])
bias = torch.tensor([0.0, 3.0], requires_grad=True)


def with_bias(b):
    """Return audio's share and AIR of the toy, with b added to every key."""
    a, v = audio + b, visual + b
    row = (q @ torch.cat([a, v]).T / 2**0.5).softmax(dim=0)
    air = attention_imbalance_rate(q, a.mean(0)[None], v.mean(0)[None])
    return row[:2].sum(), air


# %% tags=["nbval-check-output"]
for b in (torch.zeros(2), bias):
    share, air = with_bias(b)
    print(f"share of audio {share:.4f}, AIR {air:.4f}")
(gradient,) = torch.autograd.grad(share, bias)
print(
    f"largest gradient of the share with respect to the bias {gradient.abs().max():.6f}"
)

# %% [markdown]
# Every logit grows by the same $q b_K^\top / \sqrt d$, which the softmax does not see: attention and
# share stay. The average keys all move by $b_K$, their cosines with the query change, and so does
# AIR. The same attention can have many AIRs. For the same reason nothing in the loss ever teaches
# $b_K$: its gradient is zero.
#
# ```{solution-end}
# ```
#
# ```{exercise} Code: how long a query?
# :label: ex-attention-4
# In the model of the last figure, with 8 tokens on both sides, how long must the query be for a
# share of 0.9 at $\mathrm{AIR} = 0.5$? Derive it, then check it with `modelled_keys`.
# ```
#
# ```{solution-start} ex-attention-4
# :class: dropdown
# ```
#
# Counts cancel, there is no spread, and the norm $\sqrt d$ cancels the $\sqrt d$ of Eq. 1. So
# $s^a = \operatorname{sigmoid}(\lvert q \rvert \cdot \mathrm{AIR})$, and
# $\lvert q \rvert = \ln 9 / 0.5$.

# %% tags=["nbval-check-output"]
import math

length, half = math.log(9) / 0.5, torch.tensor([0.25])
layer = identity_layer(length * torch.eye(32)[0])
share = layer([modelled_keys(half, 8), modelled_keys(-half, 8)]).share[0, 0]
print(f"|q| = {length:.2f} gives a share of {share:.3f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ## Summary
#
# One learned query asks, all tokens answer, and the softmax of the answers is the attention. Only
# that one row is computed, with the query pushed through $W_K$ and the tokens pooled before $W_V$.
# The share of a modality depends on its token count, on the cosine of its average key with the
# query times both norms, and on the spread of its logits. AIR keeps the cosines and drops the rest.
#
# ## Further reading
#
# - {cite}`vaswani2017attention`: scaled dot-product attention.
# - {cite}`dosovitskiy2021image`: the class token in vision transformers.
# - {cite}`ni2025rollingq`: the fusion layer, the score of Eq. 4, and the assumptions on token counts
#   and key norms.
# - {cite}`nagrani2021attention`: a fusion that lets senses meet in a few tokens only.
