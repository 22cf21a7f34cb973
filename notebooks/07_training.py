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
# **Recap.** {doc}`05_rolling` turned a trained model's query once: the answers fell apart at first,
# and training mended them. {doc}`06_open_questions` settled what the equations leave open, such as the
# smallest turn.
#
# **The question.** What becomes of a model that is turned a few times *while it trains*? And if it
# gets better: is that due to the anchor, or would any turn have done?
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

    package = "rollingq-core[data,plots]"
    url = "https://github.com/rollingq-book/rollingq-book"
    get_ipython().run_line_magic("pip", f'install -q "{package} @ git+{url}"')

# %% [markdown]
# ## See it: one run, step by step
#
# A *setting* says how a model is made and trained. This chapter uses setting P: 15 epochs in which
# each encoder learns through its own probe, then 40 epochs of fusion, one cosine schedule over all.

# %% tags=["nbval-check-output"]
from rollingq_core.settings import SETTINGS

setting = SETTINGS["P"]
for name in ("rho", "beta", "max_rotations", "start_epoch", "spacing", "cls_std"):
    print(f"{name:14} {getattr(setting, name)}")

# %% [markdown]
# RollingQ stands beside the loop, as an *observer*: `fit` shows it each batch's output and closes
# each epoch; the model and the optimizer know nothing of it. (`one_thread`: matrices this small gain
# nothing from a second core.)

# %%
from rollingq_core import RollingQ
from rollingq_core.balancing import Rolling
from rollingq_core.data import load_dataset
from rollingq_core.models.small import build_model
from rollingq_core.runs.run import one_thread
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
    result = fit(model, data, setting.training, observers=[Rolling(rolling)])

# %% [markdown]
# Each rotation leaves an event (Table 7.1): when, how large AIR was ({ref}`Eq. 9 <eq-paper-9>`), the
# weights of the anchor ({ref}`Eq. 11 <eq-paper-11>`), the angle.

# %% tags=["hide-input"]
import math

# %% tags=["hide-input"]
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
print(len(rolling.events), "rotations, the first after epoch", first.epoch + 1)
print(
    f"its angle, to the next ten degrees: {math.degrees(first.angle):.0f}"[:-1]
    + "0"
)
print(f"audio's weight in its anchor: {first.weights[0]:.1f}")
assert first.air > 0.3
assert first.weights[0] < 0.1
assert math.degrees(first.angle) > 90

# %% [markdown]
# What does a turn cost, and for how long? Validation accuracy before a turn, right after it, and an
# epoch later:

# %% tags=["hide-input"]
fusion = [e for e in result.history if e["stage"] == "fusion"]
accuracy = [100 * e["validation_accuracy"] for e in fusion]
Table(
    ["turn", "before, %", "right after, %", "an epoch later, %"],
    [
        [f"{e.count}", *(f"{accuracy[e.epoch + k]:.0f}" for k in (-1, 0, 1))]
        for e in rolling.events
    ],
    "Validation accuracy around each turn of the same run.",
)

# %% tags=["nbval-check-output"]
early = [e.epoch for e in rolling.events[:3]]
lost = sum(accuracy[k - 1] - accuracy[k] > 20 for k in early)
back = sum(accuracy[k + 1] > accuracy[k - 1] - 10 for k in early)
print(f"more than 20 points lost at {lost} of the first 3 turns,")
print(f"and back to within 10 points an epoch later at {back}")
assert lost == back == 3

# %% [markdown]
# The first turns are large, more than a right angle: the query leaned on audio, and with
# $\rho = 3$ the anchor is almost purely visual. Between two turns, training brings the query back
# toward audio.
#
# One more turn, by hand, on the trained model. The new query must point along its anchor
# ({ref}`Eq. 10 <eq-paper-10>`), at its old length.

# %%
import torch

# %%
from rollingq_core import anchor_weight, minimal_rotation, rebalance_anchor
from rollingq_core import attention_imbalance_rate as imbalance

model.eval()
with torch.no_grad():
    output = model(data.test.inputs).fusion
    before, (keys_a, keys_v) = output.query[0], output.mean_keys.unbind(dim=1)
    alpha = anchor_weight(imbalance(before, keys_a, keys_v), setting.rho)
    anchor = rebalance_anchor(before, keys_a.mean(0), keys_v.mean(0), alpha)
    model.fusion.rotation.rotate(minimal_rotation(before, anchor))
    after = model(data.test.inputs).fusion.query[0]

# %% tags=["nbval-check-output"]
print(f"cosine with the anchor {torch.cosine_similarity(after, anchor, dim=0):.3f}")
print(f"length, after / before {after.norm() / before.norm():.3f}")
assert imbalance(after, keys_a, keys_v) < 0 < imbalance(before, keys_a, keys_v)
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
# ### What ends the turning?
#
# Algorithm 1 turns while $|\text{AIR}| \ge \beta$, and at most `max_rotations` times. Which of the two
# ended it, in the runs of the two records?

# %% tags=["nbval-check-output"]
for record in (digits, speech):
    runs = [run for run in record["runs"] if run["method"] == "mt+rollingq"]
    turns = [len(run["events"]) for run in runs]
    late = [
        a
        for run in runs
        for a in run["history"]["air"][run["events"][-1]["epoch"] + 1 :]
    ]
    above = sum(abs(a) >= record["config"]["beta"] for a in late)
    print(
        record["config"]["data"],
        "| runs:",
        len(runs),
        "| turns:",
        *sorted(set(turns)),
    )
    print(f"   later epochs with |AIR| ≥ β: {above} of {len(late)}")

# %% [markdown]
# Every run stops at the limit of six. None of them stops because its lean was cured: in nearly all
# epochs after the last turn, AIR is above the threshold again, and more turns would follow if they
# were allowed. In setting P, $\beta$ decides nothing; the limit and the spacing set the rhythm.
#
# ## What rotation does to training
#
# First, the history (Figure 7.1): the mean over seeds with a band of one standard deviation.

# %% tags=["hide-input"]
from rollingq_core.plots import BookFigure, epoch_curves

# %% tags=["hide-input"]
methods = ["mt", "mt+rollingq", "mt+random_matched"]
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
#   vision, the visual encoder gets a larger part of the gradient.
# - When the turns are over, AIR climbs again. Is it as high as vanilla's in the end, and what stays
#   different? The next cell has the paired differences at the last epoch, mean ± half the 95 %
#   interval; a star marks those that leave 0 out.

# %%
import numpy as np

# %%
from rollingq_core.methods import METHODS
from rollingq_core.plots import of_method, paired_difference, starred

LAST = {
    "AIR": lambda run: run["history"]["air"][-1],
    "|q|": lambda run: run["history"]["query_norm"][-1],
    "audio's share": lambda run: run["share_normal"],
}

# %% tags=["nbval-check-output"]
for record in (digits, speech):
    print(record["config"]["data"])
    for name, value in LAST.items():
        for other in ("mt", "mt+random_matched"):
            found = starred(
                *paired_difference(record["runs"], "mt+rollingq", other, value), 2
            )
            print(f"  {name:14} RollingQ − {METHODS[other].label:18} {found}")

# %% [markdown]
# On the digits AIR ends where vanilla's does, as far as the interval can tell; on recorded speech it
# ends lower. On both the *query is shorter* and audio's share is lower. A shorter query makes smaller
# logits, hence softer attention.
#
# Does the shorter query *explain* what RollingQ gains below? The records of this chapter can't say: to
# know, one must shorten the query without turning it. {doc}`08_controls` has that control, and it gains
# little.
#
# ## Clean and noisy accuracy
#
# Now the test split (Figures 7.2 and 7.3, Tables 7.3 and 7.4), clean and with noise mixed into the audio: $(1-l)\,x + l\,\varepsilon$ with
# $\varepsilon \sim \mathcal N(0, 1)$ on standardised inputs, three draws a level.

# %% tags=["hide-input"]
from rollingq_core.plots import noise_curves

# %% tags=["hide-input"]
everyone = ["mt", "mt+rollingq", "mt+random_matched", "mt+random_free", "uniform"]

BookFigure(
    noise_curves(
        digits["runs"],
        digits["levels"],
        everyone,
        "Embedded digits: turned queries resist heavy noise better",
    ),
    caption="Synthesised speech with 8 × 8 pictures, 900 training pairs: test accuracy over the "
    "noise level, mean of 12 seeds with 95 % intervals. Uniform attention has the highest means.",
    alt="Five falling curves. At levels 0.5 and 0.75 RollingQ lies above vanilla, close to the random "
    "turn by the same angle; uniform attention lies above all others at every level.",
)

# %% tags=["hide-input"]
from rollingq_core.plots import accuracy_table

# %% tags=["hide-input", "nbval-check-output"]
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

# %% tags=["hide-input", "nbval-check-output"]
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

# %% tags=["hide-input", "nbval-check-output"]
pairs = [
    ("mt+rollingq", other)
    for other in ("mt", "mt+random_matched", "mt+random_free", "uniform")
]

difference_table(
    digits["runs"],
    digits["levels"],
    pairs,
    "Embedded digits: paired difference of test accuracy in points, mean ± half the 95 % interval "
    "over 12 seeds.",
)

# %% tags=["hide-input", "nbval-check-output"]
difference_table(
    speech["runs"],
    speech["levels"],
    pairs,
    "Recorded speech with MNIST: paired difference of test accuracy in points, mean ± half the "
    "95 % interval over 12 seeds.",
)

# %% [markdown]
# A difference counts here when its interval leaves 0 out. The same for the control itself: is a random
# turn better than none?

# %% tags=["nbval-check-output"]
for record in (digits, speech):
    print(record["config"]["data"], "| random, same angle − vanilla, points")
    for place, level in enumerate(record["levels"]):
        mean, half = paired_difference(
            record["runs"],
            "mt+random_matched",
            "mt",
            lambda r, k=place: r["accuracy"][k],
        )
        print(f"  noise {level:<5g}", starred(100 * mean, 100 * half))

# %% [markdown]
# On the digits a turn by the same angle toward *nowhere* gains about as much over vanilla as RollingQ
# does (Table 7.5), at levels 0.25 to 0.75. Only at level 1 is RollingQ clearly better than it. On recorded
# speech (Table 7.6) RollingQ gains nothing clear, and up to level 0.5 it is clearly *worse* than the
# random turn.
#
# And does attention react? The share of audio falls when audio becomes noise. By how much?

# %%
from rollingq_core.plots import mean_interval


# %% tags=["nbval-check-output"]
def fall(run):
    return run["share_normal"] - run["share_noisy"]


for record in (digits, speech):
    print(record["config"]["data"], "fall of audio's share")
    for method in ("mt", "mt+rollingq"):
        found = [fall(run) for run in of_method(record["runs"], method)]
        print(f"  {METHODS[method].label:20}", starred(*mean_interval(found), 3))
    less = paired_difference(record["runs"], "mt+rollingq", "mt", fall)
    print("  RollingQ − vanilla  ", starred(*less, 3))

# %% [markdown]
# Last, who is best when most of the audio is noise?

# %% tags=["nbval-check-output"]
for record in (digits, speech):
    for level in (0.75, 1.0):
        place = record["levels"].index(level)
        means = {
            METHODS[m].label: 100
            * np.mean([r["accuracy"][place] for r in of_method(record["runs"], m)])
            for m in everyone
        }
        first, second = sorted(means, key=means.get)[:-3:-1]
        print(f"{record['config']['data']:8} {level:g}", end=" ")
        print(f"{first} {means[first]:.1f} %, then {second} {means[second]:.1f} %")

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
# Now in numbers (Table 7.7): the gain over the vanilla run of the same seed where audio is nothing but
# noise, in points.

# %%
vanilla = {run["seed"]: run for run in of_method(grid["runs"], "mt")}
ALL_NOISE = grid["levels"].index(1.0)


def gains(rho, beta):
    cell = [grid["rhos"].index(rho), grid["betas"].index(beta)]
    found = {}
    for run in grid["runs"]:
        if cell in run["cells"]:
            base = vanilla[run["seed"]]["accuracy"][ALL_NOISE]
            found[run["seed"]] = 100 * (run["accuracy"][ALL_NOISE] - base)
    return np.array([found.get(seed, 0.0) for seed in grid["seeds"]])


# %% tags=["hide-input", "nbval-check-output"]
BETAS = (0.0, 0.1, 0.2, 0.5)
Table(
    ["ρ", *(f"β = {beta:g}" for beta in BETAS)],
    [
        [f"{rho:g}", *(starred(*mean_interval(gains(rho, beta))) for beta in BETAS)]
        for rho in grid["rhos"]
    ],
    "Setting T, audio replaced by noise: accuracy minus vanilla's in points, mean ± half the 95 % "
    "interval over the five tuning seeds; a star where the interval leaves 0 out.",
)

# %% tags=["nbval-check-output"]
for one, other in ((3.0, 0.3), (10.0, 1.0)):
    found = mean_interval(gains(one, 0.1) - gains(other, 0.1))
    print(f"β = 0.1: ρ = {one:g} minus ρ = {other:g}: {starred(*found)} points")

# %% [markdown]
# - **The threshold is a switch.** In the first epochs AIR is far above any small $\beta$, so up to
#   about 0.2 the choice hardly matters. Above the largest AIR nothing ever turns.
# - **Which strength is best, five seeds can't say.** The means are lowest at $\rho = 0.3$, where the
#   anchor lies near the middle of both keys. But the intervals are wide, and those of the differences
#   between strengths cover 0.
#
# ## What to conclude, and what not
#
# - **Supported on one set of two: RollingQ makes the fusion more robust.** On the embedded digits
#   it keeps clearly more accuracy than vanilla fusion at noise levels 0.5 and 0.75, and no clear
#   difference in clean accuracy is seen. On recorded speech no level shows a clear difference.
# - **Not supported: that the anchor does it.** On the digits a random turn by the same angle gains
#   about as much over vanilla; the anchor adds a clear part only where audio is nothing but noise. On
#   recorded speech random turns are clearly *better* than turns to the anchor up to noise level 0.5. A
#   study that compares RollingQ with no rotation alone can't see any of this.
# - **Not supported here: that attention learns to react to noise.** After RollingQ audio's share is
#   lower, but it falls clearly *less* than vanilla's when audio becomes noise, on both sets.
# - **A turn hurts before it helps.** Each early turn costs most of the accuracy for an epoch
#   (Table 7.2). Turns need training after them.
# - **Uniform attention is a hard baseline.** At noise levels 0.75 and 1 it is clearly better than
#   RollingQ on both sets, and on the digits with clean audio too. On recorded speech RollingQ is
#   clearly the better one at levels 0 and 0.25.
# - **Not answered here: why a turn helps.** The query ends shorter, the attention softer, and the rest of the
#   model has trained with another query for a while. The controls that tell the three apart are in
#   {doc}`08_controls`: it is mostly the last.
# - **Open: when does it help?** Two sets can't say. {doc}`08_controls` adds four more, and a map of
#   regimes.
# - **Open: the paper's own regime.** Large encoders, pretrained on large data, with video and
#   sound of the wild. Nothing on this page speaks about them.
#
# ## Exercises
#
# ```{exercise} Code: turning to the very end
# :label: ex-training-1
# Use `dataclasses.replace` to set `max_rotations=40` and `spacing=1` in setting P, and train one seed, so
# that it turns nearly to the last epoch. Does a late turn cost as much as an early one?
# ```
#
# ```{solution-start} ex-training-1
# :class: dropdown
# ```

# %%
from dataclasses import replace

# %%
from rollingq_core.runs import train

often = replace(setting, max_rotations=40, spacing=1)
restless = train("mt+rollingq", data, setting=often, seed=0)
fusion = [e for e in restless.result.history if e["stage"] == "fusion"]
accuracy = [100 * e["validation_accuracy"] for e in fusion]
losses = [
    accuracy[k - 1] - accuracy[k] for k, e in enumerate(fusion) if e["rotation"]
]

# %% tags=["nbval-check-output"]
print(
    f"first 6 turns: one loses more than 30 points: {'yes' if max(losses[:6]) > 30 else 'no'}"
)
print(f"last 10 turns: {sum(x > 6 for x in losses[-10:])} lose more than 6 points")
assert max(losses[:6]) > 30
assert max(losses[-10:]) < 6

# %% [markdown]
# In this run it does not. By then the model has learned to answer with either of two queries, and is thrown
# back and forth between them. One seed, and validation accuracy on clean data only; what so many turns do under
# noise is another question.
#
# ```{solution-end}
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
# ```{exercise} Code: what pairing buys
# :label: ex-training-4
# Compute the half width of the 95 % interval of RollingQ − vanilla on the digits at noise level 0.5, once
# from the paired differences and once as if the two methods had run on different seeds.
# ```
#
# ```{solution-start} ex-training-4
# :class: dropdown
# ```

# %% tags=["nbval-check-output"]
place = digits["levels"].index(0.5)
columns = [
    [100 * run["accuracy"][place] for run in of_method(digits["runs"], method)]
    for method in ("mt+rollingq", "mt")
]
paired = mean_interval(np.subtract(*columns))[1]
apart = np.hypot(*(mean_interval(column)[1] for column in columns))
print(f"paired ± {paired:.1f} points, unpaired about ± {apart:.1f}")

# %% [markdown]
# The spread that both methods share at a seed drops out of the difference. (The unpaired interval would
# have more degrees of freedom, so it is a little narrower than this.)
#
# ```{solution-end}
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
# In $d = 32$ dimensions a random direction is nearly at right angles to *both* modalities' keys, while
# the anchor lies among them. So after the turn the logits of all tokens are small, and attention is
# softer than after a turn to the anchor. Whether softness matters is a question for {doc}`08_controls`, which
# has a control that is as short as RollingQ's query and never turns.
# ```
#
# ## Summary
#
# - Algorithm 1 needs no extra pass: it watches the batches of training, and acts between epochs.
# - In setting P every run uses up its six turns; the threshold $\beta$ stops none of them.
# - Compared at equal seeds, RollingQ resists noise of levels 0.5 and 0.75 better than vanilla fusion on the
#   embedded digits, and makes no clear difference on recorded speech.
# - On the digits a random turn by the same angle gains about as much.
# - Controls belong beside every claim: same-angle turns, free turns, uniform attention.
#
# ## Further reading
#
# {cite:t}`ni2025rollingq`, sections 4 and 5. For the modulation of gradients, another way to treat the
# imbalance, see {cite:t}`peng2022balanced`.
