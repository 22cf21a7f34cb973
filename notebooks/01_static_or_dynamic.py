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
# **Recap.** The introduction names the paper that this book is about, and what it claims: a fusion by
# attention stops listening to its data, and turning one vector cures it. This chapter shows the first
# half on a model small enough to train while you read.
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

    package = "rollingq-core[data,plots]"
    url = "https://github.com/rollingq-book/rollingq-book"
    get_ipython().run_line_magic("pip", f'install -q "{package} @ git+{url}"')

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
# in how the tokens are weighed, and in nothing else. Each encoder first learns the digits by itself;
# then everything learns together. The book calls this *setting P*. It is our small stand-in for the
# paper {cite}`ni2025rollingq`, most of whose encoders start from weights pretrained on a large
# collection of images.

# %%
from rollingq_core.runs import train
from rollingq_core.settings import SETTINGS

static = train("uniform", data, setting=SETTINGS["P"], seed=0)
dynamic = train("mt", data, setting=SETTINGS["P"], seed=0)

# %% [markdown]
# Which sense is the better one? A *probe*, a linear classifier on one encoder's features, tells.

# %% tags=["nbval-check-output"]
from rollingq_core.evaluation import attention_contrast

contrast = attention_contrast(dynamic.model, data.test, "audio")
probes = contrast.normal.probe_accuracy
assert probes["audio"] > probes["visual"] + 0.1
print({name: f"{accuracy:.0%}" for name, accuracy in probes.items()})

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

# %% tags=["nbval-check-output"]
normal, noisy = contrast.share
trusted = float((noisy > 0.5).float().mean())
assert trusted > 0.9 and normal.mean() > noisy.mean() + 0.02
print(f"mean share of audio: {normal.mean():.2f}, as noise: {noisy.mean():.2f}")
print(f"samples in which noise gets most of the attention: {trusted:.0%}")

# %% [markdown]
# The share falls a little. But in nearly every sample the model still gives most of its attention to
# a sense that says nothing at all. One number sums this up: the correlation of the share with "the
# audio is noise", over all samples of both kinds. At −1 the share alone would tell noise from sound;
# at 0 it would tell nothing.

# %% tags=["nbval-check-output"]
assert -0.5 < contrast.pearson < -0.1
print(f"correlation of the share with noise: {contrast.pearson:.2f}")

# %% [markdown]
# And the answers? Here is what the noise costs each of the two models.

# %% tags=["hide-input"]
from rollingq_core.plots import Table

models = {"static (uniform)": static.model, "dynamic (vanilla)": dynamic.model}
contrasts = {
    name: attention_contrast(model, data.test, "audio")
    for name, model in models.items()
}


def arrow(pair, percent=False):
    return " → ".join(f"{100 * x:.0f}" if percent else f"{x:.2f}" for x in pair)


# %% tags=["nbval-check-output"]
accuracy = {n: (c.normal.accuracy, c.noisy.accuracy) for n, c in contrasts.items()}
shares = {n: [x.mean() for x in c.share] for n, c in contrasts.items()}
assert accuracy["static (uniform)"][1] > accuracy["dynamic (vanilla)"][1] + 0.05
assert accuracy["dynamic (vanilla)"][0] > accuracy["dynamic (vanilla)"][1] + 0.5
Table(
    ["fusion", "accuracy, %", "audio share"],
    [[n, arrow(accuracy[n], percent=True), arrow(shares[n])] for n in models],
    "From normal audio to noise: test accuracy and mean audio share of one static and one dynamic "
    "model, seed 0. Chance is 10 %.",
)

# %% [markdown]
# Is it a matter of one seed? The package ships a record of the same experiment over twelve seeds
# that were not used to choose any setting. The next cell reads it.

# %%
from rollingq_core.plots import mean_interval, of_method
from rollingq_core.records import read_record

record = read_record("comparison-digits-P")
vanilla = of_method(record["runs"], "mt")

# %% tags=["nbval-check-output"]
print(f"mean of {len(vanilla)} seeds ± half width of its 95 % interval")
for key in ("share_normal", "share_noisy", "pearson"):
    mean, half = mean_interval([run[key] for run in vanilla])
    print(f"{key}: {mean:.2f} ± {half:.2f}")

# %% [markdown]
# ## What it costs
#
# Here are both models as noise is mixed into the audio bit by bit, over the same twelve seeds. A third
# one is in the picture, RollingQ: the same dynamic fusion, except that its query was turned six times
# early in training. Chapter 5 explains what that means; here it only shows where the book is heading.

# %% tags=["hide-input"]
from rollingq_core.plots import noise_curves

levels = record["levels"]
BookFigure(
    noise_curves(
        record["runs"],
        levels,
        ["uniform", "mt", "mt+rollingq"],
        "Under noise dynamic fusion loses more than static fusion",
    ),
    caption="Test accuracy over the share of noise in the audio: at 0 it is clean, at 1 noise alone. "
    "Mean of 12 seeds with its 95 % interval, digits, setting P. Chance is 10 %.",
    alt="Three falling curves. The uniform model lies on top everywhere, the vanilla one below; "
    "RollingQ starts with vanilla, lies clearly above it in the middle and meets it at the end.",
)

# %% tags=["nbval-check-output"]
from rollingq_core.methods import METHODS

print("noise      0 /  0.5 /    1, accuracy in %")
for method in ("uniform", "mt", "mt+rollingq"):
    rows = [run["accuracy"] for run in of_method(record["runs"], method)]
    means = [100 * mean_interval(column)[0] for column in zip(*rows, strict=True)]
    label = METHODS[method].label
    print(f"{label:9}", " / ".join(f"{means[at]:.1f}" for at in (0, 2, 4)))

# %% [markdown]
# Read it twice. First the static model: with all attention equal, it keeps far more of its accuracy
# when audio fails. On these digits it is the best of the three even with clean audio. Dynamic fusion,
# which *could* look at each sample, ends up below it at every level. Pairing the models by seed gives
# the differences an interval:

# %% tags=["nbval-check-output"]
from rollingq_core.plots import paired_difference, signed


def points(method, baseline, place):
    """Return the paired difference at one noise level in points, and its half width."""
    mean, half = paired_difference(
        record["runs"], method, baseline, lambda run: 100 * run["accuracy"][place]
    )
    return mean, half


for place, level in enumerate(levels):
    mean, half = points("mt", "uniform", place)
    assert mean < -half
    print(
        f"noise {level}: vanilla − uniform = {signed(mean, 1)} ± {half:.1f} points"
    )

# %% [markdown]
# Then RollingQ. Does it get back a part of what vanilla lost?

# %% tags=["nbval-check-output"]
clear = []
for place, level in enumerate(levels):
    mean, half = points("mt+rollingq", "mt", place)
    clear += [level] if mean > half else []
    print(
        f"noise {level}: RollingQ − vanilla = {signed(mean, 1)} ± {half:.1f} points"
    )
assert clear == [0.5, 0.75]
best = max(sum(points("mt+rollingq", "uniform", place)) for place in range(5))
assert best < 0
print("the interval lies above 0 at noise", clear)
print(f"RollingQ − uniform, highest upper end of an interval: {signed(best, 1)}")

# %% [markdown]
# At noise 0.5 and 0.75 it does. On clean audio, at 0.25, and where audio is noise
# alone, the interval covers 0: these twelve seeds show no gain there. How much of the gain is due to
# RollingQ's idea, and how much to turning the query at all, is a question that needs controls.
# {doc}`07_training` has them.
#
# ## Why would training do this?
#
# The paper's answer is a cycle that feeds itself.
#
# 1. The model comes to prefer the modality with the better features, and gives it more attention.
# 2. A modality with more attention receives larger gradients.
# 3. So its features become better still. Back to 1.
#
# {doc}`03_cycle` puts each step to the test. What the cycle leaves behind, according to the paper, is
# a gap: the keys of the favoured modality lie nearer to the query, whatever they hold. That much can
# be looked up in our model at once.

# %% tags=["nbval-check-output"]
kinds = {"normal": contrast.normal, "as noise": contrast.noisy}
for name, seen in kinds.items():
    a, v = seen.cosines.mean(0)
    print(f"audio {name:8}: mean cosine with audio {a:+.1f}, with vision {v:+.1f}")
ahead = (contrast.noisy.cosines[:, 0] > contrast.noisy.cosines[:, 1]).float().mean()
assert ahead > 0.95 and abs(contrast.normal.cosines[:, 0].mean()) < 0.3
print(f"samples in which noise lies nearer than the picture: {ahead:.0%}")

# %% [markdown]
# The query does not point along the audio keys: it stands at about a right angle to them. It turns its
# *back on vision*. So even the keys of noise lie nearer to it than those of a clear picture. Why a
# gap of that kind keeps attention from reacting is the subject of {doc}`04_keys`. {doc}`05_rolling`
# turns the query.
#
# ## What to conclude, and what not
#
# - **Conclude**: a fusion that can adapt need not do so. A high share that stays high under noise
#   is static in all but name, and worse here than a static share of about one half.
# - **Conclude**: turning the query in training helps here against partly noisy audio, compared with
#   not turning it. It does not reach the static model at any level.
# - **Don't conclude** that attention never notices noise. The share does fall a little, and in
#   other settings it falls more: chapter 7 has real human speech as well.
# - **Don't conclude** anything about large pretrained models from small digits. The question is the
#   same; whether the answer is, these runs cannot tell.
#
# ## Exercises
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
# ```{exercise} The share of the static model
# :label: ex-static-2
# With a pencil: why is the audio share of the static model 0.47, and not 0.50? What would it be with
# 49 audio tokens, one a time step?
# ```
#
# ```{solution} ex-static-2
# :class: dropdown
# Each of the $7 + 8$ tokens has mass $1/15$, and seven of them are audio: $7/15 = 0.467$. With 49
# audio tokens it would be $49/57 = 0.86$. The share of a static fusion is decided by how finely each
# input is cut.
# ```
#
# ```{exercise} Code: break the other sense
# :label: ex-static-3
# Use `attention_contrast(dynamic.model, data.test, "visual")`. What happens to the share of
# vision when vision is noise, and to the accuracy? Why is that no proof that the model listens?
# ```
#
# ```{solution-start} ex-static-3
# :class: dropdown
# ```

# %% tags=["nbval-check-output"]
blind = attention_contrast(dynamic.model, data.test, "visual")
before, after = (x.mean() for x in blind.share)
lost = blind.normal.accuracy - blind.noisy.accuracy
assert before < 0.2 and after < 0.2 and lost < 0.1
print(f"share of vision: {before:.2f}, as noise: {after:.2f}")
print(f"accuracy lost: {100 * lost:.1f} points")

# %% [markdown]
# The share of vision is small with and without noise, and little accuracy is lost. A model that hardly
# uses an input is robust to losing it. That is no merit of attention: it would be as robust if it could
# not look at the sample at all.
#
# ```{solution-end}
# ```
#
# ```{exercise} Code: noise in training
# :label: ex-static-4
# One token in five is noise already, in all splits. Train vanilla models on data loaded with
# `token_noise=0.0` and with `token_noise=0.5` instead. Does attention leave broken audio more readily
# the more noise the training had, on the test split of the chapter? Does the accuracy profit?
# ```
#
# ```{solution-start} ex-static-4
# :class: dropdown
# ```

# %%
reactions = {0.2: contrast}
for noise in (0.0, 0.5):
    other = load_dataset("digits", seed=0, token_noise=noise)
    trained = train("mt", other, setting=SETTINGS["P"], seed=0).model
    reactions[noise] = attention_contrast(trained, data.test, "audio")

# %% tags=["nbval-check-output"]
for noise, found in sorted(reactions.items()):
    pair = arrow((found.normal.accuracy, found.noisy.accuracy), percent=True)
    moved = arrow([x.mean() for x in found.share])
    correlation = signed(found.pearson, 2)
    print(f"{noise}: share {moved}, correlation {correlation}, accuracy {pair} %")
assert reactions[0.0].pearson > 0 > reactions[0.5].pearson > -0.3

# %% [markdown]
# Without any noise in training, attention even moves a little *toward* broken audio. With one noisy
# token in five it moves away, and with half of all tokens noisy no further than that. Accuracy on broken
# audio is near chance in all three. So some noise in training teaches attention something, but more of
# it does not teach more, and what is learned is too little to help. (One seed each; {doc}`09_noise`
# has more.)
#
# ```{solution-end}
# ```
#
# ## Summary
#
# - Static fusion weighs modalities the same way in each sample; dynamic fusion can look at the
#   sample first.
# - The attention share of a modality is the softmax mass on its tokens.
# - Trained in the usual way, the dynamic fusion here puts most of its attention on audio, and
#   leaves it there when audio is replaced by noise. Its query points away from vision rather than
#   along audio.
#
# ## Further reading
#
# - {cite}`ni2025rollingq`, the paper.
# - {cite}`peng2022balanced`: imbalance between modalities in static fusion, studied before.
