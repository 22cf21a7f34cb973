# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7. Training with RollingQ
#
# **The question.** Chapter 5 turned the query once and looked. What becomes of a model that is
# turned a few times *while it trains*? And if it gets better: is that due to the anchor, or would
# any turn have done?
#
# You will learn
#
# - to add Algorithm 1 to a training run, and to read its history,
# - to compare methods fairly: same start, same data order, many seeds, paired differences,
# - what RollingQ wins here, what it doesn't, and what the anchor has to do with it.
#
# **What it takes.** A CPU and about half a minute. The comparison over many seeds is read from
# records that come with the book; one command computes them anew.

# %% tags=["hide-cell"]
from importlib.util import find_spec

if find_spec("rollingq_core") is None:  # on Colab: install the book's package
    from IPython import get_ipython

    package = "rollingq-core @ git+https://github.com/rollingq-book/rollingq-book"
    get_ipython().run_line_magic("pip", f'install -q "{package}"')

# %% [markdown]
# ## One run, step by step
#
# A *setting* says how a model is made and trained. This chapter uses setting P: 15 epochs in which
# each encoder learns through its own probe, then 40 epochs of fusion, one cosine schedule over all.

# %% tags=["nbval-check-output"]
from rollingq_core.settings import SETTINGS

setting = SETTINGS["P"]
for name in ("rho", "beta", "max_rotations", "start_epoch", "spacing", "cls_std"):
    print(f"{name:14} {getattr(setting, name)}")

# %% [markdown]
# RollingQ stands beside the loop. `fit` shows it each batch's output and closes each epoch; the
# model and the optimizer know nothing of it. (`one_thread`: matrices this small gain nothing from
# a second core.)

# %%
from rollingq_core.data import load_dataset
from rollingq_core.settings import build_model, one_thread
from rollingq_core.rolling import RollingQ
from rollingq_core.training import fit

data = load_dataset("digits", seed=0)
model = build_model(data, setting, seed=0)

# %%
rolling = RollingQ(
    model.fusion,
    rho=setting.rho,
    beta=setting.beta,
    max_rotations=setting.max_rotations,
    start_epoch=setting.start_epoch,
    spacing=setting.spacing,
)
with one_thread():
    result = fit(model, data, setting.training, rolling)

# %% [markdown]
# Each rotation leaves an event: when, how large AIR was, the weights of the anchor, the angle.

# %% tags=["hide-input"]
import math

from rollingq_core.plots import Table

Table(
    ["rotation", "after epoch", "AIR", "α (audio's weight)", "turn"],
    [
        [f"{e.count}", f"{e.epoch + 1}", f"{e.air:+.2f}", f"{e.weights[0]:.2f}"]
        + [f"{math.degrees(e.angle):.0f}°"]
        for e in rolling.events
    ],
    "The rotations of one run on the embedded digits, seed 0. Epochs count from the start of "
    "fusion.",
)

# %% tags=["nbval-check-output"]
first = rolling.events[0]
assert first.air > 0.3
assert first.weights[0] < 0.1
assert math.degrees(first.angle) > 90
print(
    "rotations:",
    len(rolling.events),
    "| the first one follows epoch",
    first.epoch + 1,
)

# %% [markdown]
# The first turns are large, more than a right angle: the query leaned on audio, and with
# $\rho = 3$ the anchor is almost purely visual. Between two turns, training brings the query back
# toward audio.
#
# ## A fair comparison
#
# One run proves nothing. The record below compares five ways to treat the query, at twelve seeds
# that were not used when the settings were chosen:
#
# - **vanilla**: no rotation,
# - **RollingQ**,
# - **random, same angle**: turned after the same epochs and by the same angles as the RollingQ run
#   of the same seed, but in a random plane through the query,
# - **random, free**: turned after the same epochs to a random direction,
# - **uniform**: no query at all; each token has the same weight, as in the static fusion of
#   {doc}`01_static_or_dynamic`.
#
# At each seed all five share the data, the initial weights and the order of the batches. So we may
# compare them *pairwise*, which removes what is due to the seed.

# %%
from rollingq_core.records import read_record

digits = read_record("comparison-digits-P")
speech = read_record("comparison-avmnist-P")

# %% tags=["nbval-check-output"]
for record in (digits, speech):
    print(record["config"]["data"], "| seeds:", *record["seeds"])
    print("  ", record["command"])
assert min(digits["seeds"]) > 9  # seeds 0 to 9 were for choosing
assert digits["seeds"] == speech["seeds"]

# %% [markdown]
# The second line of each is the command that computes the record anew. `digits` is the embedded
# set. `avmnist` has recorded human speech {cite}`jackson2018fsdd` and MNIST pictures
# {cite}`lecun1998gradient`.
#
# ## What rotation does to training
#
# First, the history: the mean over seeds with a band of one standard deviation.

# %% tags=["hide-input"]
from rollingq_core.plots import BookFigure, epoch_curves

methods = ["vanilla", "rollingq", "random_matched"]
pretraining = setting.training.pretrain_epochs

BookFigure(
    epoch_curves(
        digits["runs"],
        methods,
        pretraining,
        "Turned queries end shorter, not less leaning",
    ),
    caption="Training on the embedded digits, 12 seeds: mean and one standard deviation. Upper "
    "left, AIR, with small ticks where rotations happened; upper right, the attention share of "
    "audio in training; lower left, the length of the query; lower right, the gradient norm of the "
    "visual encoder relative to the audio encoder's.",
    alt="Four panels of curves over 40 epochs for three methods. AIR: vanilla rises and stays high; "
    "RollingQ swings below zero after each turn and climbs back to the same height. The audio share "
    "and the length of the query end much lower with RollingQ, with the random turn in between. The "
    "relative gradient of the visual encoder peaks after each turn.",
)

# %% [markdown]
# Read the four panels together.
#
# - Without rotation, the query climbs toward audio within a few epochs and stays there.
# - Each turn throws AIR below zero, and training pulls it up again. While the query looks at
#   vision, the visual encoder gets a far larger part of the gradient: for a moment, the loop of
#   chapter 1 is cut.
# - When the turns are over, AIR returns to where it was. What stays different is the *length* of
#   the query. One reading: to undo a turn past a right angle, gradient descent takes the short way
#   through the middle, where the query is short, and later it hardly grows. A short query makes
#   soft attention.
#
# So the lower audio share at the end is due to softness more than to direction. AIR alone would
# have missed it, and the share alone would have misled us.

# %%
import numpy as np

from rollingq_core.plots import of_method


def final(name, method):
    return np.array(
        [run["history"][name][-1] for run in of_method(digits["runs"], method)]
    )


# %% tags=["nbval-check-output"]
for name in ("air", "query_norm"):
    ratio = final(name, "rollingq").mean() / final(name, "vanilla").mean()
    print(f"{name} after the last epoch, RollingQ / vanilla: {ratio:.2f}")

# %% tags=["nbval-check-output"]
shares = {
    m: [r["share_normal"] for r in of_method(digits["runs"], m)] for m in methods
}
lower = np.subtract(shares["vanilla"], shares["rollingq"])
print(
    f"RollingQ ends with the lower audio share in {(lower > 0).sum()} of {len(lower)} seeds"
)

# %% [markdown]
# ## Clean and noisy accuracy
#
# Now the test split, clean and with noise mixed into the audio: $(1-l)\,x + l\,\varepsilon$ with
# $\varepsilon \sim \mathcal N(0, 1)$ on standardised inputs, three draws a level.

# %% tags=["hide-input"]
from rollingq_core.plots import noise_curves

everyone = ["vanilla", "rollingq", "random_matched", "random_free", "uniform"]

BookFigure(
    noise_curves(
        digits["runs"],
        digits["levels"],
        everyone,
        "Embedded digits: turned queries resist noise",
    ),
    caption="Synthesised speech with 8 × 8 pictures, 900 training pairs: test accuracy over the "
    "noise level, mean of 12 seeds with 95 % intervals. Equal attention resists best.",
    alt="Five falling curves. From level 0.5 on RollingQ lies above vanilla, close to the random "
    "turn by the same angle; uniform attention lies above all others at every level.",
)

# %% tags=["hide-input"]
from rollingq_core.plots import accuracy_table

accuracy_table(
    digits["runs"],
    digits["levels"],
    everyone,
    "Embedded digits: test accuracy in %, mean ± sd over 12 seeds; mean audio share, normal → "
    "noise; correlation of the share with “is noise”.",
)

# %% tags=["hide-input"]
BookFigure(
    noise_curves(
        speech["runs"],
        speech["levels"],
        everyone,
        "Human speech: no gain from the anchor",
    ),
    caption="Recorded speech with MNIST pictures, 900 training pairs: test accuracy over the noise "
    "level, mean of 12 seeds with 95 % intervals. Vanilla and RollingQ lie on each other.",
    alt="Five falling curves close together. Vanilla and RollingQ coincide; the random turns lie a "
    "little above them up to level 0.5; uniform starts lowest and ends highest.",
)

# %% tags=["hide-input"]
accuracy_table(
    speech["runs"],
    speech["levels"],
    everyone,
    "Recorded speech with MNIST: test accuracy in %, mean ± sd over 12 seeds; mean audio share, "
    "normal → noise; correlation of the share with “is noise”.",
)

# %% [markdown]
# ## Differences, paired
#
# Curves with intervals invite the wrong comparison, for most of the spread between seeds is shared
# by all methods. The differences at equal seeds are the evidence.

# %% tags=["hide-input"]
from rollingq_core.plots import difference_table

pairs = [
    ("rollingq", other)
    for other in ("vanilla", "random_matched", "random_free", "uniform")
]

difference_table(
    digits["runs"],
    digits["levels"],
    pairs,
    "Embedded digits: paired difference of test accuracy in points, mean ± half the 95 % interval "
    "over 12 seeds.",
)

# %% tags=["hide-input"]
difference_table(
    speech["runs"],
    speech["levels"],
    pairs,
    "Recorded speech with MNIST: paired difference of test accuracy in points, mean ± half the "
    "95 % interval over 12 seeds.",
)

# %% [markdown]
# A difference counts here when its interval leaves 0 out. The next cell says in signs what the
# tables say in numbers, and its output is checked.

# %%
from rollingq_core.plots import paired_difference


def verdict(record, method, baseline, level):
    place = record["levels"].index(level)
    mean, half = paired_difference(
        record["runs"], method, baseline, lambda run: run["accuracy"][place]
    )
    return "·" if abs(mean) <= half else "+" if mean > 0 else "−"


# %% tags=["nbval-check-output"]
pairs = [*pairs, ("random_matched", "vanilla")]
print("noise", " " * 35, *(f"{level:<5g}" for level in digits["levels"]))
for record in (digits, speech):
    for pair in pairs:
        words = [verdict(record, *pair, level) for level in record["levels"]]
        name = f"{record['config']['data']:8} {' − '.join(pair)}"
        print(f"{name:41}", *(f"{word:5}" for word in words))

# %% [markdown]
# A plus says that the first method of a pair is clearly better, a minus that it is clearly worse, a
# dot that the interval covers 0.
#
# And does attention react? The share of audio falls when audio becomes noise. By how much?

# %% tags=["nbval-check-output"]
for record in (digits, speech):
    for method in ("vanilla", "rollingq"):
        runs = of_method(record["runs"], method)
        fall = np.mean([run["share_normal"] - run["share_noisy"] for run in runs])
        print(f"{record['config']['data']:8} {method:9} share falls by {fall:.2f}")

# %% [markdown]
# Last, who is best when most of the audio is noise?

# %% tags=["nbval-check-output"]
for record in (digits, speech):
    for level in (0.75, 1.0):
        place = record["levels"].index(level)
        means = {
            m: np.mean([r["accuracy"][place] for r in of_method(record["runs"], m)])
            for m in everyone
        }
        print(
            record["config"]["data"], level, "best mean:", max(means, key=means.get)
        )

# %% [markdown]
# ## The dial of noise
#
# All of this once more, to move yourself. Choose a data set and a noise level; each step is a level
# that was measured. Below the curve stands the share of attention that audio gets at this level.

# %% tags=["nbval-check-output"]
from rollingq_core.explorer import NoiseDial

NoiseDial({"embedded digits": digits, "recorded speech": speech}, level=0.5)

# %% [markdown]
# ## The map of ρ and β
#
# Two numbers were chosen before any of this: the strength $\rho$ and the threshold $\beta$. The
# paper names neither. How much depends on them? The record below holds a run for each pair of nine
# values of $\rho$ and nine of $\beta$, at five seeds, on the synthetic tokens of setting T. These are
# *tuning* seeds: the map is for choosing and understanding, and none of its numbers is evidence for
# the method.

# %%
grid = read_record("grid-synthetic-T")
print(grid["command"])

# %% tags=["nbval-check-output"]
pairs_tried = len(grid["rhos"]) * len(grid["betas"])
print(f"{pairs_tried} pairs at seeds", *grid["seeds"])
print("ρ:", *grid["rhos"], "| β:", *grid["betas"])
print("distinct runs:", len(grid["runs"]))
assert max(grid["seeds"]) < 10

# %% [markdown]
# Two pairs that call for the same rotations are the same run, so there are fewer runs than pairs. In
# a running notebook the button below trains a new model at *any* pair and draws it over the stored
# ones. On the page the sliders step through the grid.

# %% tags=["nbval-check-output"]
from rollingq_core.explorer import TrainingMap

TrainingMap(grid, rho=3, beta=0.1)

# %% [markdown]
# Now in numbers: the gain over the vanilla run of the same seed where audio is nothing but noise, in
# points, mean over the seeds.

# %%
vanilla = {run["seed"]: run for run in of_method(grid["runs"], "vanilla")}


def gain(level):
    place, found = grid["levels"].index(level), np.zeros((9, 9))
    for run in grid["runs"]:
        base = vanilla[run["seed"]]["accuracy"][place]
        for rho, beta in run["cells"]:
            found[rho, beta] += 100 * (run["accuracy"][place] - base)
    return found / len(grid["seeds"])


# %% tags=["hide-input"]
Table(
    ["ρ \\ β", *(f"{beta:g}" for beta in grid["betas"])],
    [
        [f"{rho:g}", *(f"{value:+.1f}".replace("-", "−") for value in row)]
        for rho, row in zip(grid["rhos"], gain(1.0), strict=True)
    ],
    "Setting T, audio replaced by noise: accuracy minus vanilla's in points, mean over the five "
    "tuning seeds.",
)

# %% tags=["nbval-check-output"]
noisy, clean = gain(1.0), gain(0.0)
early = noisy[:, :5]  # β up to 0.2
print(f"ρ = 0.3 gains {early[0].mean():.0f} points, ρ from 1 to 4", end=" ")
print(f"{early[3:7].mean():.0f}, ρ = 10 {early[8].mean():.0f}")
print(f"largest spread over β up to 0.2: {np.ptp(early, axis=1).max():.0f} points")
print("no gain at β = 0.5:", not noisy[:, 8].any())
print(f"clean accuracy changes by {clean.min():+.1f} to {clean.max():+.1f} points")

# %% [markdown]
# - **The threshold is a switch.** In the first epochs AIR is far above any small $\beta$, so up to
#   about 0.2 the choice hardly matters. Above the largest AIR nothing ever turns.
# - **The strength has a floor, not an optimum.** With $\rho = 0.3$ the anchor lies near the middle of
#   both keys, and much of the gain is lost. From $\rho = 1$ on, the anchor is nearly the key of the
#   neglected modality, and a larger $\rho$ can't turn much further.
#
# So neither needs fine tuning here, and when to stop (`max_rotations`) matters more, as chapter 8
# will show.
#
# ## What to conclude, and what not
#
# - **Supported on one set of two: RollingQ makes the fusion more robust.** On the embedded digits
#   it keeps clearly more accuracy than vanilla fusion at noise levels 0.5 and 0.75, and costs no
#   clean accuracy. On recorded speech no level shows a clear difference.
# - **Not supported: that the anchor does it.** On the digits a random turn by the same angle gets
#   most of the gain; the anchor adds a clear part only where audio is nothing but noise. On
#   recorded speech random turns are *better* than turns to the anchor as long as the audio is
#   mostly intact. A study that compares RollingQ with no rotation alone can't see any of this.
# - **Not supported here: that attention learns to react to noise.** After RollingQ the share of
#   audio is lower, but it falls by no more than before when audio becomes noise. The model listens
#   *less* to audio; it does not listen *better*.
# - **Uniform attention is a hard baseline.** At noise levels 0.75 and 1 it has the best mean of all
#   rows on both sets, since it never gives audio more than half. On the embedded digits it wins with clean audio
#   too: there a query has little to gain, for every row of an 8 × 8 picture says something. On
#   MNIST, whose pictures have empty rows to skip, RollingQ is the better one while audio is clean.
# - **Open: when does it help?** Vanilla attention leans much harder on audio on the digits than on
#   recorded speech, as the tables' audio shares show. A cure for a lean can't do much where there
#   is little of it. Two sets are too few to call that an explanation; {doc}`08_controls` adds four
#   more, and a map of regimes.
# - **Open: the paper's own regime.** Large encoders, pretrained on large data, with video and
#   sound of the wild. Nothing on this page speaks about them.
#
# ```{exercise} Too many turns
# :label: ex-training-1
# Use `dataclasses.replace` to set `max_rotations=20` and `spacing=1` in setting P, and train one
# seed. Plot AIR and the validation accuracy. Why should turns stop well before training does?
# ```
#
# ```{solution} ex-training-1
# :class: dropdown
# Each turn leaves the value map, the encoders and the head adapted to a query that is no longer
# there. They need epochs at a learning rate that is still large to follow. Near the end of a
# cosine schedule there is none.
# ```
#
# ```{exercise} Reading intervals
# :label: ex-training-2
# Suppose two methods had accuracies of 80 ± 2 and 81 ± 2 % (mean ± sd, 12 seeds). Could you tell
# from this whether the second is better? What would you need?
# ```
#
# ```{solution} ex-training-2
# :class: dropdown
# No. The spread over seeds includes how hard each seed's data are, which both methods share. You
# need the differences at equal seeds, their mean, and its interval.
# ```
#
# ```{exercise} A control of the control
# :label: ex-training-3
# The matched control turns by the same angles in a random plane. Name one more thing in which it
# differs from RollingQ, besides the target.
# ```
#
# ```{solution} ex-training-3
# :class: dropdown
# In $d = 32$ dimensions a random direction is nearly at right angles to *both* modalities' keys.
# So a random turn takes the query off the keys altogether and makes attention softer, while the
# anchor lies among the keys. Part of what the control gains may be this softness: uniform
# attention, the softest of all, is the most robust row.
# ```
#
# ## Summary
#
# - Algorithm 1 needs no extra pass: it watches the batches of training, and acts between epochs.
# - Compared at equal seeds, RollingQ resists heavy noise better than vanilla fusion on the embedded
#   digits, at no cost in clean accuracy, and makes no clear difference on recorded speech.
# - Most of the gain comes from turning the query at all, not from where it is turned to.
# - Controls belong beside every claim: same-angle turns, free turns, uniform attention.
#
# **Further reading.** {cite:t}`ni2025rollingq`, sections 4 and 5. For the modulation of gradients,
# another way to treat the imbalance, see {cite:t}`peng2022balanced`.
