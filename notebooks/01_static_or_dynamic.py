# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1. A fusion that stopped listening
#
# **The question.** A model hears a spoken digit and sees a written one. One day the microphone
# breaks, and all it hears is noise. Attention was made for this: it can look at each sample and
# decide which sense to trust. Does it?
#
# You will learn
#
# - what separates *static* from *dynamic* fusion,
# - how to measure whom a model listens to: the *attention share* of a modality,
# - the surprise that this book is about: a trained fusion hardly notices that one of its inputs
#   has become noise.
#
# **What it takes.** A CPU and about half a minute. All data come with the package.

# %% tags=["hide-cell"]
from importlib.util import find_spec

if find_spec("rollingq_core") is None:  # on Colab: install the book's package
    from IPython import get_ipython

    package = "rollingq-core @ git+https://github.com/rollingq-book/rollingq-book"
    get_ipython().run_line_magic("pip", f'install -q "{package}"')

# %% [markdown]
# ## Two senses, one digit
#
# Each sample is a pair: a spoken digit, synthesised in many voices, and a digit written by hand
# {cite}`alpaydin1998digits`. Both carry the same label. The voices of the test split were never
# heard in training.

# %%
from rollingq_core.data import load_dataset

data = load_dataset("digits", seed=0)

# %% tags=["nbval-check-output"]
for name in ("train", "validation", "test"):
    split = getattr(data, name)
    print(name, len(split), {m: list(x.shape[1:]) for m, x in split.inputs.items()})

# %% tags=["hide-input"]
from rollingq_core.plots import BookFigure, sample_pairs

BookFigure(
    sample_pairs(data, [2, 5, 7, 11], "The same digit, heard and seen"),
    caption="Four training pairs. Above, log-mel spectrograms (time to the right, frequency "
    "upward); below, 8 × 8 pixels. Coloured lines cut each input into its tokens: seven in audio, "
    "eight in vision. Patches of pure speckle are tokens replaced by noise on purpose, one in five.",
    alt="Four columns. Each has a spectrogram cut by orange vertical lines into seven strips, and "
    "below it a small picture of a digit cut by blue horizontal lines into eight rows.",
)

# %% [markdown]
# Cutting an input into *tokens* is what lets a Transformer read it. An encoder turns each token
# into a vector $z_j$ of $d = 32$ numbers. From there on, audio and vision are two short lists of
# vectors.
#
# ## Static and dynamic fusion
#
# A fusion turns the two lists into one vector $h$, from which a linear layer reads the class.
# The question is how much weight each token gets.
#
# - **Static**: the weights are fixed. The plainest choice gives each of the $L$ tokens the same
#   weight, $h = \frac1L \sum_j z_j W_V$, whatever the sample.
# - **Dynamic**: the weights depend on the sample. A query $q$ is compared with a key
#   $k_j = z_j W_K$ of each token, and
#
# $$
# h = \sum_j p_j\, z_j W_V, \qquad
# p_j = \frac{\exp(q k_j^\top / \sqrt d)}{\sum_i \exp(q k_i^\top / \sqrt d)} .
# $$
#
# The **attention share** of a modality is the sum of $p_j$ over its tokens. It lies between 0 and
# 1, and over all modalities it adds up to 1. Chapter 2 takes this equation apart.
#
# The promise of dynamic fusion is in the second formula: when the audio of *this* sample is
# noise, its keys look different, its $p_j$ can fall, and vision can take over.
#
# ## Train both
#
# Both models have the same encoders, the same start and the same order of the data. They differ
# in the weights alone. Each encoder is first trained by itself, as in the paper
# {cite}`ni2025rollingq`, whose encoders were pretrained; then everything learns together. The book
# calls this *setting P*.

# %%
from rollingq_core.settings import SETTINGS, run_method

static = run_method("uniform", data, SETTINGS["P"], seed=0)
dynamic = run_method("vanilla", data, SETTINGS["P"], seed=0)

# %% [markdown]
# Which sense is the better one? A *probe*, a linear classifier on one encoder's features, tells.

# %% tags=["nbval-check-output"]
from rollingq_core.evaluation import attention_contrast

contrast = attention_contrast(dynamic.model, data.test, "audio")
probes = contrast.normal.probe_accuracy
assert probes["audio"] > probes["visual"] + 0.1
print("the better modality alone:", max(probes, key=probes.get))

# %% [markdown]
# ## The surprise
#
# Now the microphone breaks. We replace the audio of every test sample by Gaussian noise of the
# same mean and variance, and leave the pictures alone. `attention_contrast` runs the model on
# both versions.

# %% tags=["hide-input"]
from rollingq_core.plots import share_distributions

BookFigure(
    share_distributions(
        {"": contrast}, "Attention stays on audio when audio is noise"
    ),
    caption="Attention share of audio over the 597 test samples of one dynamic (vanilla) model, "
    "seed 0: orange with the normal audio, grey and hatched with noise in its place. Vertical "
    "lines are the means. A fusion that listens would move the grey mass to the left of 0.5.",
    alt="Two overlapping histograms of the audio share. Both lie far to the right, near 0.9; the "
    "one for noise is shifted to the left only a little.",
)

# %% [markdown]
# The share falls a little. But in most samples the model still gives most of its attention to a
# sense that says nothing at all.

# %% tags=["nbval-check-output"]
normal, noisy = contrast.share
trusted = (noisy > 0.5).float().mean()
assert normal.mean() > 0.75
assert trusted > 0.9
print(f"samples in which noise gets most of the attention: over {0.9:.0%}")

# %% [markdown]
# And the answers? Here is what the noise costs each of the two models.

# %% tags=["hide-input"]
from rollingq_core.plots import Table

models = {"static (uniform)": static.model, "dynamic (vanilla)": dynamic.model}
contrasts = {
    name: attention_contrast(model, data.test, "audio")
    for name, model in models.items()
}

Table(
    ["fusion", "normal audio", "audio is noise", "audio share"],
    [
        [
            name,
            f"{100 * c.normal.accuracy:.0f} %",
            f"{100 * c.noisy.accuracy:.0f} %",
        ]
        + [f"{c.share[0].mean():.2f} → {c.share[1].mean():.2f}"]
        for name, c in contrasts.items()
    ],
    "Test accuracy and mean audio share of one static and one dynamic model, seed 0; chance is "
    "10 %.",
)

# %% tags=["nbval-check-output"]
noisy_accuracy = {name: c.noisy.accuracy for name, c in contrasts.items()}
assert (
    noisy_accuracy["static (uniform)"] > noisy_accuracy["dynamic (vanilla)"] + 0.05
)
print(
    "under noise the better fusion is:", max(noisy_accuracy, key=noisy_accuracy.get)
)

# %% [markdown]
# Is it a matter of one seed? The package ships a record of the same experiment over twelve seeds
# that were not used to choose any setting. The next cell reads it.

# %%
from rollingq_core.plots import mean_interval, of_method
from rollingq_core.records import read_record

record = read_record("comparison-digits-P")
vanilla = of_method(record["runs"], "vanilla")

# %% tags=["nbval-check-output"]
for key in ("share_normal", "share_noisy"):
    mean, half = mean_interval([run[key] for run in vanilla])
    print(
        f"{key}: {mean:.2f} ± {half:.2f} (mean of {len(vanilla)} seeds, 95 % interval)"
    )

# %% [markdown]
# ## What it costs
#
# Here are both models on normal sound and on noise, over the same twelve seeds. Chance is 10 %.

# %% tags=["hide-input"]
from rollingq_core.plots import accuracy_table

levels = record["levels"]
accuracy_table(
    record["runs"],
    levels,
    ["uniform", "vanilla", "rollingq"],
    "Test accuracy in % (mean ± standard deviation over 12 seeds) as noise is mixed into the "
    "audio; mean audio share, normal → noise; correlation of the share with “is noise”.",
)

# %% [markdown]
# Read the table twice. First the static row: with all attention equal, the model keeps far more
# of its accuracy when audio fails, since half of its weight was on vision all along. On these
# digits it is the best model even with clean audio. Dynamic fusion, which *could* look at each
# sample, ends up below it.

# %% tags=["nbval-check-output"]
from rollingq_core.plots import paired_difference, signed

for level in (0.0, 0.5, 1.0):
    place = levels.index(level)
    mean, half = paired_difference(
        record["runs"],
        "vanilla",
        "uniform",
        lambda run, i=place: run["accuracy"][i],
    )
    print(
        f"noise {level}: vanilla − uniform = {signed(100 * mean, 1)} ± {100 * half:.1f} points"
    )

# %% [markdown]
# Then the last row, RollingQ: the same dynamic fusion, except that its query was turned a few
# times during training. It keeps dynamic fusion's form and gets back a part of what was lost. How
# much of that is due to RollingQ's idea, and how much to turning the query at all, is a question
# that needs controls. {doc}`07_training` has them.
#
# ## Why would training do this?
#
# The paper's answer is a loop that feeds itself.
#
# 1. Audio is easier to learn here, so early in training its keys are the more useful ones, and the
#    query turns toward them.
# 2. A token with more attention gets more gradient. Audio's encoder learns faster still.
# 3. Better keys attract more attention. Back to 1.
#
# In the end the query points so firmly along the audio keys that their quality in *this* sample
# hardly matters: even the keys of noise lie nearer to the query than those of a clear picture.
# {doc}`04_keys` shows these keys. {doc}`05_rolling` turns the query back.
#
# ## What to conclude, and what not
#
# - **Conclude**: a fusion that can adapt need not do so. A high share that stays high under noise
#   is static in all but name, and worse here than a static share of about one half.
# - **Don't conclude** that attention never notices noise. The share does fall a little, and in
#   other settings it falls more: chapter 7 has real human speech as well.
# - **Don't conclude** anything about large pretrained models from small digits. The mechanism is
#   the same; the numbers are not.
#
# ```{exercise} Static in name only
# :label: ex-static-1
# A model gives audio a share of exactly 0.9 in every sample. Is it dynamic or static? Can its
# $p_j$ still differ from sample to sample?
# ```
#
# ```{solution} ex-static-1
# :class: dropdown
# Between the modalities it is static: 0.9 against 0.1, always. Within each modality it may still
# be dynamic and choose among the tokens. The share does not see that; the full row $p$ does.
# ```
#
# ```{exercise} Break the other sense
# :label: ex-static-2
# Use `attention_contrast(dynamic.model, data.test, "visual")`. What happens to the share of
# vision when vision is noise, and to the accuracy? Why is that no proof that the model listens?
# ```
#
# ```{solution} ex-static-2
# :class: dropdown
# The share of vision is small with and without noise, so accuracy hardly changes. A model that
# ignores an input is perfectly robust to losing it.
# ```
#
# ```{exercise} A cheap dynamic baseline
# :label: ex-static-3
# Train `run_method("vanilla", ...)` on data loaded with `token_noise=0.5`. Half of all tokens are
# now noise during training too. Does attention learn to leave noise alone?
# ```
#
# ```{solution} ex-static-3
# :class: dropdown
# Run it and compare `contrast.pearson` with the value above. Seeing noise in training teaches the
# keys to look different where there is noise. It also shows what the broken microphone really
# tests: a kind of input that training never showed.
# ```
#
# ## Summary
#
# - Static fusion weighs modalities the same way in each sample; dynamic fusion can look at the
#   sample first.
# - The attention share of a modality is the softmax mass on its tokens.
# - Trained in the usual way, the dynamic fusion here puts most of its attention on audio, and
#   leaves it there when audio is replaced by noise.
#
# **Further reading.** The paper is {cite:t}`ni2025rollingq`. Imbalance between modalities was
# studied before in static fusion, for example by {cite:t}`peng2022balanced`.
