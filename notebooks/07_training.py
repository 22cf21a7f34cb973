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
# - what RollingQ wins here, what it doesn't, and which part of it the anchor explains.
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
from rollingq_core.reproduce.settings import SETTINGS

setting = SETTINGS["P"]
for name in ("rho", "beta", "max_rotations", "start_epoch", "spacing", "cls_std"):
    print(f"{name:14} {getattr(setting, name)}")

# %% [markdown]
# RollingQ stands beside the loop. `fit` shows it each batch's output and closes each epoch; the
# model and the optimizer know nothing of it. (`one_thread`: matrices this small gain nothing from
# a second core.)

# %%
from rollingq_core.data import load_dataset
from rollingq_core.reproduce.settings import build_model, one_thread
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

# %%
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
print("rotations:", len(rolling.events), "| the first one follows epoch", first.epoch + 1)

# %% [markdown]
# The first turns are large, more than a right angle: the query leaned on audio, and with
# $\rho = 3$ the anchor is almost purely visual. Each time the query comes back part of the way;
# each time AIR has grown less.
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

# %%
from rollingq_core.plots import BookFigure, epoch_curves

methods = ["vanilla", "rollingq", "random_matched"]
pretraining = setting.training.pretrain_epochs

BookFigure(
    epoch_curves(digits["runs"], methods, pretraining, "Turned queries lean less on audio"),
    caption="Training on the embedded digits, 12 seeds: mean and one standard deviation. Upper "
    "left, AIR, with small ticks where rotations happened; upper right, the attention share of "
    "audio in training; lower left, the length of the query; lower right, the gradient norm of the "
    "visual encoder relative to the audio encoder's.",
    alt="Four panels of curves over 40 epochs for three methods. Without rotation AIR and the audio "
    "share rise and stay high; with RollingQ both come down during the first twelve epochs and stay "
    "lower; the visual encoder's relative gradient rises.",
)

# %% [markdown]
# Without rotation the query climbs toward audio within a few epochs and stays. With RollingQ each
# turn throws AIR below zero, and training pulls it up again, but to a lower level. While the query
# looks at vision, the visual encoder gets a larger part of the gradient: the loop of chapter 1 is
# cut for a moment. The control with the same angles does some of the same.

# %% tags=["nbval-check-output"]
import numpy as np

from rollingq_core.plots import of_method


def final_share(method):
    return [run["share_normal"] for run in of_method(digits["runs"], method)]


lower = np.array(final_share("vanilla")) - np.array(final_share("rollingq"))
print(f"RollingQ ends with the lower audio share in {(lower > 0).sum()} of {len(lower)} seeds")

# %% [markdown]
# ## Clean and noisy accuracy
#
# Now the test split, clean and with noise mixed into the audio: $(1-l)\,x + l\,\varepsilon$ with
# $\varepsilon \sim \mathcal N(0, 1)$ on standardised inputs, three draws a level.

# %%
from rollingq_core.plots import noise_curves

everyone = ["vanilla", "rollingq", "random_matched", "random_free", "uniform"]

BookFigure(
    noise_curves(
        speech["runs"], speech["levels"], everyone, "Human speech: turned queries resist noise"
    ),
    caption="Recorded speech with MNIST pictures, 900 training pairs: test accuracy over the noise "
    "level, mean of 12 seeds with 95 % intervals.",
    alt="Five falling curves from about 90 percent at no noise to 10 to 30 percent at full noise. "
    "RollingQ lies above vanilla, most clearly at level 0.5; uniform is highest at levels 0.75 "
    "and 1.",
)

# %%
from rollingq_core.plots import accuracy_table

accuracy_table(
    speech["runs"],
    speech["levels"],
    everyone,
    "Recorded speech with MNIST: test accuracy in %, mean ± sd over 12 seeds; mean audio share, "
    "normal → noise; correlation of the share with “is noise”.",
)

# %%
BookFigure(
    noise_curves(
        digits["runs"], digits["levels"], everyone, "Embedded digits: so does equal attention"
    ),
    caption="Synthesised speech with 8 × 8 pictures, 900 training pairs: test accuracy over the "
    "noise level, mean of 12 seeds with 95 % intervals.",
    alt="Five falling curves. RollingQ lies above vanilla under noise, and uniform attention lies "
    "above all others at every level.",
)

# %%
accuracy_table(
    digits["runs"],
    digits["levels"],
    everyone,
    "Embedded digits: test accuracy in %, mean ± sd over 12 seeds; mean audio share, normal → "
    "noise; correlation of the share with “is noise”.",
)

# %% [markdown]
# ## Differences, paired
#
# Curves with intervals invite the wrong comparison, for most of the spread between seeds is shared
# by all methods. The differences at equal seeds are the evidence.

# %%
from rollingq_core.plots import difference_table

pairs = [("rollingq", other) for other in ("vanilla", "random_matched", "random_free", "uniform")]

difference_table(
    speech["runs"],
    speech["levels"],
    pairs,
    "Recorded speech with MNIST: paired difference of test accuracy in points, mean ± half the "
    "95 % interval over 12 seeds.",
)

# %%
difference_table(
    digits["runs"],
    digits["levels"],
    pairs,
    "Embedded digits: paired difference of test accuracy in points, mean ± half the 95 % interval "
    "over 12 seeds.",
)

# %% [markdown]
# A difference counts here when its interval leaves 0 out. The next cells say in words what the
# tables say in numbers, and fail if the records stop saying so.

# %%
from rollingq_core.plots import paired_difference


def verdict(record, method, baseline, level):
    place = record["levels"].index(level)
    mean, half = paired_difference(
        record["runs"], method, baseline, lambda run: run["accuracy"][place]
    )
    if abs(mean) <= half:
        return "no clear difference"
    return "better" if mean > 0 else "worse"


# %% tags=["nbval-check-output"]
print("RollingQ against vanilla")
for record in (speech, digits):
    words = [verdict(record, "rollingq", "vanilla", level) for level in record["levels"]]
    print(f"  {record['config']['data']:8}", dict(zip(record["levels"], words, strict=True)))

# %% tags=["nbval-check-output"]
print("RollingQ against a random turn by the same angle")
for record in (speech, digits):
    words = [verdict(record, "rollingq", "random_matched", level) for level in record["levels"]]
    print(f"  {record['config']['data']:8}", dict(zip(record["levels"], words, strict=True)))

# %% tags=["nbval-check-output"]
print("RollingQ against uniform attention")
for record in (speech, digits):
    words = [verdict(record, "rollingq", "uniform", level) for level in record["levels"]]
    print(f"  {record['config']['data']:8}", dict(zip(record["levels"], words, strict=True)))
