# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 14. Deeper and earlier
#
# **Recap.** {doc}`07_training` and {doc}`08_controls` turned the query of *one* layer of attention on top
# of finished encoders, and found where that helps. There all samples share one query, so that one
# turn reaches all of them alike.
#
# **The question.** In a deeper fusion each sample has a query of its own, and streams may meet long
# before the last block: what is there left to turn? And does turning it still help?
#
# You will learn
#
# - how two layers are trained one by one, with one rotation for each,
# - what one rotation does to many queries, and why it should be the smallest,
# - why a block may lean for each sample, and yet not at all in the mean,
# - what an attention share says, and no longer says, when streams meet early.
#
# **What it takes.** A CPU and about half a minute, for three short trainings. The comparisons over
# seeds are read from records.

# %% tags=["hide-cell"]
from importlib.util import find_spec

if find_spec("rollingq_core") is None:  # on Colab: install the book's package
    from IPython import get_ipython

    package = "rollingq-core[data,plots]"
    url = "https://github.com/rollingq-book/rollingq-book"
    get_ipython().run_line_magic("pip", f'install -q "{package} @ git+{url}"')

# %% [markdown]
# ## Two layers
#
# The paper's deeper model, which it calls MT\*, has a two-layer transformer for its fusion. It says no
# more than that, and has no public code; ours has two blocks as they stand in a ViT
# {cite}`dosovitskiy2021image`. A *block* reads the class token and the tokens of all modalities as one
# sequence $z$, and adds to each row what attention finds and then what a small network makes of it:
#
# $$
# z \leftarrow z + \text{Attention}(\text{LN}(z)) , \qquad
# z \leftarrow z + \text{MLP}(\text{LN}(z)) .
# $$
#
# LN is a layer norm. The classifier reads the class token after the last block. Try it on random tokens, five
# samples of six audio and three visual ones:

# %%
import torch

from rollingq_core.fusion import StackFusion

torch.manual_seed(0)
layer = StackFusion(dim=8, num_classes=4, cls_std=0.3).eval()
audio, visual = torch.randn(5, 6, 8), torch.randn(5, 3, 8)
with torch.no_grad():
    output = layer([audio, visual])

# %% tags=["nbval-check-output"]
print("blocks:   ", len(layer.blocks))
print("logits:   ", *output.logits.shape)
print("attention:", *output.attention.shape)
print("query:    ", *output.query.shape)

# %% [markdown]
# Two things must hold, and are easily lost in a program. The blocks have no positions of their own, so
# the order of a modality's tokens can't matter. And with the second block *bypassed*, what is left is
# the model of one block.

# %%
one_block = StackFusion(dim=8, num_classes=4, depth=1).eval()
state = layer.state_dict()
own = {name: state[name] for name in one_block.state_dict() if name != "used"}
_ = one_block.load_state_dict(own, strict=False)

# %%
with torch.no_grad():
    shuffled = layer([audio[:, torch.randperm(6)], visual[:, [2, 0, 1]]])
    layer.use_blocks(1)
    bypassed = layer([audio, visual])
    layer.use_blocks(2)
    alone = one_block([audio, visual])


# %% tags=["nbval-check-output"]
def largest(a, b):
    return f"{(a - b).abs().max():.5f}"


print("tokens shuffled:          ", largest(shuffled.logits, output.logits))
print("block 2 bypassed, 1 block:", largest(bypassed.logits, alone.logits))
assert torch.allclose(shuffled.logits, output.logits, atol=1e-5)
assert torch.equal(bypassed.logits, alone.logits)
assert not torch.allclose(bypassed.logits, output.logits, atol=1e-2)

# %% [markdown]
# ## A query of its own
#
# In the first block the class token is a learned vector, the same for every sample, and so is its
# query. When it comes to the second block it has read the sample. So each sample has a query of its own
# there. How much do they differ in a trained model? Setting P is that of {doc}`07_training`; both
# blocks are trained from the start, and nothing is turned.

# %%
from rollingq_core.runs import train

vanilla = train("mt2", "digits", setting="P", seed=0)
last = vanilla.result.history[-1]
print(f"validation accuracy {100 * last['validation_accuracy']:.0f} %")


# %%
def seen(run, block):
    """What a block's class-token queries see of the training split."""
    fusion = run.model.eval().fusion
    fusion.use_blocks(block)
    with torch.no_grad():
        output = run.model(run.data.train.inputs).fusion
    fusion.use_blocks(2)
    return output.query.double(), output.mean_keys.double()


def degrees(a, b):
    cosine = torch.cosine_similarity(a, b, dim=-1)
    return torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))


# %% [markdown]
# Table 14.1 has the angle between a query and the mean query $\mathbb E[q]$ in the middle of all samples (the
# median), the length of the mean and the mean length, and AIR ({ref}`Eq. 9 <eq-paper-9>`).

# %% tags=["hide-input"]
from rollingq_core import attention_imbalance_rate
from rollingq_core.plots import Table, signed


def about_queries(run, block):
    query, keys = seen(run, block)
    mean = query.mean(0)
    air = attention_imbalance_rate(query, *keys.unbind(1))
    angle, length = degrees(query, mean).median(), query.norm(dim=1).mean()
    return [float(angle), float(mean.norm()), float(length), float(air)]


# %% tags=["hide-input"]
def told(angle, of_mean, length, air):
    return [f"{angle:.0f}°", f"{of_mean:.1f}", f"{length:.1f}", signed(air, 2)]


PAIRS = len(vanilla.data.train.labels)
HEADER = ["block", "angle to the mean", "|E[q]|", "E|q|", "AIR"]
Table(
    HEADER,
    [[f"{block}", *told(*about_queries(vanilla, block))] for block in (1, 2)],
    f"Queries of the class token on {PAIRS} training pairs of the embedded digits, two blocks trained at once, "
    "seed 0.",
)

# %% tags=["nbval-check-output"]
(first, *_), (second, of_mean, length, _) = (
    about_queries(vanilla, block) for block in (1, 2)
)
print(f"block 1: the angle is {first:.0f}°")
print(f"block 2: over 30°: {'yes' if second > 30 else 'no'}")
assert first < 0.01
assert of_mean < 0.9 * length

# %% [markdown]
# ### One rotation turns them all
#
# Appendix B of the paper keeps one rotation for a block. The anchor is made from expectations, as in
# {doc}`05_rolling`, and the same $R$ then turns each sample's query. Write a query as the mean and what is
# its own, $q_i = \mathbb E[q] + \delta_i$. A rotation is linear:
#
# (eq-14-1)=
# $$
# q_i R = \mathbb E[q]\,R + \delta_i R = q_b + \delta_i R .
# \tag{14.1}
# $$
#
# So the mean goes where it should, whichever rotation with $\mathbb E[q]\,R = q_b$ one takes. But
# $\delta_i$, which says how this sample's query differs from all others, is turned as well. The smallest
# turn leaves all of it alone that lies off one plane. The paper's route by an SVD leaves nothing alone:
# off the plane its $R$ is as good as random ({doc}`06_open_questions`). With one query for all this
# made no difference to what the model computes; here it does (Figure 14.1).

# %%
from rollingq_core import anchor_weight, minimal_rotation
from rollingq_core import rebalance_anchor, svd_rotation
from rollingq_core.settings import SETTINGS

query, keys = seen(vanilla, 2)
mean, (keys_a, keys_v) = query.mean(0), keys.unbind(1)
air = attention_imbalance_rate(query, keys_a, keys_v)
alpha = anchor_weight(air, SETTINGS["P"].rho)
anchor = rebalance_anchor(mean, keys_a.mean(0), keys_v.mean(0), alpha)
turns = {
    "smallest turn": minimal_rotation(mean, anchor),
    "SVD": svd_rotation(mean, anchor),
}

# %%
deviation = query - mean
angles = {name: degrees(deviation @ R, deviation) for name, R in turns.items()}

# %% tags=["nbval-check-output"]
# Off the plane the SVD's turn is one thing on one processor, another on the next.
print("median angle between a deviation before and after, to 30 degrees:")
for name, R in turns.items():
    hit = torch.cosine_similarity((query @ R).mean(0), anchor, dim=0)
    print(f"  {name:14} {30 * round(float(angles[name].median()) / 30)}°", end="")
    print(f" | cosine of the mean with the anchor {hit:.3f}")

# %% tags=["hide-input"]
from rollingq_core.plots import BookFigure, deviation_angles

BookFigure(
    deviation_angles(angles, "The smallest turn leaves most of a query's own part"),
    caption="How far a turn of the second block moves what is a query's own, its difference from the mean "
    f"query: {PAIRS} training pairs of the embedded digits, seed 0. Both turns take the mean to the same anchor.",
    alt="Two histograms of angles. Those of the smallest turn lie near the left end; those of the SVD lie far "
    "to the right of them, around somewhat less than a right angle.",
)

# %% [markdown]
# And what does such a turn cost at first? Accuracy on the test split, right after it and with no
# training since:

# %%
from copy import deepcopy


def accuracy_after(run, rotation=None):
    model = deepcopy(run.model).eval()
    if rotation is not None:
        model.fusion.rotation.rotate(rotation.float())
    with torch.no_grad():
        logits = model(run.data.test.inputs).fusion.logits
    hits = logits.argmax(1) == run.data.test.labels
    return 100 * float(hits.float().mean())


# %%
cost = {"no turn": accuracy_after(vanilla)}
cost |= {name: accuracy_after(vanilla, R) for name, R in turns.items()}
for name, accuracy in cost.items():
    print(f"{name:14} {accuracy:.0f} %")

# %% tags=["nbval-check-output"]
lost = {name: cost["no turn"] - cost[name] for name in turns}
print("turns that cost more than 30 points:", sum(x > 30 for x in lost.values()))
gap = abs(lost["SVD"] - lost["smallest turn"])
print("difference of the two below 15 points:", "yes" if gap < 15 else "no")

# %% [markdown]
# Either turn costs a great deal in this model, which was not trained to be turned. Beside that the
# difference between the two is small: the figure shows what the SVD does to the queries, and this one
# model can't show what it does to training.
#
# ## One block after the other
#
# Two blocks, two rotations: which of them should be turned when? The paper's Appendix B trains
# *progressively*.
#
# 1. Stage 1 has the first block alone: the second is bypassed, and the classifier reads the class token
#    after the first. RollingQ acts on this block.
# 2. Then the second block comes into use. The first block's rotation *stays as it is*, and RollingQ
#    goes on with the second, its count of turns beginning again.
#
# How long a stage lasts is not said. We give a third of the epochs of fusion to the first block. The
# method is called `mt2+rollingq`; `mt2+progressive` is the same without a turn. Figure 14.2 has one run.

# %%
turned = train("mt2+rollingq", "digits", setting="P", seed=0)
still = train("mt2+progressive", "digits", setting="P", seed=0)

# %% tags=["hide-input"]
from rollingq_core.plots import stage_curves

BookFigure(
    stage_curves(
        turned.result.history,
        "Each turn of block 1 costs an epoch; block 2 hardly leans",
    ),
    caption="Progressive training with RollingQ on the embedded digits, seed 0. Dotted: a rotation. Solid "
    "upright line: the second block comes into use; what is left of it tells of block 1, what is right of it "
    "of block 2. The shares don't add up to 1, as the class token also attends to itself.",
    alt="Three panels of curves over the epochs of fusion. Up to the switch AIR swings far to both sides, the "
    "shares swing with it, and validation accuracy falls steeply at each rotation and comes back. Behind it "
    "AIR is near 0, both shares are about the same, and accuracy is high and steady.",
)


# %% [markdown]
# What hurts, and for how long? Table 14.2 has each turn of that run. Its switch comes an epoch after a
# turn, with no quiet epoch before it; the last row has the switch of the run without turns.


# %% tags=["hide-input"]
def around(run, epoch):
    """Validation accuracy in % an epoch before a moment, right after it, an epoch later."""
    fused = [e for e in run.result.history if e["stage"] == "fusion"]
    return [100 * fused[epoch + k]["validation_accuracy"] for k in (-1, 0, 1)]


STAGE = SETTINGS["P"].training.epochs // 3
moments = {f"turn {e.count}": around(turned, e.epoch) for e in turned.events}
moments["block 2 comes in"] = around(turned, STAGE - 1)
moments["the same, no turns"] = around(still, STAGE - 1)

# %% tags=["hide-input"]
Table(
    ["moment", "before, %", "right after, %", "an epoch later, %"],
    [[name, *(f"{a:.0f}" for a in row)] for name, row in moments.items()],
    "Validation accuracy around each turn and around the switch, embedded digits, seed 0.",
)

# %% tags=["nbval-check-output"]
rows = [row for name, row in moments.items() if name.startswith("turn ")]
print("turns of block 1:", len(rows))
print("  more than 20 points lost at", sum(b - a > 20 for b, a, _ in rows))
print(
    "  and within 20 points an epoch later at", sum(c > b - 20 for b, _, c in rows)
)
before, after, later = moments["the same, no turns"]
print("the switch costs over 5 points:", "yes" if before - after > 5 else "no")
print("and an epoch later it is within 3:", "yes" if later > before - 3 else "no")
print("turns of block 2:", sum(e.epoch >= STAGE for e in turned.events))

# %% [markdown]
# A block that has learned nothing yet disturbs the class token, and training mends that within an
# epoch. The turns cost much more, and it takes each of them an epoch or two.
#
# ### A block that leans for each sample, and not in the mean
#
# In this run the second block was never turned: its AIR is below $\beta$ whenever a turn would be
# allowed. Has it learned to listen evenly? AIR is a mean over samples. Look at the samples:


# %%
def leans(run):
    """Each sample's cosine with audio's mean key, minus that with vision's."""
    query, keys = seen(run, 2)
    cosines = torch.cosine_similarity(query[:, None], keys, dim=-1)
    return cosines[:, 0] - cosines[:, 1]


for name, run in {"one by one": still, "RollingQ": turned}.items():
    own = leans(run)
    print(f"{name:10} mean {own.mean():+.2f}, sd {own.std():.2f}", end=", ")
    print(f"from {own.min():+.2f} to {own.max():+.2f}")

# %% tags=["nbval-check-output"]
for name, run in {"one by one": still, "RollingQ": turned}.items():
    own = leans(run)
    angle, of_mean, length, _ = about_queries(run, 2)
    print(f"{name:10} sd of the leans {own.std():.1f}", end=", ")
    print(f"angle to the mean, to ten degrees {round(angle, -1):.0f}°", end=", ")
    print("|E[q]| below a third of E|q|:", "yes" if 3 * of_mean < length else "no")
    assert abs(own.mean()) < 0.1 < own.std()

# %% [markdown]
# Some samples' queries lean to audio, others to vision, and the leans cancel. With queries that point
# nearly everywhere, their mean is short and says little of any of them. AIR can't see such leans, and
# Algorithm 1 turns only where AIR is large. In two layers that are trained at once
# (Table 14.1) the mean did lean in this seed.
#
# How often is the second block turned at all? From the records of the next section:

# %%
from rollingq_core.records import read_record

SETS = {
    "digits, P": read_record("table1-digits-P"),
    "speech, P": read_record("table1-avmnist-P"),
    "CMU-MOSI, P": read_record("table1-mosi-P"),
}

# %% tags=["nbval-check-output"]
from rollingq_core.plots import of_method

print("turns of the second block, run by run")
for name, record in SETS.items():
    runs = of_method(record["runs"], "mt2+rollingq")
    counts = [sum(e >= STAGE for e in run["rotations"]) for run in runs]
    print(f"  {name:12}", *counts)

# %% [markdown]
# Where it is turned seldom, RollingQ in two layers is nearly RollingQ in the first layer, for a third of
# the training.
#
# ## What it does to accuracy
#
# `digits` is synthesised speech with small pictures, `speech` recorded speech {cite}`jackson2018fsdd` with
# MNIST {cite}`lecun1998gradient`, and CMU-MOSI {cite}`zadeh2016mosi` has reviews that are heard, seen and
# read. The two-layer methods were trained at six seeds, and what follows compares methods at seeds that
# both have. As the control of {doc}`08_controls`, a random turn follows the RollingQ run of its seed, block by
# block: the same epochs, the same angles.

# %%
from rollingq_core.plots import paired_difference, starred
from rollingq_core.statistics import of_shared_seeds

COMPARED = [
    ("mt2", "mt"),
    ("mt2+progressive", "mt2"),
    ("mt2+rollingq", "mt2"),
    ("mt2+rollingq", "mt2+progressive"),
    ("mt2+rollingq", "mt2+random_matched"),
]
LEVELS = (0.0, 0.5)


def difference(record, method, baseline, level):
    place = record["levels"].index(level)
    runs = of_shared_seeds(record["runs"], method, baseline)
    return paired_difference(
        runs, method, baseline, lambda run: 100 * run["accuracy"][place]
    )


# %% [markdown]
# In points of test accuracy, clean and with noise at level 0.5 in the favoured modality (audio; in
# CMU-MOSI text), mean ± half the 95 % interval; a star where it leaves 0 out (Figure 14.3 draws them):

# %% tags=["nbval-check-output"]
from rollingq_core.methods import METHODS

found = {}
for method, baseline in COMPARED:
    print(f"{METHODS[method].label} − {METHODS[baseline].label}")
    for name, record in SETS.items():
        pair = [difference(record, method, baseline, level) for level in LEVELS]
        found |= {
            (method, baseline, name, level): d
            for level, d in zip(LEVELS, pair, strict=True)
        }
        print(f"  {name:12}", *(f"{starred(*d):14}" for d in pair))
seeds = {run["seed"] for run in of_method(SETS["digits, P"]["runs"], "mt2")}
print("seeds:", *sorted(seeds))
assert min(seeds) > 9  # seeds 0 to 9 were for choosing

# %% tags=["hide-input"]
ROWS = [
    "two layers − vanilla",
    "one by one − two layers",
    "RollingQ − two layers",
    "RollingQ − one by one",
    "RollingQ − random",
]

# %% tags=["hide-input"]
from rollingq_core.plots import gains_by_set

BookFigure(
    gains_by_set(
        {
            name: {
                row: [found[*pair, name, level] for level in LEVELS]
                for row, pair in zip(ROWS, COMPARED, strict=True)
            }
            for name in SETS
        },
        LEVELS,
        "Turns gain under noise; the anchor’s own part is clear on CMU-MOSI alone",
    ),
    caption="The same differences in points of test accuracy, mean and 95 % interval over six seeds: clean, "
    "and with noise at level 0.5 in the favoured modality.",
    alt="Three panels of intervals, five rows each. Right of 0 are: on the digits two layers against one, and "
    "with noise RollingQ against the same schedule; with noise RollingQ against two layers on speech and "
    "CMU-MOSI; and on CMU-MOSI RollingQ against the random turn. One by one is left of 0 on the digits with noise.",
)


# %% tags=["nbval-check-output"]
def clear(sign, method, baseline):
    return [
        f"{name} at {level:g}"
        for (m, b, name, level), (mean, half) in found.items()
        if (m, b) == (method, baseline) and sign * mean > half
    ]


for method, baseline in COMPARED:
    print(f"{METHODS[method].label} − {METHODS[baseline].label}")
    print(
        "   clearly better:",
        *(clear(1, method, baseline) or ["nowhere"]),
        sep=" | ",
    )
    print(
        "   clearly worse: ",
        *(clear(-1, method, baseline) or ["nowhere"]),
        sep=" | ",
    )
beyond = sum(abs(mean) > half for mean, half in found.values())
print(beyond, "of", len(found), "leave 0 out; by chance", 0.05 * len(found))

# %% [markdown]
# Read the pairs one by one.
#
# - **The second layer.** On the digits it is worth a great deal, under noise above all. On the other two
#   sets nothing is clear. A block of a stack also has a feed-forward part and more weights than the one
#   layer of attention, so *deeper* is not the only difference.
# - **The schedule.** To train block by block costs accuracy under noise on the digits, and nothing clear elsewhere.
#   RollingQ comes with this schedule, so one has to compare it with both.
# - **RollingQ.** Clean accuracy changes nowhere clearly against two layers. Under noise it is clearly better than
#   two layers on speech and CMU-MOSI, and on the digits clearly better than the same schedule
#   without turns: there the turns win back what the schedule costs.
# - **The anchor.** Against a random turn by the same angles, RollingQ is clearly ahead on CMU-MOSI alone, clean
#   and under noise. That is also the one set in which the second block was turned in every run. One set
#   and six seeds are too few to call the one the cause of the other.

# %% tags=["nbval-check-output"]
assert clear(1, "mt2", "mt") == ["digits, P at 0", "digits, P at 0.5"]
assert clear(-1, "mt2+progressive", "mt2") == ["digits, P at 0.5"]
assert all(name.endswith("0.5") for name in clear(1, "mt2+rollingq", "mt2"))
assert not clear(-1, "mt2+rollingq", "mt2")
ahead = clear(1, "mt2+rollingq", "mt2+random_matched")
print("the anchor is clearly ahead:", *ahead, sep=" | ")

# %% [markdown]
# ## Earlier
#
# So far each stream had an encoder to its end, and fusion came after it. One can also join the streams
# *inside* the backbone: the paper's Table 11 takes one of four blocks, and from the second, third or
# fourth block on processes both streams together. It leaves open whether the joint blocks share their
# weights, and which class token is read. Here a model that fuses *from block n* has $n - 1$ blocks for
# each modality, then $5 - n$ joint ones with the same weights for all tokens, and the class token of
# the fusion. RollingQ turns the query of the last block.

# %%
from rollingq_core.fusion import EarlyFusion

# %% tags=["nbval-check-output"]
for first in (4, 3, 2):
    joint = EarlyFusion(dim=8, num_classes=4, first=first)
    print(
        f"from block {first}: {first - 1} of each stream, {len(joint.blocks)} joint"
    )

# %% [markdown]
# What is *audio's share* in such a model? Attention mass on the rows where audio's tokens went in. But
# once a joint block has run, those rows have read vision. Change the picture, and see what happens to
# audio's rows:

# %%
torch.manual_seed(0)
early = EarlyFusion(dim=8, num_classes=4, first=2).eval()


def audio_rows(picture):
    rows = torch.cat([early.cls.expand(5, 1, 8), audio, picture], dim=1)
    changed = []
    with torch.no_grad():
        for block in early.blocks:
            changed.append(rows[:, 1:7])
            rows = block(rows, None)
    return changed


# %% tags=["nbval-check-output"]
both = zip(audio_rows(visual), audio_rows(torch.randn(5, 3, 8)), strict=True)
for number, (one, other) in enumerate(both, start=2):
    moved = (one - other).norm() / one.norm()
    print(f"before block {number}: audio's rows change by {100 * moved:.0f} %")

# %% [markdown]
# So before the first joint block a share is what it was in all chapters before. Behind it, the rows are
# mixtures, and a share of one half does not say that both modalities are used alike. The same holds for
# mean keys and AIR, and for the second block of the sections above.
#
# ### What the record says
#
# Each of four models was trained as vanilla, with RollingQ and with the random turn by the same angles,
# on the embedded digits with small transformers as encoders, in setting P. *After block 4* is the one layer
# of attention behind whole encoders. Table 14.3 has vanilla, Table 14.4 the differences.

# %%
earlier = read_record("table11-digits")
print(earlier["command"])
print("seeds:", *earlier["seeds"])

# %% tags=["hide-input"]
import numpy as np

PLACES = list(dict.fromkeys(run["variant"] for run in earlier["runs"]))


def at_place(place, *pair, level=0.0):
    runs = [run for run in earlier["runs"] if run["variant"] == place]
    column = earlier["levels"].index(level)
    values = [100 * r["accuracy"][column] for r in of_method(runs, pair[0])]
    if len(pair) == 1:
        return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
    return starred(*difference({**earlier, "runs": runs}, *pair, level)).strip()


# %% tags=["hide-input", "nbval-check-output"]
Table(
    ["streams meet", "clean, %", "noise 0.5, %"],
    [
        [place, at_place(place, "mt"), at_place(place, "mt", level=0.5)]
        for place in PLACES
    ],
    "Vanilla by the block at which the streams meet, embedded digits: test accuracy, mean ± sd over "
    f"{len(earlier['seeds'])} seeds.",
)

# %% tags=["hide-input", "nbval-check-output"]
RANDOM = ("mt+rollingq", "mt+random_matched")
Table(
    ["streams meet", "− vanilla", "at 0.5", "− random", "at 0.5 "],
    [
        [
            place,
            *(
                at_place(place, *pair, level=level)
                for pair in (("mt+rollingq", "mt"), RANDOM)
                for level in LEVELS
            ),
        ]
        for place in PLACES
    ],
    "RollingQ minus vanilla, and minus the random turn by the same angles: points of test accuracy, clean and "
    "at noise 0.5, mean ± half the 95 % interval; a star where it leaves 0 out.",
)

# %% [markdown]
# Does earlier fusion help by itself, and is the last block's query turned at all there?

# %% tags=["nbval-check-output"]
late = PLACES[0]
for place in PLACES:
    runs = [run for run in earlier["runs"] if run["variant"] == place]
    counts = [len(run["rotations"]) for run in of_method(runs, "mt+rollingq")]
    print(f"{place:13} turns:", *counts, end="")
    print(" | parameters:", runs[0]["parameters"])

# %% tags=["nbval-check-output"]
by_place = [
    run | {"method": run["variant"]}
    for run in earlier["runs"]
    if run["method"] == "mt"
]
print(f"vanilla, minus {late}: clean, noise 0.5")
for place in PLACES[1:]:
    pair = [
        paired_difference(
            by_place, place, late, lambda run, k=k: 100 * run["accuracy"][k]
        )
        for k in map(earlier["levels"].index, LEVELS)
    ]
    print(f"  {place:13}", *(f"{starred(*d):14}" for d in pair))

# %% [markdown]
# So fusion from block 2 on is clearly better than fusion at the end, clean and under noise, without any turn;
# and there RollingQ finds little to turn and changes nothing. Where transformers are fused at the end,
# turns cost accuracy, clean and under noise: small transformers from scratch are a regime in which the
# method does not help.


# %% tags=["hide-input"]
def mean_of(place, method, level):
    runs = [run for run in earlier["runs"] if run["variant"] == place]
    index = earlier["levels"].index(level)
    return np.mean(
        [100 * run["accuracy"][index] for run in of_method(runs, method)]
    )


for level, least in ((0, 1.0), (0.5, 8.0)):
    assert mean_of("from block 2", "mt", level) - mean_of(late, "mt", level) > least
    assert mean_of(late, "mt+rollingq", level) < mean_of(late, "mt", level) - 1
    turned_early = mean_of("from block 2", "mt+rollingq", level)
    assert abs(turned_early - mean_of("from block 2", "mt", level)) < 1

# %% [markdown]
# The parameters differ, since a joint block takes the place of two. So do the kinds of fusion: *after block
# 4* is one layer of attention, the others are blocks with a feed-forward part. What is compared here are
# whole models, not the place alone.
#
# The paper's own Table 11 can't be set beside ours, nor beside the paper's Table 1: its accuracies on
# CREMA-D are several points below those which Table 1 has for the same set. It must come from another
# set-up, which is not reported.
#
# ### Attention and gradients over training
#
# Figures 14.4 and 14.5 are the paper's Figures 8 and 9: audio's share, and the gradient norms of both
# encoders, by the place where the streams meet.

# %% tags=["hide-input"]
from rollingq_core.plots import gradients_by_block, share_by_block

BOTH = ["mt", "mt+rollingq"]
BookFigure(
    share_by_block(
        earlier,
        BOTH,
        "The earlier the streams meet, the less the last query prefers audio",
    ),
    caption="Attention share of audio in the last block over training, by the block at which the streams meet: "
    f"embedded digits, mean of {len(earlier['seeds'])} seeds and one standard deviation. Behind a joint block "
    "the rows are mixtures, and the class token there also attends to itself.",
    alt="Four panels of two curves over 40 epochs. With fusion after block 4 vanilla's share rises far above one "
    "half, and RollingQ's stays lower; with fusion from block 2 the two curves lie together.",
)

# %% tags=["hide-input"]
BookFigure(
    gradients_by_block(
        earlier,
        BOTH,
        "Joint blocks give vision's encoder a larger part of the gradient",
    ),
    caption="Gradient norm of each encoder over training, by the block at which the streams meet: embedded "
    f"digits, geometric mean of {len(earlier['seeds'])} seeds and one geometric standard deviation. An encoder "
    "of fewer blocks has fewer weights, so heights of different panels can't be compared.",
    alt="Four panels of falling curves on a logarithmic axis. Audio's lie above vision's in all, furthest with "
    "fusion after block 4. The curves of vanilla and of RollingQ end at about the same heights.",
)

# %% [markdown]
# In numbers, at the last epoch: audio's share of the mass on both modalities, and vision's gradient norm
# as a part of audio's, which may be compared between models.

# %%
LAST = {
    "audio's share": lambda h: (
        h["share"][-1]["audio"] / sum(h["share"][-1].values())
    ),
    "gradient, visual / audio": lambda h: (
        h["gradient_norm"][-1]["visual"] / h["gradient_norm"][-1]["audio"]
    ),
}

# %% tags=["nbval-check-output"]
for name, value in LAST.items():
    print(f"{name}: vanilla, and RollingQ − vanilla")
    for place in PLACES:
        runs = [run for run in earlier["runs"] if run["variant"] == place]
        plain = np.mean([value(run["history"]) for run in of_method(runs, "mt")])
        both = of_shared_seeds(runs, *BOTH)
        change = paired_difference(
            both,
            "mt+rollingq",
            "mt",
            lambda run, value=value: value(run["history"]),
        )
        print(f"  {place:13} {plain:.2f}   {starred(*change, 2)}")

# %% [markdown]
# ## What to conclude, and what not
#
# - **Supported: one rotation turns all queries of a block**, and in the model looked at the smallest one leaves
#   most of what is a sample's own. The SVD's turn scrambles it. What that does to training was not tested here.
# - **Supported: a query of its own can lean without AIR.** After progressive training on the digits the second
#   block's leans cancel over samples. Algorithm 1 then has nothing to turn, and on two sets of three it
#   turned the second block seldom.
# - **Supported in part: RollingQ in two layers.** Under noise at level 0.5 it is clearly better than two
#   layers on two sets of three, and never clearly worse. Clean accuracy does not change clearly.
# - **Supported on one set of three: the anchor.** Only on CMU-MOSI is RollingQ clearly ahead of a random turn
#   by the same angles.
# - **Not supported in general: that two layers are better than one.** They are on the digits. On speech and CMU-MOSI
#   six seeds can't tell.
# - **Supported on one set: meeting earlier helps by itself.** Joint from block 2 on, the vanilla model is clearly
#   better than with fusion at the end, above all under noise, with fewer parameters. RollingQ adds nothing
#   clear to any joint model, and after transformers that are fused at the end it costs accuracy.
# - **Open: what a share means after streams have met.** Tables and figures of early fusion show shares
#   of rows, and a row behind a joint block is a mixture.
# - **Not tested: the paper's own scale.** It has four blocks of a pretrained ViT and real video; these
#   encoders are small and see small sets. The length of a stage is our choice.
#
# ## Exercises
#
# ```{exercise} Code: a token changes sides
# :label: ex-deeper-1
# Give one of audio's tokens to vision: call the toy `layer` with `audio[:, :5]` and with a visual sequence
# that has the sixth audio token at its end. What happens to the logits, and to the shares? Explain both.
# ```
#
# ```{solution-start} ex-deeper-1
# :class: dropdown
# ```

# %%
with torch.no_grad():
    moved = layer([audio[:, :5], torch.cat([visual, audio[:, 5:]], dim=1)])

# %% tags=["nbval-check-output"]
print("logits differ by:", largest(moved.logits, output.logits))
change = (moved.share - output.share).mean(0)
print("shares change by:", *(f"{c:+.2f}" for c in change))
assert torch.allclose(moved.logits, output.logits, atol=1e-5)

# %% [markdown]
# The blocks see one sequence and don't know which token is whose, so the logits stay. Only the book-keeping
# changes: which tokens count as audio's when shares, mean keys and AIR are computed. Hence RollingQ's anchor
# changes as well, though the model is the same.
#
# ```{solution-end}
# ```
#
# ```{exercise} How short is the mean?
# :label: ex-deeper-2
# Let $\theta_i$ be the angle between $q_i$ and the mean query. Show that $|\mathbb E[q]| = \mathbb E[|q_i| \cos\theta_i]$,
# and check it roughly with the second row of Table 14.1. For which queries is the mean 0, and what does Algorithm 1 do
# then?
# ```
#
# ```{solution} ex-deeper-2
# :class: dropdown
# Let $u$ be the mean's direction. Then $|\mathbb E[q]| = \mathbb E[q] \cdot u = \mathbb E[q \cdot u]$, and
# $q_i \cdot u = |q_i| \cos\theta_i$. For Table 14.1, the mean length times the cosine of the median angle is
# roughly the length of the mean. The mean is 0 where queries cancel, for example where half of them point against the
# other half. Then there is no direction to turn from: `RollingQ` warns, leaves the rotation alone, and training goes on.
# ```
#
# ```{exercise} Code: a turn that costs nothing
# :label: ex-deeper-3
# Turn the second block of `still` to its anchor, whatever its AIR, with the smallest turn. How large is the angle,
# and what does it cost at first? Compare with the model of Figure 14.1.
# ```
#
# ```{solution-start} ex-deeper-3
# :class: dropdown
# ```

# %%
query, keys = seen(still, 2)
mean, (keys_a, keys_v) = query.mean(0), keys.unbind(1)
alpha = anchor_weight(attention_imbalance_rate(query, keys_a, keys_v), 3.0)
anchor = rebalance_anchor(mean, keys_a.mean(0), keys_v.mean(0), alpha)
R = minimal_rotation(mean, anchor)

# %%
print(f"angle {degrees(mean, anchor):.0f}°, α {alpha:.2f}")
print(f"accuracy {accuracy_after(still):.1f} % → {accuracy_after(still, R):.1f} %")

# %% tags=["nbval-check-output"]
fall = accuracy_after(still) - accuracy_after(still, R)
print("costs less than 5 points:", "yes" if fall < 5 else "no")
print("turns by more than 60°:  ", "yes" if degrees(mean, anchor) > 60 else "no")

# %% [markdown]
# The angle is that of the *mean*. How far does each query itself turn, in the middle of all?

# %%
moved = {}
for name, (run, turn) in {
    "at once": (vanilla, turns["smallest turn"]),
    "one by one": (still, R),
}.items():
    before, _ = seen(run, 2)
    moved[name] = float(degrees(before @ turn, before).median())
    print(f"{name:10} {moved[name]:.0f}°")

# %% tags=["nbval-check-output"]
twice = moved["at once"] > 2 * moved["one by one"]
print("more than twice as far at once:", "yes" if twice else "no")

# %% [markdown]
# Where the mean is short, the plane of the turn holds little of each query, and the rest stays where it was. So
# a large angle is a great change for one query that all share, and a small one for many that differ.
#
# ```{solution-end}
# ```
#
# ```{exercise} Code: may it be folded?
# :label: ex-deeper-4
# {doc}`06_open_questions` folded a rotation into the query map, after which it costs nothing. May one do that with the
# rotations of a stack? Fold those of `turned`, one at a time, with `rotation.fold_into(attention.q_proj)`, and
# compare logits. Explain the difference between the blocks.
# ```
#
# ```{solution-start} ex-deeper-4
# :class: dropdown
# ```
#
# The second block of `turned` was not turned, so turn it first.

# %%
model = deepcopy(turned.model).eval()
model.fusion.rotation.rotate(R.float())


def change_by_folding(block):
    folded = deepcopy(model)
    attention = folded.fusion.blocks[block - 1].attention
    attention.rotation.fold_into(attention.q_proj)
    with torch.no_grad():
        old, new = (
            m(turned.data.test.inputs).fusion.logits for m in (model, folded)
        )
    return float((old - new).abs().max())


# %% tags=["nbval-check-output"]
for block in (1, 2):
    changed = change_by_folding(block)
    print(f"block {block}: logits {'change' if changed > 0.01 else 'stay'}")

# %% [markdown]
# In the first block the query map also makes the queries of audio's and vision's tokens, and these are not to be
# turned. Of the last block only the class token's row is read, so its rotation may be folded.
#
# ```{solution-end}
# ```
#
# ```{exercise} Two gradient norms
# :label: ex-deeper-5
# Two models differ in where their streams meet. The audio encoder of the first has a gradient norm of 2, that of the
# second one of 1. Does the second learn less from audio? What would you compare instead?
# ```
#
# ```{solution} ex-deeper-5
# :class: dropdown
# One can't tell. The norm is over all weights of an encoder, and the second has fewer blocks; what audio teaches the
# joint blocks is in neither number. Better are the ratio of the two encoders within one model, as above, the gradient
# with respect to the tokens that enter the fusion, or how well a probe reads each encoder.
# ```
#
# ## Summary
#
# In two layers each sample has a query of its own, and one rotation a block turns all of them. Progressive
# training gives each block its time and its turns. Each turn costs accuracy for an epoch or two. The mean query
# can be so even that nothing is turned, while single queries lean. Over six seeds RollingQ gains under noise on
# two sets of three against two layers; the anchor is clearly ahead of a random turn on one. Streams
# that meet early make a better model than any turn did here; their shares and AIR tell of rows that
# are mixtures.
#
# ## Further reading
#
# The paper's Appendix B and its Table 11 {cite}`ni2025rollingq`. Transformer blocks
# {cite}`vaswani2017attention`, and pictures cut into tokens {cite}`dosovitskiy2021image`. Streams that meet
# through a few bottleneck tokens, in the middle of the backbone {cite}`nagrani2021attention`.
