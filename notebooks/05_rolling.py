# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5. Rolling the query
#
# **The question.** The query leans on audio. How far, and how do we push it back without
# forgetting what it has learned?
#
# A query that leans is not wrong, only too sure. Throwing it away would throw away training. So
# RollingQ *turns* it: same length, new direction, and the rest of the model is left alone.
#
# You will learn
#
# - to measure the lean: the attention imbalance rate, AIR (Eq. 9),
# - to say how strongly and where to push: $\alpha$ and the anchor (Eq. 10 and 11),
# - to turn a vector onto another and disturb nothing else (Eq. 12 and 13),
# - Algorithm 1, which does all this while a model trains.
#
# **What it takes.** A CPU and about half a minute; a pencil helps.

# %% tags=["hide-cell"]
from importlib.util import find_spec

if find_spec("rollingq_core") is None:  # on Colab: install the book's package
    from IPython import get_ipython

    package = "rollingq-core @ git+https://github.com/rollingq-book/rollingq-book"
    get_ipython().run_line_magic("pip", f'install -q "{package}"')

# %% [markdown]
# ## Four keys and a pencil
#
# Two samples, two modalities, and so four *average keys*, one for each sample and modality. We
# stay in the plane, where everything can be drawn.

# %%
import torch

query = torch.tensor([2.0, 0.0])
keys_audio = torch.tensor([[3.0, 0.0], [4.0, 3.0]])
keys_visual = torch.tensor([[0.0, 2.0], [-3.0, 4.0]])

# %% [markdown]
# ## AIR: how far does the query lean?
#
# In words: for each sample, take the cosine between the query and its average audio key, subtract
# the cosine with its average visual key, and average over the samples.
#
# $$
# \mathrm{AIR} = \frac1B \sum_{i=1}^{B}
# \left[\cos(q, \hat k_i^a) - \cos(q, \hat k_i^v)\right]
# \tag{9}
# $$
#
# With the pencil: the audio cosines are $1$ and $4/5$, the visual ones $0$ and $-3/5$. The two
# differences are $1$ and $7/5$, and their mean is $1.2$.

# %% tags=["nbval-check-output"]
from rollingq_core import attention_imbalance_rate

air = attention_imbalance_rate(query, keys_audio, keys_visual)
print(f"AIR = {air:.4f}")

# %% [markdown]
# AIR lies between −2 and 2. It is positive when the query leans on the first modality, and 0 when
# it favours neither. It sees directions only: double the length of the query or of any key and
# nothing changes. That is a strength, for AIR needs no scale, and a weakness: how *sharp*
# attention is depends on the lengths, and AIR does not know (see {doc}`02_attention`).

# %% tags=["nbval-check-output"]
longer = attention_imbalance_rate(10 * query, 3 * keys_audio, keys_visual)
assert torch.isclose(longer, air)
print(f"AIR with a query ten times as long = {longer:.4f}")

# %% [markdown]
# ## Alpha: how strongly to push back
#
# The anchor will be a mixture of both modalities' keys. Its audio weight falls as AIR grows:
#
# $$
# \alpha = \tfrac12 \left(1 + \tanh(-\rho\, \mathrm{AIR})\right)
# \tag{11}
# $$
#
# The number $\rho > 0$ sets how strictly.

# %% tags=["hide-input"]
from rollingq_core.plots import BookFigure, alpha_curves

BookFigure(
    alpha_curves(
        [0.5, 1, 3],
        "The more the query leans on audio, the less audio in the anchor",
    ),
    caption="The anchor's audio weight α over AIR for three strengths ρ, computed from Eq. 11. All "
    "curves pass through one half at AIR = 0. With ρ = 3, a lean of 0.5 already leaves audio "
    "almost no weight.",
    alt="Three falling S-shaped curves that cross at AIR 0 and alpha one half; the larger rho, the "
    "steeper the fall.",
)

# %% tags=["nbval-check-output"]
from rollingq_core import anchor_weight

print(f"no lean:       alpha = {anchor_weight(0.0, rho=3):.4f}")
print(f"our four keys: alpha = {float(anchor_weight(air, rho=0.5)):.4f}")
print(f"rho very large: alpha = {anchor_weight(0.1, rho=1000):.4f}")

# %% [markdown]
# ## The anchor: where to push
#
# Take the expected key of each modality, keep its direction $n(\cdot)$ only, and mix:
#
# $$
# q_b = \left(\alpha\, n(\mathbb E[\hat k^a]) + (1 - \alpha)\, n(\mathbb E[\hat k^v])\right)
# \lVert \mathbb E[q] \rVert
# \tag{10}
# $$
#
# The factor at the end is meant to give the anchor the query's length. It does not: a mixture of
# two unit vectors with different directions is shorter than one. `rebalance_anchor` therefore
# normalises the mixture before it is scaled, as the authors' code does.

# %%
from rollingq_core import rebalance_anchor

alpha = anchor_weight(air, rho=0.5)
mean_audio, mean_visual = keys_audio.mean(0), keys_visual.mean(0)
anchor = rebalance_anchor(query, mean_audio, mean_visual, alpha)

# %% tags=["nbval-check-output"]
from torch.nn.functional import normalize

mixture = alpha * normalize(mean_audio, dim=0) + (1 - alpha) * normalize(
    mean_visual, dim=0
)
as_printed = mixture * query.norm()
print(
    f"|q| = {query.norm():.3f}, Eq. 10 as printed: {as_printed.norm():.3f}, ",
    end="",
)
print(f"rescaled: {anchor.norm():.3f}")

# %% [markdown]
# ## The turn
#
# Now rotate $q$ onto $q_b$. Many rotations do that; they differ in what they do to everything
# else. The smallest one turns the plane that $q$ and $q_b$ span, and leaves every direction at
# right angles to it where it was. With $u = n(q)$, $w = n(q_b)$ and $p$ the unit vector in that
# plane at right angles to $u$,
#
# $$
# R_b = I + (\cos\phi - 1)\,(u^\top u + p^\top p) + \sin\phi\,(u^\top p - p^\top u),
# \tag{12}
# $$
#
# where $\cos\phi = u w^\top$. The paper obtains a rotation with the same $q R_b = q_b$ from a singular value decomposition,
# which leaves open what happens off the plane. Here are the three properties that matter, checked
# in 768 dimensions, the size of the paper's model.

# %% tags=["nbval-check-output"]
from rollingq_core import minimal_rotation

generator = torch.Generator().manual_seed(0)
q, target, bystander = torch.randn(3, 768, generator=generator, dtype=torch.float64)
rotation = minimal_rotation(q, target)

hits = torch.allclose(normalize(q @ rotation, dim=0), normalize(target, dim=0))
keeps = torch.allclose(rotation @ rotation.T, torch.eye(768, dtype=torch.float64))
print("hits the target:", hits, "| keeps lengths and angles:", keeps)

# %% tags=["nbval-check-output"]
plane = torch.linalg.qr(torch.stack([q, target]).T).Q
off_plane = bystander - plane @ (plane.T @ bystander)
print(
    "off the plane nothing moves:", torch.allclose(off_plane @ rotation, off_plane)
)

# %% [markdown]
# Back in the plane of our four keys, the whole step fits in one picture.

# %% tags=["hide-input"]
from rollingq_core.plots import plane_of_turn

before = {"audio": mean_audio, "visual": mean_visual, "query": query}
aims = {"unscaled": as_printed, "anchor": anchor}
after = before | {"query": query @ minimal_rotation(query, anchor)}
short = {
    "audio": normalize(mean_audio, dim=0),
    "visual": normalize(mean_visual, dim=0),
}

BookFigure(
    plane_of_turn(
        {"before": before | short | aims, "after": after | short},
        "The query turns to the anchor and keeps its length",
    ),
    caption="The plane of the four toy keys, ρ = 0.5. Left: query (pink), expected keys as unit "
    "vectors (orange: audio, blue: visual), the anchor, and, dashed, Eq. 10 before rescaling, which "
    "is too short. Right: the query after the turn. The dotted circle has the query's length.",
    alt="Two panels with arrows from a common origin. On the left the query points along the audio "
    "key and the anchor points near the visual key; on the right the query points where the anchor "
    "was.",
)

# %% [markdown]
# And AIR? It changes its sign: after the turn, the query leans on the neglected modality.

# %% tags=["nbval-check-output"]
turned = query @ minimal_rotation(query, anchor)
after_air = attention_imbalance_rate(turned, keys_audio, keys_visual)
print(f"AIR before: {air:+.4f}, after: {after_air:+.4f}")

# %% [markdown]
# That is on purpose. The paper's reasoning: a query in the exact middle would drift back to audio,
# since audio is still easier. A query that leans the other way sends the larger gradients to the
# visual encoder for a while, until *its* keys are worth attending to. Chapter 7 measures how far
# this goes.
#
# ## Under your fingers
#
# Two keys, one query, three sliders. Move them with the mouse or the arrow keys, here or in a
# running notebook. The first one sets how far the query leans from the middle of the keys, and
# with it AIR. The numbers are computed as you move, by the equations above.

# %% tags=["nbval-check-output"]
from rollingq_core.explorer import GeometryExplorer

GeometryExplorer(lean=30, rho=1)

# %% [markdown]
# Try this:
#
# - Set the lean to 0. There is no imbalance: $\alpha = 0.5$, the anchor is the middle, and nothing
#   turns.
# - Lean by 30° and raise $\rho$. The anchor moves from the middle to the visual key. From $\rho = 3$
#   on it hardly moves any more, for $\alpha$ is almost 0.
# - Bring the keys close to each other, with $\rho = 1$. The cosines then differ little, AIR is
#   small, and the query turns hardly further than to the middle.
# - Lean by 150°. AIR is what it was at 30°, but the query points away from both keys, and so the
#   turn is larger.
#
# ## The turns add up
#
# The model keeps one matrix, $R \leftarrow R R_b$ (Eq. 13), which is not
# trained, and uses $q R$ wherever it used $q$. `QueryRotation` holds it, with the number of turns,
# in the model's checkpoint.

# %% tags=["nbval-check-output"]
from rollingq_core import QueryRotation

module = QueryRotation(dim=2)
assert torch.equal(module(query), query)  # the identity changes no bit
module.rotate(minimal_rotation(query, anchor))
print([*module.state_dict()], "turns so far:", int(module.count))

# %% [markdown]
# ## Algorithm 1
#
# While a model trains, `RollingQ` watches. Where AIR has grown past a threshold $\beta$, and the
# limit on the number of turns is not reached, it turns the query.
#
# ```{prf:algorithm} RollingQ
# :label: algorithm-rollingq
#
# **Inputs** strength $\rho$, threshold $\beta$, a limit on the number of rotations
#
# **Output** a trained model and its rotation $R$
#
# 1. $R \leftarrow I$
# 2. For each epoch:
#     1. For each batch: forward with $q = z_{cls} W_Q R$, backward, update; add $q$, the average
#        keys and their cosines to running sums
#     2. AIR and the expectations are these sums, divided by the number of samples
#     3. If $|\mathrm{AIR}| \ge \beta$ and the limit is not reached: compute $\alpha$ (Eq. 11), the
#        anchor $q_b$ (Eq. 10) and $R_b$ (Eq. 12), and set $R \leftarrow R R_b$ (Eq. 13)
# ```
#
# Step 2.1 adds no pass over the data. The expectations come from the batches that training
# computes anyway. Here are the lines of the package that are steps 2.2 and 2.3.

# %%
import inspect

from rollingq_core import RollingQ

source = inspect.getsource(RollingQ.end_epoch)
print(source[source.index("expected =") :].rstrip())

# %% [markdown]
# ## One epoch, one event
#
# Now on a real model. We pretrain the encoders and train the fusion on the digits of chapter 1 for
# twelve epochs, and allow a single rotation, at the very end.

# %%
from dataclasses import replace

from rollingq_core.data import load_dataset
from rollingq_core.settings import SETTINGS, run_method

setting = SETTINGS["P"]
training = replace(setting.training, epochs=12)
brief = replace(setting, training=training, max_rotations=1, start_epoch=11)
run = run_method("rollingq", load_dataset("digits", seed=0), brief, seed=0)

# %% tags=["nbval-check-output"]
(event,) = run.events
leader = "audio" if event.air > 0 else "visual"
assert event.air > 0.3
print(
    f"rotated after epoch {event.epoch + 1} of fusion; the query leaned on {leader}"
)

# %% [markdown]
# What did the turn do to the attention of the very same model on the very same samples? We undo
# it in a copy and compare.

# %%
import copy

from rollingq_core.model import predict

unrotated = copy.deepcopy(run.model)
unrotated.fusion.rotation = QueryRotation(setting.dim)
answers = {
    "before": predict(unrotated, run.data.train),
    "after": predict(run.model, run.data.train),
}

# %% tags=["hide-input"]
from rollingq_core.plots import Table, signed

Table(
    ["", "mean cosine with audio", "mean cosine with visual", "AIR", "audio share"],
    [
        [
            name,
            *(signed(float(c), 2) for c in p.cosines.mean(0)),
            signed(float(-p.cosines.mean(0).diff()), 2),
        ]
        + [f"{p.share[:, 0].mean():.2f}"]
        for name, p in answers.items()
    ],
    "One model before and after its first rotation: means over the 900 training pairs, seed 0.",
)

# %% tags=["nbval-check-output"]
airs = {
    name: (p.cosines[:, 0] - p.cosines[:, 1]).mean() for name, p in answers.items()
}
shares = {name: p.share[:, 0].mean() for name, p in answers.items()}
assert airs["before"] > 0 > airs["after"]
assert shares["after"] < shares["before"] - 0.1
print("AIR changes its sign, and audio loses attention:", True)

# %% [markdown]
# In 32 dimensions the expected keys are not orthogonal, and a query of trained length meets keys
# of trained length; so the share does not simply mirror AIR. What the model makes of its new
# query is decided by the epochs that follow: see {doc}`07_training`.
#
# ## In your own model
#
# Nothing here needs the book's fusion layer. Make a `QueryRotation`, send your query through it,
# show `RollingQ` the query and the average keys of each batch, and close each epoch.

# %% tags=["nbval-check-output"]
rotation = QueryRotation(dim=2)  # 1. beside your query projection
rolling = RollingQ(rotation, rho=3, beta=0.1, max_rotations=3)  # 2. once
q = rotation(query)  # 3. in forward, where you had q
keys = torch.stack([keys_audio, keys_visual], dim=1)
rolling.observe(query=q, mean_keys=keys)  # 4. after each batch
event = rolling.end_epoch()  # 5. after each epoch

degrees = torch.rad2deg(torch.tensor(event.angle))
print(f"AIR {event.air:.2f}: turned by {degrees:.0f} degrees")

# %% [markdown]
# ## What to conclude, and what not
#
# - **Conclude**: the step is small and exact. It changes the query's direction, and nothing else:
#   not its length, not the other parameters, not what is orthogonal to the turn.
# - **Conclude**: with $\rho \cdot |\mathrm{AIR}|$ large, the anchor is almost purely the neglected
#   modality's key, and the turn is large, often past a right angle.
# - **Don't conclude** that the turn by itself improves the model. Right after it, the query points
#   at keys that the model does not rely on yet. It is the training that follows that counts.
# - **Don't conclude** that AIR *is* the attention share. It is a cosine.
#
# ```{exercise} AIR by hand
# :label: ex-rolling-1
# $q = (1, 1)$; audio keys $(2, 0)$ and $(0, 1)$; visual keys $(-1, -1)$ and $(3, 3)$. Find AIR.
# ```
#
# ```{solution} ex-rolling-1
# :class: dropdown
# The audio cosines are both $1/\sqrt2$. The visual ones are $-1$ and $1$. The mean of
# $0.7071 + 1$ and $0.7071 - 1$ is $0.7071$. Note that the visual keys cancel on average, although
# in each sample they lie exactly along the query's line.
# ```
#
# ```{exercise} A very strict rho
# :label: ex-rolling-2
# Let $\rho \to \infty$. What is the anchor for any AIR above 0? What happens if AIR is a tiny bit
# below 0 after the next epoch, and which setting protects the model from that?
# ```
#
# ```{solution} ex-rolling-2
# :class: dropdown
# $\alpha \to 0$, so that the anchor is the visual key's direction. With AIR just below 0 it would
# jump to the audio key: the query flips from one side to the other. The threshold $\beta$ leaves
# small imbalances alone.
# ```
#
# ```{exercise} Three modalities
# :label: ex-rolling-3
# With $M$ modalities the weights are $\operatorname{softmax}(-2\rho\, \mathbb E[\cos\theta^m])$.
# Show that for $M = 2$ this is Eq. 11.
# ```
#
# ```{solution} ex-rolling-3
# :class: dropdown
# With $c^a, c^v$ the two expected cosines, the first weight is
# $e^{-2\rho c^a} / (e^{-2\rho c^a} + e^{-2\rho c^v}) = 1 / (1 + e^{2\rho (c^a - c^v)})$, the logistic
# function of $-2\rho\,\mathrm{AIR}$. And $\sigma(2x) = \tfrac12(1 + \tanh x)$.
# ```
#
# ```{exercise} Exactly the wrong way round
# :label: ex-rolling-4
# The query points exactly away from its anchor. Which plane should it turn in? Call
# `minimal_rotation(q, -q)` and look at $q R$, $\det R$ and $R R$.
# ```
#
# ```{solution} ex-rolling-4
# :class: dropdown
# Any plane that contains $q$ will do; the package takes the one with the coordinate axis that $q$
# leans on least, so that the result is always the same. $qR = -q$, $\det R = 1$, and $RR = I$,
# for two half turns make a whole one.
# ```
#
# ## Summary
#
# | step | equation | function |
# |:--|:--|:--|
# | how far does the query lean? | 9 | `attention_imbalance_rate` |
# | how strongly to push? | 11 | `anchor_weight` |
# | where to? | 10 | `rebalance_anchor` |
# | turn | 12, 13 | `minimal_rotation`, `QueryRotation.rotate` |
# | when? | Algorithm 1 | `RollingQ` |
#
# **Further reading.** {cite:t}`ni2025rollingq`, section 3 and the appendix with Algorithm 1.
