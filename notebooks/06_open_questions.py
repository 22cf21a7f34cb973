# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 6. What the equations leave open
#
# **Recap.** {doc}`05_rolling` measured how far the query leans, built the anchor, and turned the query
# to it. On the way it made choices that the equations do not make, and did not compare them with
# others.
#
# **The question.** The paper describes the rotation with five equations,
# {ref}`9 <eq-paper-9>` to {ref}`13 <eq-paper-13>`. Which choices do they leave to the person who
# writes the code, and which of these choices matter?
#
# An equation can be right and still not be a program. Where it is silent, each implementation
# answers in its own way, and two honest ones may train different models. This chapter looks for
# these places, measures each, and says what the book does there.
#
# You will learn
#
# - how much too short the anchor of Eq. 10 is, and why it matters that it is rescaled,
# - what the singular value decomposition of Eq. 12 does away from the query,
# - why a determinant of 768 × 768 numbers can be 0 where it should be 1,
# - when $R$ can be folded into $W_Q$, and what an optimiser's momentum makes of a rotation,
# - what several heads and more than two modalities change.
#
# **What it takes.** A CPU and about half a minute. {doc}`05_rolling` comes first.

# %% tags=["hide-cell"]
from importlib.util import find_spec

if find_spec("rollingq_core") is None:  # on Colab: install the book's package
    from IPython import get_ipython

    package = "rollingq-core[data,plots]"
    url = "https://github.com/rollingq-book/rollingq-book"
    get_ipython().run_line_magic("pip", f'install -q "{package} @ git+{url}"')

# %% [markdown]
# ## How short is the anchor of Eq. 10?
#
# By {ref}`Eq. 10 <eq-paper-10>` the anchor $q_b$ is a mixture of two unit vectors, with weights
# $\alpha$ and $1 - \alpha$, times the query's length. A rotation keeps lengths, so $q_b$ must be as
# long as the query. Write $\psi$ for the angle between the two expected keys. The square of the
# mixture's length is $\alpha^2 + (1 - \alpha)^2 + 2 \alpha (1 - \alpha) \cos\psi$, hence
#
# (eq-6-1)=
# $$
# \frac{\lVert q_b \rVert}{\lVert \mathbb E[q] \rVert}
# = \sqrt{1 - 2 \alpha (1 - \alpha)(1 - \cos\psi)} .
# \tag{6.1}
# $$
#
# With the pencil: at a right angle and $\alpha = \tfrac12$ this is $\sqrt{1/2}$. For opposite keys
# it is $|1 - 2\alpha|$, which is 0 in the middle.

# %%
import torch
from torch.nn.functional import normalize

angles = torch.linspace(0, torch.pi, 181, dtype=torch.float64)


# %%
def printed_length(alpha, angle):
    """Length of Eq. 10's mixture of unit keys, `angle` radians apart."""
    audio = torch.stack([torch.ones_like(angle), torch.zeros_like(angle)])
    visual = torch.stack([angle.cos(), angle.sin()])
    return (alpha * audio + (1 - alpha) * visual).norm(dim=0)


# %% tags=["hide-input"]
from rollingq_core.plots import BookFigure, anchor_lengths

BookFigure(
    anchor_lengths(
        torch.rad2deg(angles),
        {f"α = {a:g}": printed_length(a, angles) for a in (0.05, 0.25, 0.5)},
        "The wider the keys stand apart, the shorter Eq. 10's anchor",
    ),
    caption="Length of the anchor as Eq. 10 is printed, as a fraction of the query's length, over "
    "the angle between the two expected keys. Computed from the equation for three weights α; a "
    "weight of 1 − α gives the same line.",
    alt="Three falling curves from 1 at angle 0. At 180 degrees the curve for alpha one half "
    "reaches 0, the one for alpha 0.25 one half, and the one for 0.05 stays at 0.9.",
)

# %% tags=["nbval-check-output"]
for alpha in (0.05, 0.25, 0.5):
    closed = (1 - 2 * alpha * (1 - alpha) * (1 - angles.cos())).clamp(min=0).sqrt()
    assert torch.allclose(printed_length(alpha, angles), closed, atol=1e-7)
    print(
        f"alpha {alpha:.2f}: {printed_length(alpha, angles)[90]:.4f} at a right angle"
    )

# %% [markdown]
# So the shortfall is largest just where one might call the anchor balanced, and small where $\rho$
# is strict. The direction is not in doubt, and only the direction decides the rotation: rescaling
# makes Eq. 10 agree with {ref}`Eq. 12 <eq-paper-12>`. Without it there would be no such rotation. A
# program that *set* the query to the printed $q_b$ would soften attention besides turning it.

# %%
from rollingq_core import rebalance_anchor

generator = torch.Generator().manual_seed(0)
drawn = torch.randn(3, 64, generator=generator, dtype=torch.float64)

# %% tags=["nbval-check-output"]
for alpha in (0.0, 0.25, 0.5):
    ratio = rebalance_anchor(*drawn, alpha).norm() / drawn[0].norm()
    assert abs(ratio - 1) < 1e-10
    print(f"alpha {alpha:.2f}: rescaled anchor / query = {ratio:.4f}")

# %% [markdown]
# ## What does Eq. 12 say about all other directions?
#
# The paper writes "SVD" of the query and its anchor, without saying which product of its factors is
# meant. Whatever it is, $\mathbb E[q] R_b = q_b$ fixes what happens to one direction of $d$ only. The
# published code takes the singular value decomposition $U \Sigma V^\top$ of the outer product of
# the two unit vectors, and multiplies the outer factors. That product has rank 1. All singular
# values but one are 0, and the singular vectors that belong to the zeros may be *any* orthonormal
# basis of what is left. The package offers this route as `svd_rotation`. Chapter 5's choice,
# `minimal_rotation`, is the identity off the plane of the turn.

# %%
from rollingq_core import minimal_rotation, svd_rotation

query, anchor = drawn[:2]
rotations = {
    "minimal": minimal_rotation(query, anchor),
    "SVD": svd_rotation(query, anchor),
}

# %% tags=["nbval-check-output"]
aim = normalize(anchor, dim=0)
for name, rotation in rotations.items():
    missed = float((normalize(query, dim=0) @ rotation - aim).norm())
    determinant = float(torch.linalg.det(rotation))
    assert missed < 1e-10
    print(
        f"{name:7} misses the anchor by {missed:.10f}, determinant {determinant:.4f}"
    )

# %% [markdown]
# Both do what Eq. 12 asks. How much do they turn? Each pair of complex eigenvalues
# $e^{\pm i \phi}$ of a rotation is a plane that turns by $\phi$.

# %%
turns = {
    name: torch.rad2deg(torch.linalg.eigvals(rotation).angle().abs())
    for name, rotation in rotations.items()
}

# %% tags=["hide-input"]
from rollingq_core.plots import turn_angles

BookFigure(
    turn_angles(turns, "The SVD turns everything, the minimal rotation one plane"),
    caption="Angles of the 64 eigenvalues of two rotations that take the same query to the same "
    "anchor (random vectors, d = 64, seed 0). Left: two eigenvalues turn, the rest stand still. "
    "Right: what LAPACK returned for the zero singular values; the details differ between "
    "machines.",
    alt="Two histograms of angles from 0 to 180 degrees. On the left 62 eigenvalues are at 0 and "
    "two near 90 degrees. On the right all angles occur about equally often.",
)

# %% tags=["nbval-check-output"]
identity = torch.eye(64, dtype=torch.float64)
distance = {name: (r - identity).norm() for name, r in rotations.items()}
chance = (2 * 64) ** 0.5  # a rotation drawn at random is about this far from I
assert (turns["minimal"] > 1).sum() == 2
assert (turns["SVD"] > 1).sum() > 50
assert abs(distance["SVD"] / chance - 1) < 0.15
print(
    "planes that the minimal rotation turns:",
    int((turns["minimal"] > 1).sum()) // 2,
)
print(
    f"distance from I: minimal {distance['minimal']:.0f}, SVD {distance['SVD']:.0f},"
)
print(f"a rotation drawn at random about {chance:.0f}")

# %% [markdown]
# How far from $I$ is that? For the minimal rotation by $\phi$ the Frobenius norm of $R_b - I$ is
# $2\sqrt2 \sin(\phi/2)$, whatever the dimension. For the other it grows as $\sqrt{2 d}$. Here it
# is at the size of the paper's model.

# %%
wide = torch.randn(2, 768, generator=generator, dtype=torch.float64)
large = torch.eye(768, dtype=torch.float64)
small_turn = (minimal_rotation(*wide) - large).norm()
large_turn = (svd_rotation(*wide) - large).norm()

# %% tags=["nbval-check-output"]
phi = torch.nn.functional.cosine_similarity(*wide, dim=0).arccos()
assert torch.isclose(small_turn, 2 * 2**0.5 * (phi / 2).sin())
assert abs(large_turn / (2 * 768) ** 0.5 - 1) < 0.05
print(f"distance from I: minimal {small_turn:.2f}, SVD {large_turn:.0f}")

# %% [markdown]
# ### The complement depends on who computes it
#
# If the free part is free, then another routine, or the same routine on the same numbers with the
# last digits changed, may fill it differently. Four ways to the same $q R_b$: LAPACK's two
# drivers, the transposed problem, and a query jittered by $10^{-12}$.

# %%
from scipy.linalg import svd


def by_driver(driver):
    outer = torch.outer(normalize(query, dim=0), aim).numpy()
    left, _, right = svd(outer, lapack_driver=driver)
    return torch.from_numpy(left @ right)


# %%
jitter = 1e-12 * torch.randn(64, generator=generator, dtype=torch.float64)
ways = {
    "driver gesdd": by_driver("gesdd"),
    "driver gesvd": by_driver("gesvd"),
    "transposed problem": svd_rotation(anchor, query).T,
    "query jittered by 1e-12": svd_rotation(query + jitter, anchor),
    "minimal, jittered": minimal_rotation(query + jitter, anchor),
}

# %% tags=["hide-input"]
from rollingq_core.plots import Table

start = normalize(query, dim=0)
Table(
    ["way", "error in q R", "distance in R"],
    [
        [
            name,
            f"{(start @ way - aim).abs().max():.10f}",
            f"{(way - rotations['minimal' if 'minimal' in name else 'SVD']).norm():.1f}",
        ]
        for name, way in ways.items()
    ],
    "Largest error in the query's image, and Frobenius distance to the first answer of the same "
    "kind. d = 64, seed 0. Two rotations drawn at random are about 11.3 apart.",
)

# %% tags=["nbval-check-output"]
assert all((start @ way - aim).abs().max() < 1e-10 for way in ways.values())
changed = (ways["query jittered by 1e-12"] - rotations["SVD"]).norm()
steady = (ways["minimal, jittered"] - rotations["minimal"]).norm()
assert changed > 1
assert steady < 1e-10
assert (ways["transposed problem"] - rotations["SVD"]).norm() > 1
print(f"the jitter moves the minimal rotation by {steady:.10f},")
print(f"and the SVD's by about {round(float(changed), -1):.0f}")

# %% [markdown]
# Does it matter? With one query for all samples, the forward pass sees only $qR$, so not at once.
# Two things do see the rest of $R$: any query that is not exactly the mean one, as in a second
# layer, and the gradient of the class token, which comes back through $R^\top$ *and* $W_Q^\top$.
# Here are a thousand bystanders.

# %% tags=["nbval-check-output"]
crowd = torch.randn(1000, 64, generator=generator, dtype=torch.float64)
kept = {
    name: torch.nn.functional.cosine_similarity(crowd @ r, crowd).mean()
    for name, r in rotations.items()
}
assert kept["minimal"] > 0.95
assert abs(kept["SVD"]) < 0.25
print(f"mean cosine of a vector with its image, minimal: {kept['minimal']:.2f},")
print(f"SVD: {abs(float(kept['SVD'])):.1f}")

# %% [markdown]
# ## A determinant that is 0
#
# The product $U V^\top$ may be a reflection. A reflection takes the query to the anchor too, but
# it is no rotation. The usual repair is to look at the sign of the determinant and to flip one
# singular vector. An orthogonal matrix has the determinant 1 or −1. In float32, at $d = 768$:


# %%
def mirrored(matrix):
    """Negate the first column: a rotation becomes a reflection, and the reverse."""
    return torch.cat([-matrix[:, :1], matrix[:, 1:]], dim=1)


draws = [torch.randn(768, 768, generator=generator) for _ in range(3)]
bases = [torch.linalg.qr(draw).Q for draw in draws]
# %%
matrices = bases + [mirrored(basis) for basis in bases]

# %% [markdown]
# Of a matrix and its mirror image exactly one is a reflection. So three of these six are.

# %% tags=["nbval-check-output"]
plain = [float(torch.det(matrix)) for matrix in matrices]
signs = [int(torch.linalg.slogdet(matrix).sign) for matrix in matrices]
assert not any(value < 0 for value in plain)
assert signs.count(-1) == 3
print("determinants that are 0:", sum(value == 0 for value in plain), "of 6")
print("reflections found by det:", sum(value < 0 for value in plain))
print("reflections found by slogdet:", signs.count(-1))

# %% [markdown]
# No determinant is below 0, so no reflection is found. The reason is in how a determinant is
# computed: a factorisation $LU$, then the product of the 768 pivots. The first pivots are small,
# the last ones large. Their product passes through numbers that float32 does not have, becomes 0,
# and stays there.

# %%
products = [
    torch.linalg.lu_factor(m).LU.diagonal().double().abs().log10().cumsum(0)
    for m in bases
]

# %% tags=["hide-input"]
from rollingq_core.plots import partial_products

smallest = 2.0**-149
BookFigure(
    partial_products(
        products, smallest, "On its way to ±1 the product leaves float32's range"
    ),
    caption="The determinants of three random orthogonal 768 × 768 matrices as they are multiplied "
    "up from their pivots, in log10, with the products taken in float64 (seed 0). Below the dashed "
    "line float32 has only 0, and 0 times anything is 0.",
    alt="Three curves that almost coincide fall from 0 to about minus 108 and return to 0 at the "
    "last pivots. A dashed line marks float32's smallest number at about minus 45.",
)

# %% tags=["nbval-check-output"]
lowest = max(float(line.min()) for line in products)
assert lowest < -80
assert all(abs(line[-1]) < 1e-2 for line in products)
print(f"lowest point of each product, as a power of 10: {lowest:.0f} or below")
print("their ends:", [f"{float(10 ** line[-1]):.2f}" for line in products])

# %% [markdown]
# `torch.linalg.slogdet` adds logarithms and keeps the sign apart, and cannot underflow.
# `svd_rotation` uses it. The minimal rotation does not need it: by its formula it is a rotation.
#
# **The answer to the whole section is the minimal rotation.** It reaches the same anchor, turns one
# plane, needs no decomposition, depends smoothly on its inputs until the anchor is exactly
# opposite, and its determinant is 1 by construction.
#
# ## Folding R away
#
# After training, $q = (z_{cls} W_Q + b_Q) R$ is a linear map like any other. With
# $\tilde W_Q = W_Q R$ and $\tilde b_Q = b_Q R$ the rotation is gone, and so is its cost. From here
# on we need a model that leans: five epochs of setting T (synthetic tokens). Its encoders are then
# held still, and the tokens that they make are our data.

# %%
from dataclasses import replace

from rollingq_core.data import load_dataset
from rollingq_core.runs import train
from rollingq_core.settings import SETTINGS

setting = SETTINGS["T"]
brief = replace(setting, training=replace(setting.training, epochs=5))


# %%
def leaning_layer(seed):
    """A trained fusion layer, and tokens and labels to go on training it."""
    data = load_dataset("synthetic", seed=seed)
    run = train("mt", data, setting=brief, seed=seed)
    data, encoders = run.data.train, run.model.eval().encoders
    with torch.no_grad():
        tokens = [encoders[name](x).double() for name, x in data.inputs.items()]
    return run.model.fusion.double(), tokens, data.labels


# %%
layer, tokens, labels = leaning_layer(seed=0)

# %%
from torch.nn.functional import cross_entropy


# %%
def take_steps(layer, optimiser, steps, data):
    """Take one step on each of the batches numbered `steps`."""
    tokens, labels = data
    for step in steps:
        part = slice(64 * step, 64 * step + 64)
        output = layer([x[part] for x in tokens])
        optimiser.zero_grad()
        cross_entropy(output.logits, labels[part]).backward()
        optimiser.step()
    return output


# %%
from rollingq_core import RollingQ


def turn(layer, output):
    """Rotate the layer's query by what one batch shows."""
    rolling = RollingQ(layer, rho=3, beta=0, max_rotations=1)
    rolling.observe(output)
    return rolling.end_epoch()


# %%
import copy

turned, folded = copy.deepcopy(layer), copy.deepcopy(layer)
for each in (turned, folded):
    event = turn(each, each(tokens))
_ = folded.rotation.fold_into(folded.q_proj)

# %% tags=["nbval-check-output"]
assert event.air > 0
with_r, without = turned(tokens).logits, folded(tokens).logits
assert torch.allclose(without, with_r, atol=1e-10)
assert (with_r - layer(tokens).logits).abs().max() > 0.1
print(f"folding changes no logit by more than {(without - with_r).abs().max():.8f}")
# %% tags=["nbval-check-output"]
unturned = torch.eye(32).to(folded.rotation.matrix)
assert torch.equal(folded.rotation.matrix, unturned)
extra = [sum(p.numel() for p in m.parameters()) for m in (folded, layer)]
print(
    f"R differs from the identity by {(folded.rotation.matrix - unturned).norm():.1f};"
)
print("parameters added:", extra[0] - extra[1])

# %% [markdown]
# ### May one fold in the middle of training?
#
# Let $\tilde G$ be the gradient with respect to $\tilde W_Q$. The one with respect to $W_Q$ is
# $\tilde G R^\top$. A step of plain SGD with learning rate $\eta$ and weight decay $\lambda$ gives
#
# $$
# \left((1 - \eta\lambda) W_Q - \eta\, \tilde G R^\top\right) R
# = (1 - \eta\lambda) \tilde W_Q - \eta\, \tilde G ,
# $$
#
# which is the step on the folded matrix. The class token's gradient is the same in both, for it is
# the same function of it. So the two should train alike. Momentum is linear too, but its buffer
# holds *old* gradients in *unfolded* coordinates: it has to be folded with the weights. Adam
# divides by a running size of each single entry, and entries are not what a rotation respects.

# %%
OPTIMISERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.01),
    "SGD, weight decay": lambda p: torch.optim.SGD(p, lr=0.01, weight_decay=0.01),
    "SGD, momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "both": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.01),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.001),
}


# %%
def fold(layer, optimiser, buffers):
    """Fold R into W_Q, and, with `buffers`, into the optimiser's running means."""
    rotation = layer.rotation.matrix.clone()  # folding sets it back to I
    layer.rotation.fold_into(layer.q_proj)
    for p in layer.q_proj.parameters() if buffers else ():
        for name in ("momentum_buffer", "exp_avg"):
            mean = optimiser.state[p].get(name)
            if mean is not None:
                mean.copy_(rotation.T @ mean)


# %%
def logits_after(make, way):
    """Ten steps, a turn, perhaps a fold, ten more steps: the logits at the end."""
    mine = copy.deepcopy(layer)
    optimiser = make(mine.parameters())
    turn(mine, take_steps(mine, optimiser, range(10), (tokens, labels)))
    if way != "kept":
        fold(mine, optimiser, buffers=way == "weights and buffers")
    take_steps(mine, optimiser, range(10, 20), (tokens, labels))
    return mine(tokens).logits.detach()


# %%
gaps = {}
for name, make in OPTIMISERS.items():
    kept_r = logits_after(make, "kept")
    for way in ("weights", "weights and buffers"):
        gaps[name, way] = float((logits_after(make, way) - kept_r).abs().max())


# %% tags=["hide-input"]
def gap(value):
    return "< 1e-8" if value < 1e-8 else f"{value:.1g}"


Table(
    ["optimiser", "weights only", "buffers too"],
    [
        [name, gap(gaps[name, "weights"]), gap(gaps[name, "weights and buffers"])]
        for name in OPTIMISERS
    ],
    "Largest difference in any logit from the run that keeps R, ten steps after the rotation, with "
    "only the weights folded, and with the optimiser's buffers folded too. "
    "2000 samples, float64, seed 0.",
)

# %% tags=["nbval-check-output"]
for name in ("SGD", "SGD, weight decay"):
    assert gaps[name, "weights"] < 1e-8
for name in ("SGD, momentum", "both"):
    assert gaps[name, "weights"] > 1e-2
    assert gaps[name, "weights and buffers"] < 1e-8
assert gaps["Adam", "weights and buffers"] > 1e-2
for name in OPTIMISERS:
    both = [gaps[name, way] for way in ("weights", "weights and buffers")]
    print(f"{name:18} {both[0]:.1f}, with its buffers {both[1]:.1f}")

# %% [markdown]
# So plain SGD may fold at any time, with weight decay or without. With momentum the buffers have to be
# folded too, and Adam should wait for the end.

# %% [markdown]
# ## What does momentum make of a rotation?
#
# Now keep $R$ apart, as the published code and this book do while training. Before the rotation,
# the buffers of $z_{cls}$, $W_Q$ and $b_Q$ were pushing the query along some direction $\Delta$.
# Nobody tells them about the turn. The query is $(z_{cls} W_Q + b_Q) R$, so the same buffers now
# push along $\Delta R$: the push turns *with* the query.
#
# To see the buffers' part alone, take the next step twice, once with these buffers as they are and
# once with them set to 0, and subtract. We do it after twenty steps of SGD with momentum, for six
# seeds, from two starts: the layer that leans, and a layer that has learned nothing yet.


# %%
def query_of(layer):
    return layer.rotation(layer.q_proj(layer.cls[0]))[0].detach()


# %%
def drift(layer, state, data, reset):
    """How far one more step moves the query."""
    mine = copy.deepcopy(layer)
    optimiser = OPTIMISERS["SGD, momentum"](mine.parameters())
    optimiser.load_state_dict(copy.deepcopy(state))
    for p in (mine.cls, *mine.q_proj.parameters()) if reset else ():
        optimiser.state[p]["momentum_buffer"].zero_()
    before = query_of(mine)
    take_steps(mine, optimiser, [20], data)
    return query_of(mine) - before


# %%
from torch.nn.functional import cosine_similarity


# %%
def momentum_at_a_turn(layer, data):
    optimiser = OPTIMISERS["SGD, momentum"](layer.parameters())
    output = take_steps(layer, optimiser, range(20), data)
    state = optimiser.state_dict()
    old = drift(layer, state, data, False) - drift(layer, state, data, True)
    before = query_of(layer)
    turn(layer, output)
    by_svd = old @ svd_rotation(before, query_of(layer))
    fresh = drift(layer, state, data, True)
    new = drift(layer, state, data, False) - fresh
    along = old @ layer.rotation.matrix.to(old)
    pairs = ((new, along), (new, old), (by_svd, old), (new, fresh))
    cosines = [float(cosine_similarity(*pair, dim=0)) for pair in pairs]
    return [*cosines, float(new.norm() / fresh.norm())]


# %%
from rollingq_core import AttentionFusion


def untrained_layer(seed):
    torch.manual_seed(seed)
    return AttentionFusion(32, 10, cls_std=1.0).double()


# %%
found = {"leaning layer": [], "untrained layer": []}
for seed in range(6):
    trained, *data = leaning_layer(seed)
    found["leaning layer"].append(momentum_at_a_turn(trained, data))
    found["untrained layer"].append(momentum_at_a_turn(untrained_layer(seed), data))
pushes = {name: torch.tensor(rows).T for name, rows in found.items()}

# %% tags=["hide-input"]
from rollingq_core.plots import signed

names = (
    "cosine with the old push, turned by R",
    "cosine with the old push",
    "the same, had the SVD turned it",
    "cosine with the fresh gradient step",
    "length, in lengths of that step",
)
Table(
    ["the buffers' push after the turn", *pushes],
    [
        [name, *(f"{signed(float(c.mean()), 2)} ± {c.std():.2f}" for c in columns)]
        for name, *columns in zip(names, *pushes.values(), strict=True)
    ],
    "Mean ± sd over 6 seeds. The same synthetic tokens of setting T for both layers; 20 steps, "
    "then one rotation.",
)

# %% tags=["nbval-check-output"]
leaning, untrained = pushes["leaning layer"], pushes["untrained layer"]
assert min(leaning[0].min(), untrained[0].min()) > 0.99
assert leaning[1].mean() > leaning[2].mean() + 0.4
assert leaning[4].max() < 1 < untrained[4].min()
for name, columns in pushes.items():
    print(
        f"{name}: smallest cosine with the old push, turned: {columns[0].min():.2f}"
    )
print(f"longest push in the leaning layer {leaning[4].max():.1f} gradient steps,")
print(f"shortest in the untrained layer {untrained[4].min():.0f}")

# %% [markdown]
# So the push does turn with the query, in all twelve cases. All else depends on the layer. In the
# leaning one the push keeps most of its direction, for the smallest turn moves only what lies in its
# plane; the SVD's turn would have sent it somewhere else. In the untrained one neither turn keeps
# much of its direction. There it is also longer than the fresh gradient step, so that the query's
# next step goes mostly where a stale push, turned, sends it.
#
# With the fresh gradient or against it? The fourth row takes both signs in both columns, so
# six seeds do not tell. A momentum of 0.9 forgets the push in some tens of steps. This book keeps the
# buffers, as the published code does. A reader who rotates early or often, or with a momentum near 1,
# should measure this first.
#
# ## Heads
#
# The equations have one head. With $H$ heads the query is cut into $H$ pieces, and each piece has a
# softmax of its own. The package turns the whole query *before* it is cut. The plane of that turn
# knows nothing of the cuts, so it moves length from one head to another, and a head's length is how
# sharp it can be.

# %%
torch.manual_seed(0)
heads = 4
several = AttentionFusion(32, 10, num_heads=heads, cls_std=1.0).double()
optimiser = OPTIMISERS["SGD, momentum"](several.parameters())
for _ in range(4):
    take_steps(several, optimiser, range(31), (tokens, labels))

# %%
from rollingq_core import attention_imbalance_rate


def by_head(layer):
    """Each head's part of the query's squared length, and its AIR."""
    out = layer(tokens)
    pieces = out.query[0].view(heads, -1)
    keys = out.mean_keys.unflatten(-1, (heads, -1))
    airs = [
        float(attention_imbalance_rate(pieces[h], keys[:, 0, h], keys[:, 1, h]))
        for h in range(heads)
    ]
    return pieces.square().sum(1) / pieces.square().sum(), airs


# %%
squares, airs = by_head(several)
pieces = query_of(several).view(heads, -1)
event = turn(several, several(tokens))
squares_after, airs_after = by_head(several)

# %% tags=["hide-input"]
Table(
    ["", *(f"head {h + 1}" for h in range(heads))],
    [
        ["length² before", *(f"{part:.2f}" for part in squares)],
        ["length² after", *(f"{part:.2f}" for part in squares_after)],
        ["AIR before", *(signed(air, 2) for air in airs)],
        ["AIR after", *(signed(air, 2) for air in airs_after)],
    ],
    "A layer with four heads before and after one rotation of the whole query. Length²: the head's "
    f"part of the query's squared length. AIR of the whole query before: {event.air:+.2f}. "
    "2000 samples, synthetic tokens, seed 0.",
)

# %% tags=["nbval-check-output"]
moved = (squares_after - squares).abs().max()
assert 0.01 < moved < 0.2
assert min(airs) > 0 > max(airs_after)
print(f"largest change of a head's part of the squared length: {moved:.2f}")
for name, values in (("before", airs), ("after", airs_after)):
    above = sum(value > 0 for value in values)
    print(f"{name}: {above} of {heads} heads lean to audio")

# %% [markdown]
# Here the heads agreed with each other, one turn served all four, and little length moved. It need
# not be so. Two heads that lean in opposite ways can hide from the whole query's AIR:

# %% tags=["nbval-check-output"]
q = torch.tensor([1.0, 0, 1, 0])  # two heads of two dimensions
k_audio, k_visual = torch.tensor([[1.0, 0, -1, 0]]), torch.tensor([[-1.0, 0, 1, 0]])
print(
    f"the whole query: AIR = {attention_imbalance_rate(q, k_audio, k_visual):+.1f}"
)
for h, part in enumerate((slice(0, 2), slice(2, 4))):
    each = attention_imbalance_rate(q[part], k_audio[:, part], k_visual[:, part])
    print(f"head {h + 1}: AIR = {each:+.1f}")

# %% [markdown]
# The head-by-head remedy takes no new parts: a block diagonal matrix of small rotations is a
# rotation, and keeps each head's length.

# %% tags=["nbval-check-output"]
aims = torch.randn(pieces.shape, generator=generator, dtype=torch.float64)
blocks = torch.block_diag(*map(minimal_rotation, pieces, aims))
after = (pieces.flatten() @ blocks).view(heads, -1)
change = (after.norm(dim=1) - pieces.norm(dim=1)).abs()
assert torch.allclose(after.norm(dim=1), pieces.norm(dim=1))
print(
    f"turned head by head, a head's length changes by at most {change.max():.10f}"
)

# %% [markdown]
# Whether that trains better models is not measured here.
#
# ## More than two modalities
#
# {ref}`Eq. 9 <eq-paper-9>` and {ref}`11 <eq-paper-11>` compare two. For $M$ modalities with expected
# cosines $c^1, \dots, c^M$ the package weighs the anchor by
#
# (eq-6-2)=
# $$
# \alpha^m = \frac{e^{-2\rho\, c^m}}{\sum_n e^{-2\rho\, c^n}} ,
# \tag{6.2}
# $$
#
# and compares the threshold $\beta$ with the largest minus the smallest cosine. For two
# modalities these are Eq. 11 and $|\mathrm{AIR}|$. The form is this book's choice, not the paper's.

# %%
from rollingq_core import anchor_weight
from rollingq_core.rotation import anchor_weights

# %% tags=["nbval-check-output"]
cosines = torch.empty(1000, 2, dtype=torch.float64).uniform_(
    -1, 1, generator=generator
)
by_tanh = (1 + (-3 * (cosines[:, 0] - cosines[:, 1])).tanh()) / 2  # Eq. 11, rho = 3
by_air = anchor_weight(cosines[:, 0] - cosines[:, 1], rho=3)
by_softmax = torch.stack([anchor_weights(pair, rho=3)[0] for pair in cosines])
assert torch.allclose(by_softmax, by_tanh) and torch.allclose(by_air, by_tanh)
print(
    f"{len(cosines)} pairs of cosines: softmax and Eq. 11 differ by at most ",
    end="",
)
print(f"{(by_softmax - by_tanh).abs().max():.10f}")

# %% [markdown]
# Three keys at right angles, and a query along the first. With $\rho = \tfrac12$ the weights are in
# the ratio $e^{-1} : 1 : 1$; by pencil, $0.3679 / 2.3679 = 0.1554$ for the first.

# %%
from rollingq_core import QueryRotation

three = QueryRotation(dim=4)
rolling = RollingQ(three, rho=0.5, beta=0.1, max_rotations=1)
q = torch.tensor([2.0, 0, 0, 0])
rolling.observe(query=q, mean_keys=torch.eye(4)[None, :3])
event = rolling.end_epoch()
# %% tags=["nbval-check-output"]
print("weights:", [f"{weight:.4f}" for weight in event.weights])
print("cosines before:", [f"{c:.4f}" for c in event.cosines])
print("cosines after: ", [f"{c:.4f}" for c in (three(q)[:3] / 2).tolist()])

# %% [markdown]
# The two neglected modalities are treated alike, as they should be. One thing is lost: with three
# modalities, AIR between the first two says little, so read the event's `cosines` instead.
#
# (paper-versus-code)=
# ## Paper, published code, this book
#
# The second column is what the equations and the text of the paper say {cite}`ni2025rollingq`, the
# third what the authors' published code does, and the fourth what the package of this book does.
# Below the table stand the tests that hold the package to each row.
#
# | topic | paper | published code | this book |
# |:--|:--|:--|:--|
# | keys that the class token sees | audio and visual tokens | its own key too | as the equations; `cls_self_key=True` for the other |
# | rows of attention | the class token's | all rows, of which one is read; Table 4 counts them all | that row alone; outputs and gradients equal, fewer operations |
# | biases, output map | none | biases, and a linear map after attention; no residual, a layer norm that is not used | biases and output map are options, on by default |
# | dropout | none | 0.2 on attention and on the output | options, off by default |
# | standard deviation of the class token at the start | no number | 0.02 | `cls_std`, 0.02 by default |
# | attention of a modality | sum of logits (Eq. 4) | softmax mass, in the analysis | softmax mass |
# | token counts and key norms | assumed about equal | not looked at, though 177 audio tokens meet 197 visual ones | both norms are in each event; counts may differ |
# | direction of $\alpha$ (Eq. 11) | away from the favoured modality | the same | the same |
# | length of $q_b$ (Eq. 10) | said to be the query's, and is not | rescaled | rescaled |
# | off the plane of the turn (Eq. 12) | open | what the SVD of a rank-1 matrix returns | nothing moves; `rotation="svd"` for the other |
# | reflections | not mentioned | looked for by a float32 determinant | none; the SVD route asks `slogdet` |
# | $\rho$ and $\beta$ | no numbers | both 0 by default: once, to the middle | no defaults, and $\rho > 0$ |
# | threshold | at least $\beta$ | above $\beta$ | at least $\beta$ |
# | number of rotations | 1 on CREMA-D and MOSEI, 3 on Kinetics-Sounds | 1 by default | `max_rotations`, no default |
# | samples behind $\mathbb E$ | the last batch | AIR: the last batch; keys and query: mean of batch means over one more pass, so a short batch weighs more | all samples of the epoch, each once; `estimate="last_batch"` for the paper's |
# | mean of what | keys as they are, the mean then normalised; AIR normalises in each sample | the same | the same |
# | parameters during a rotation | frozen, then unfrozen | computed without gradient | computed without gradient |
# | saved model | not mentioned | $R$ is saved; the count is not, so a loaded model goes without $R$ | $R$ and the count are buffers |
# | momentum at a rotation | not mentioned | kept | kept |
# | folding $R$ into $W_Q$ | not mentioned | not done | `fold_into` |
# | probes | none | a linear classifier on each encoder's detached output, three backward passes | the same, one summed loss |
# | learning rate | cosine | stepped once a batch, and once more an epoch | once a batch |
# | epoch that is reported | not mentioned | best accuracy on the test split | settings T, P and S: the last; the paper's recipe: the best on a validation split |
# | frames of a CREMA-D clip | 1 | 3 by default | 1, the middle one |
# | heads | one | one | any number; one turn of the whole query |
# | modalities | two | two | any number |
#
# ```{dropdown} The tests of each row
# - keys that the class token sees: `tests/test_attention.py::test_toy_without_a_class_token_key`, `tests/test_attention.py::test_toy_with_a_class_token_key`
# - rows of attention: `tests/test_attention.py::test_outputs_and_gradients_are_the_textbooks`
# - biases, output map: `tests/test_attention.py::test_outputs_and_gradients_are_the_textbooks`
# - dropout: `tests/test_attention.py::test_dropout_acts_only_while_training`, `tests/test_attention.py::test_attention_dropout_is_the_textbooks_with_the_same_mask`
# - standard deviation of the class token at the start: `tests/test_attention.py::test_cls_std_sets_the_class_tokens_spread`
# - attention of a modality: `tests/test_attention.py::test_toy_without_a_class_token_key`
# - token counts and key norms: `tests/test_rolling.py::test_the_toy_event`
# - direction of $\alpha$ (Eq. 11): `tests/test_rotation.py::test_anchor_weight_is_symmetric_and_falls_with_the_imbalance`
# - length of $q_b$ (Eq. 10): `tests/test_rotation.py::test_the_anchor_is_as_long_as_the_query`
# - off the plane of the turn (Eq. 12): `tests/test_rotation.py::test_the_smallest_turn_is_the_identity_off_its_plane`, `tests/test_rolling.py::test_the_next_query_points_to_the_anchor`
# - reflections: `tests/test_rotation.py::test_float32_at_full_size`, `tests/test_paper_versus_code.py::test_a_float32_determinant_sees_no_reflection`
# - $\rho$ and $\beta$: `tests/test_rolling.py::test_an_option_out_of_range_is_named`
# - threshold: `tests/test_rolling.py::test_an_imbalance_of_exactly_beta_rotates`
# - number of rotations: `tests/test_rolling.py::test_when_it_rotates`
# - samples behind $\mathbb E$: `tests/test_rolling.py::test_the_estimates_scope`, `tests/test_air.py::test_streaming_uneven_batches_is_the_mean_over_all_samples`
# - mean of what: `tests/test_rolling.py::test_the_toy_event`, `tests/test_air.py::test_each_sample_is_compared_with_its_own_query`
# - parameters during a rotation: `tests/test_attention.py::test_query_and_keys_are_outside_the_graph`
# - saved model: `tests/test_attention.py::test_saving_and_loading_keeps_outputs_and_count`
# - momentum at a rotation: `tests/test_paper_versus_code.py::test_a_rotation_leaves_the_optimisers_buffers_alone`
# - folding $R$ into $W_Q$: `tests/test_attention.py::test_folding_the_rotation_away_keeps_the_outputs`
# - probes: `tests/test_model.py::test_probes_do_not_teach_the_encoders_in_fusion`
# - learning rate: `tests/test_training.py::test_warmup_and_one_cosine_over_both_stages`
# - epoch that is reported: `tests/test_training.py::test_selection_restores_the_weights_of_its_epoch`, `tests/test_paper_versus_code.py::test_the_epochs_that_settings_and_recipe_report`
# - frames of a CREMA-D clip: `tests/test_data_cremad.py::test_stored_is_the_released_codes_spectrogram_and_the_middle_picture`
# - heads: `tests/test_attention.py::test_outputs_and_gradients_are_the_textbooks`
# - modalities: `tests/test_rotation.py::test_anchor_weights_are_those_of_two`, `tests/test_rolling.py::test_three_modalities_are_imbalanced_by_their_extremes`
# ```
#
# ## What to conclude, and what not
#
# - **Conclude**: of the choices that the equations leave open, the rescaling of Eq. 10 is forced,
#   and the complement of Eq. 12 is free. The smallest turn does not depend on who computes it, and
#   leaves other directions alone.
# - **Conclude**: the sign of a float32 determinant cannot tell a reflection at the paper's size.
# - **Conclude**: $R$ costs nothing after training. While training, plain SGD may fold it at any time,
#   SGD with momentum if its buffers are folded too, and Adam should wait for the end.
# - **Don't conclude** that the SVD spoiled the paper's results. With one query for all samples the
#   forward pass is the same at the turn; what happens to accuracy later is not measured here.
# - **Don't conclude** that a rotation per head, or a reset of momentum, would train better. They
#   are possible, and untried.
# - **Don't conclude** that the published code is wrong where it differs. Where the paper is silent,
#   it is the only statement of what was run.
#
# ## Exercises
#
# ```{exercise} How short?
# :label: ex-open-1
# The expected keys are 60 degrees apart, and $\alpha = 1/4$. How long is Eq. 10's anchor, as a
# fraction of the query? For which $\alpha$ is it shortest?
# ```
#
# ```{solution} ex-open-1
# :class: dropdown
# $\sqrt{1 - 2 \cdot \tfrac14 \cdot \tfrac34 \cdot \tfrac12} = \sqrt{13/16} \approx 0.901$. The
# product $\alpha (1 - \alpha)$ is largest at $\alpha = \tfrac12$, so that is the shortest, at any
# angle: $\cos 30° \approx 0.866$ here.
# ```
#
# ```{exercise} Code: a reflection that hits the target
# :label: ex-open-2
# Find a symmetric orthogonal matrix that takes the unit row $u$ to the unit row $w \ne u$. What is
# its determinant, and what does it do off the plane of the two? Try it on `start` and `aim`.
# ```
#
# ```{solution-start} ex-open-2
# :class: dropdown
# ```
#
# The Householder reflection $I - 2\, x^\top x$ with $x = n(u - w)$.

# %% tags=["nbval-check-output"]
x = normalize(start - aim, dim=0)
mirror = identity - 2 * torch.outer(x, x)
print(f"misses the anchor by {(start @ mirror - aim).norm():.10f}")
print(f"determinant {torch.linalg.det(mirror):.4f}")
print(f"eigenvalues that are not 1: {(torch.linalg.eigvalsh(mirror) < 0.5).sum()}")

# %% [markdown]
# Its determinant is −1, and it is the identity off the plane, even off the line of $x$. So hitting
# the target while disturbing little does not yet make a rotation: the sign has to be asked for.
#
# ```{solution-end}
# ```
#
# ```{exercise} Code: Adam
# :label: ex-open-3
# Show that a step of Adam on $W_Q$ followed by $R$ is in general not the step on $W_Q R$, even at
# the very first step, when all of its buffers are 0. Check it on a row of two numbers.
# ```
#
# ```{solution-start} ex-open-3
# :class: dropdown
# ```
#
# After bias correction, Adam's first step is $-\eta \operatorname{sign}(G)$, entry by entry (up to
# its $\epsilon$). With $G = \tilde G R^\top$ the two updates are
# $\operatorname{sign}(\tilde G R^\top) R$ and $\operatorname{sign}(\tilde G)$. For
# $\tilde G = (1, 0)$ and a turn by 45 degrees the first has length $\sqrt 2$, the second 1.

# %% tags=["nbval-check-output"]
half = 0.5**0.5
turned_by_45 = torch.tensor([[half, half], [-half, half]])
for name, r in (("kept, then turned", turned_by_45), ("folded", torch.eye(2))):
    row = torch.nn.Parameter(torch.zeros(2))
    optimiser = torch.optim.Adam([row], lr=1.0)
    row.grad = torch.tensor([1.0, 0.0]) @ r.T
    optimiser.step()
    print(f"{name}: length of the step {(row @ r).norm():.3f}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Code: one modality in the middle
# :label: ex-open-4
# Three modalities have the expected cosines $0.8$, $0.3$ and $-0.2$. Compute the weights for
# $\rho = 1$ with a pencil, and with `anchor_weights`. Which modality does a very strict $\rho$ choose,
# and what becomes of the second?
# ```
#
# ```{solution-start} ex-open-4
# :class: dropdown
# ```
#
# Each step of $0.5$ in the cosine is a factor $e^{-1}$, so the weights are in the ratio
# $e^{-2} : e^{-1} : 1$.

# %% tags=["nbval-check-output"]
cosines = torch.tensor([0.8, 0.3, -0.2], dtype=torch.float64)
for rho in (1, 20):
    weights = anchor_weights(cosines, rho=rho)
    print(f"rho = {rho:2}:", ", ".join(f"{weight:.3f}" for weight in weights))

# %% [markdown]
# As $\rho \to \infty$ the third takes all, and the second gets nothing, although the query neglects it
# too, compared with the first.
#
# ```{solution-end}
# ```
#
# ## Summary
#
# | open question | finding here | the book's answer |
# |:--|:--|:--|
# | length of Eq. 10's anchor | from the query's down to 0 | rescale to the query's length |
# | complement of Eq. 12 | by the SVD, as far from $I$ as a random rotation | smallest turn, in one plane |
# | reflections | a float32 determinant is 0 at $d = 768$ | none by construction; `slogdet` for the SVD |
# | folding | same outputs, no parameters | at the end, or with the buffers |
# | momentum | the old push turns with the query; its size beside the gradient depends on the layer | kept, as in the published code |
# | heads | a full turn moves length between heads; AIR may hide opposite leans | one turn of the whole query |
# | more modalities | the softmax is Eq. 11 for two | any number |
#
# ## Further reading
#
# - {cite:t}`ni2025rollingq`, section 3 for the equations, appendix B for the limits on rotations.
# - {doc}`../book/notation`: where each equation stands, and the code that computes it.
# - {doc}`07_training`: what a rotation does over epochs.
