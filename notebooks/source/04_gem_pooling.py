# %% [markdown]
# # 04 · GeM pooling
#
# **The question:** does how we pool matter?
#
# A network looks at a hand in many places, and has to end with one number. The plain way is to average the places. A
# *generalised mean*, GeM, gives large values more weight. Today you build it, see which places it listens to, and
# measure whether it is better.
#
# **After this notebook you can**
#
# - build GeM, and say where it stands between the average and the maximum;
# - explain why its map must not be negative, why it is normed, and how many bits it needs;
# - derive how GeM changes with its p, and say what training does to p;
# - read a response map, and say what it does not show;
# - compare two parts of a network over several seeds, and claim no more than the interval allows.
#
# **Run a cell** with Shift + Enter, from top to bottom.
#
# **You need** Python with functions, PyTorch tensors, and for one section logarithms and the chain rule.
#
# **Time:** about 130 minutes with the exercises, one or two of them computing on two processor cores. The first start
# draws the 2,400 films, if no other notebook has; that takes a minute more. To save time, run *How GeM changes with
# p* and *How many bits?* without reading.

# %%
# On Colab this fetches the course and installs what is missing; on your own machine it changes nothing.
import importlib.util, os, runpy, subprocess, sys

ADDRESS, TAG = "https://github.com/bonexage/bonexage", "v0.1.0"  # a fork has its own
if importlib.util.find_spec("bonexage_utils") is None:
    if not os.path.isdir("../bonexage_utils"):
        if not os.path.isdir("bonexage"):
            print(f"Fetching the course (25 MB) from {ADDRESS}: about half a minute")
            git = f"git -c advice.detachedHead=false clone --quiet --depth=1 --branch={TAG}"
            if subprocess.run(f"{git} {ADDRESS} bonexage", shell=True).returncode:
                sys.exit(f"Not fetched: unzip {ADDRESS}/archive/{TAG}.zip here as folder bonexage, run this again")
        os.chdir("bonexage/notebooks")
    runpy.run_path("../bonexage_utils/course/bootstrap.py", run_name="__main__")
    sys.path.insert(0, os.path.abspath(".."))
import bonexage_utils

# %%
from bonexage_utils.course import start

course = start()

# %% [markdown]
# ## One number out of many
#
# Notebook 03 started from random weights. From here on we start with a network that has already learned something about
# hands. The course ships it:

# %%
from bonexage_utils.course.frozen import BACKBONE
from bonexage_utils.weights import read_record

record = read_record(BACKBONE)
for what in ("backbone", "task", "read_by", "films_trained_on", "size_px"):
    print(f"{what:17} {record[what]}")
for state in ("width", "fusion"):
    score = record["score"]
    said, mean = score[f"{state}_error"], score[f"{state}_error_of_the_mean"]
    print(f"{state + ', other films':17} off by {said:.3f}; whoever always says the "
          f"mean, by {mean:.3f}")

# %% [markdown]
# It learned to *name the state of every ossification centre*: is it there, how wide is it (as a share of the shaft),
# how far has it fused (0 to 1)? It was never told a bone age or a sex, and its films are in none of our cohorts. It did
# not read its map through any pooling that we compare today, so no pooling has an advantage. The last two lines say how
# well it learned.
#
# We keep the network as it is, **frozen**, and look at the last map it makes. Forty hands were drawn for this notebook
# alone, and we know the place of every bone.

# %%
from bonexage_utils.course.nb04.pooling import hands_and_maps

hands, maps = hands_and_maps()  # draws forty hands and reads their maps: some seconds

# %% tags=["nbval-check-output"]
print("films", hands.films.shape, "→ maps", tuple(maps.shape))

# %% [markdown]
# Read the second shape: films, channels, rows, columns. So a map has 10 × 10 places. A channel asks one question at
# every place, such as "something round and bright here?". A head wants *one* answer for each channel. **Pooling** makes
# it: 100 numbers become 1.

# %%
from bonexage_utils.course.diagram import draw_way

draw_way("pooling")

# %% [markdown]
# Take one channel at four places, short enough to compute by hand:

# %% tags=["nbval-check-output"]
import numpy as np

quiet_but_one = np.array([0.2, 0.4, 0.5, 3.0])
print("average", quiet_but_one.mean(), "| maximum", quiet_but_one.max())

# %% [markdown]
# A row that says 1 everywhere has nearly the same average. And the maximum sees the last place only. We want something
# between the two. Raise each number to a power p, so that the large ones grow most. Take the average. Then take the
# root, to come back to the old units:

# %% tags=["nbval-check-output"]
for p in (1, 2, 3, 10, 100):
    power = quiet_but_one**p
    print(f"p = {p:3}: each to the power p, then the mean, then the root: "
          f"{power.mean() ** (1 / p):.3f}")

# %% [markdown]
# p = 1 gives the average, 1.025. The result grows with p, and at p = 100 it is almost the maximum. This generalised
# mean is called GeM:
#
# $$\mathrm{GeM}_p(x) = \Big(\frac{1}{n}\sum_{i=1}^{n} x_i^{\,p}\Big)^{1/p}$$
#
# ### Exercise: GeM for a whole batch of maps
#
# Write `my_gem(x, p)` in PyTorch: from a map (B, C, H, W) to (B, C). Clamp x at 1e-6 from below. Compute in float32,
# even if the map comes in float16.

# %%
from bonexage_utils.course.nb04 import exercises

ex = exercises.build(course)  # takes some seconds

# %% tags=["nbval-check-output"]
def my_gem(x, p):
    ...


ex.gem.check(my_gem)

# %%
# ex.gem.hint()
# ex.gem.solution()

# %% [markdown]
# One way to write it, and the package's, on the hands' maps:

# %% tags=["nbval-check-output"]
import torch

from bonexage_utils.model import AveragePool, GeM, MaxPool


def gem(x, p):
    return x.float().clamp(min=1e-6).pow(p).mean((-2, -1)).pow(1 / p)


with torch.no_grad():
    for p in (1.0, 3.0, 7.5):
        print(f"p = {p}: open and package agree:",
              torch.allclose(gem(maps, p), GeM(p)(maps), atol=1e-4))

# %% [markdown]
# From here on we use the package's. Its two ends, on the same maps:

# %% tags=["nbval-check-output"]
with torch.no_grad():
    print("p = 1 is the average:", torch.allclose(GeM(1)(maps), AveragePool()(maps),
                                                  atol=1e-4))
    short = {p: (1 - GeM(p)(maps) / MaxPool()(maps).clamp(min=1e-6)).max().item()
             for p in (100, 10_000)}
print("p = 100 is within 5 % of the maximum:", short[100] < 0.05)
print("p = 10,000 within a tenth of a per cent:", short[10_000] < 0.001)

# %% [markdown]
# Now between the ends: our four numbers, four that are nearly equal, and one channel of a hand's map.

# %%
from bonexage_utils.course.nb04.pooling import draw_from_mean_to_max

row = hands.shown()  # a child between seven and eleven
loudest = maps[row, maps[row].amax((-2, -1)).argmax()].flatten()
draw_from_mean_to_max({"0.2, 0.4, 0.5, 3.0": torch.tensor(quiet_but_one),
                       "nearly equal": torch.tensor([1.0, 1.1, 0.9, 1.2]),
                       "the loudest channel of a hand": loudest})

# %% [markdown]
# Horizontal axis: p; each tick is about three times the one before. Vertical axis: GeM, as a multiple of the row's
# mean. Thin lines: each row's maximum. Every curve starts at 1, never falls, and ends near its maximum. Where all
# places say nearly the same, p hardly matters.
#
# ## First of all: no negative numbers
#
# Why the clamp? A ResNet's map is never negative: its ReLU cuts off all below zero. Our ConvNeXt ends in a norm. This
# is its map of eight hands, as the norm leaves it:

# %%
from bonexage_utils.course.nb04.pooling import draw_signed
from bonexage_utils.devices import standardise, to_unit
from bonexage_utils.model import Features

convnext = Features(BACKBONE, "phantom").eval()
images = standardise(to_unit(torch.from_numpy(hands.films[:8])[:, None]),
                     hands.preprocessing)
with torch.no_grad():
    signed, lifted = convnext.body(images), convnext(images)
draw_signed(signed, lifted)

# %% [markdown]
# Left: the map after the norm (the first bar holds all below −4). The orange part is negative, and it *means*
# something: "surely nothing round here". A clamp makes all of it 0.000001, a strong no and a weak no alike. Right: a
# softplus, log(1 + eˣ), makes every number positive and keeps their order. Does it matter? Clamp and power with p = 1
# should give the average:
#
# <!-- from elsewhere: −4 (the axis) -->

# %%
with torch.no_grad():
    average, clamped = signed.mean((-2, -1)), gem(signed, 1.0)
    lifted_off = (gem(lifted, 1.0) - lifted.mean((-2, -1))).abs().max()
print(f"below zero, and lost to the clamp: {(signed < 0).float().mean():.0%} of the "
      f"map")
print(f"signed map: averages from {average.min():.2f} to {average.max():.2f}; "
      f"clamp-and-power, p = 1, is off by {(clamped - average).abs().mean():.2f} on "
      f"average")
print(f"after softplus: off by {lifted_off:.6f} at most")

# %% tags=["nbval-check-output"]
print("more than a third of the signed map is negative:",
      (signed < 0).float().mean().item() > 1 / 3)
print("softplus by hand is the package's map:",
      torch.allclose(torch.log1p(signed.exp()), lifted, atol=1e-3))

# %% [markdown]
# On the signed map, "GeM with p = 1" is not the average at all, because it sees only the positive part. That would be
# no comparison of poolings. So the package takes the softplus first, for *every* pooling alike.
#
# ### Why the norm stays
#
# Many people drop ConvNeXt's last norm together with the classifier. What does a map without a norm look like? The
# course also ships a small ResNet that learned the same task:

# %%
def loudness(values):  # of a place: root mean square over the channels
    return values.square().mean(1).sqrt().flatten(1)


with torch.no_grad():
    no_norm = Features("resnet10t", "phantom").eval()(images)
for name, values in {"ResNet, no norm at the end": no_norm,
                     "ConvNeXt, its norm": signed,
                     "ConvNeXt, after softplus": lifted}.items():
    loud = loudness(values)
    ratio = (loud.max(1)[0] / loud.median(1)[0]).median()
    print(f"{name:26}: the loudest place of a hand is {ratio:.1f} times as loud as the "
          f"median one")

# %% [markdown]
# Compare the lines. Without a norm, one place is many times as loud as the others. After a norm, places are almost
# equally loud, and differ in *what* they say. A network should keep what it was pretrained with: the ConvNeXt keeps its
# norm, and the ResNet gets none.
#
# <details><summary>For the curious: what a power makes of a loud place</summary>
#
# Without a norm, a loud place is loud in all channels at once. A power p turns a ratio r into r to the power p. At p =
# 3, a place that is twice as loud counts eight times as much, and one that is ten times as loud counts a thousand times
# as much. Then a bone, an edge or a letter of lead drowns out all the rest.
# </details>
#
# ## How GeM changes with p
#
# A network can learn p like any weight, if we know the slope of GeM in p. Write m for GeM. The logarithm takes the root
# away:
#
# $$\log m = \frac{1}{p}\,\log\Big(\frac1n\sum_i x_i^{\,p}\Big)$$
#
# ### Exercise: the slope
#
# Take the derivative in p of both sides. On the left it is m′/m. On the right, p stands in two places; the derivative
# of $x^p$ is $x^p \log x$. Solve for m′. Write it as `my_slope(x, p)` for a row of positive numbers, a torch tensor
# (`x.log()`, `x.mean()`).

# %% tags=["nbval-check-output"]
def my_slope(x, p):
    ...


ex.slope.check(my_slope)

# %%
# ex.slope.hint()
# ex.slope.solution()

# %% [markdown]
# <details><summary>The derivation, in three lines</summary>
#
# The product rule on the right, with $S = \frac1n\sum x_i^p$, so that $\log S = p \log m$:
#
# $$\frac{m'}{m} = -\frac{1}{p^2}\log S + \frac1p\,\frac{\sum x_i^p\log x_i}{\sum x_i^p}
#  = \frac1p\Big(\sum_i w_i\log x_i - \log m\Big), \qquad w_i = \frac{x_i^p}{\sum_j x_j^p}$$
#
# $$m' = \frac{m}{p}\Big(\sum_i w_i \log x_i - \log m\Big)$$
#
# </details>
#
# $w_i$ is what place $i$ contributes to the sum, its **share**. The formula takes the mean of log x, weighted by the
# shares, and compares it with log m. Is it right? We nudge p a little to both sides, and let PyTorch differentiate as
# well:

# %% tags=["nbval-check-output"]
x, p = torch.tensor(quiet_but_one), 3.0
m, w = gem(x.reshape(1, 1, 1, 4), p).double().item(), x**p / (x**p).sum()
formula = m / p * ((w * x.log()).sum() - np.log(m))
nudged = [((x**q).mean() ** (1 / q)).item() for q in (p - 1e-5, p + 1e-5)]
print(f"formula {formula:.5f} | nudged {(nudged[1] - nudged[0]) / 2e-5:.5f}")

layer = GeM(p).double()
inputs = torch.rand(2, 3, 4, 4, dtype=torch.float64,
                    generator=torch.Generator().manual_seed(0)).requires_grad_()
print("package, against nudges of p and of the map:", torch.autograd.gradcheck(
    lambda log_p, x: torch.func.functional_call(layer, {"log_p": log_p},
                                                (x,)), (layer.log_p, inputs)))

# %% [markdown]
# Formula and nudge agree. `True` means that `gradcheck` nudged every input of the package's GeM and found the same
# slopes.
#
# What does training do with that slope? The chain rule multiplies it by how the loss changes with m. Since m′ is never
# negative, the loss decides the sign: **if larger pooled values would lower the loss, p goes up; if smaller ones would,
# p goes down.**
#
# <details><summary>For the curious: why m′ is never negative</summary>
#
# Put $\log w_i = p\log x_i - \log\sum x_j^p$ into the formula, and you get
# $m' = \frac{m}{p^2}\,\sum_i w_i \log(n\,w_i)$: the Kullback–Leibler divergence between the shares and an even share.
# It is zero only if all places say the same. The less even the shares are, the faster GeM rises.
# </details>
#
# ### p stays positive, and nothing pulls at it
#
# A p of zero would divide by zero. So the package learns log p: then p = exp(log p) is always positive. And **weight
# decay** must not touch it. Decay pulls a weight towards zero, and log p = 0 is p = 1. It would pull GeM towards the
# average.

# %% tags=["nbval-check-output"]
from bonexage_utils.model import BoneAgeNet, parameter_groups

net = BoneAgeNet(BACKBONE)
decayed, spared = parameter_groups(net, weight_decay=0.05)
print("p at the start:", round(net.pool.p.item(), 3))
print("spared from decay:", any(q is net.pool.log_p for q in spared["params"]),
      "with decay", spared["weight_decay"])
with torch.no_grad():
    net.pool.log_p -= 5  # a wild step
print("after a wild step still positive:", net.pool.p.item() > 0)

# %% [markdown]
# ## How many bits?
#
# GPUs are fast in 16 bits. But float16 ends at 65,504, and has nothing between zero and 0.00000006. Do the powers of
# our maps fit in?
#
# <!-- from elsewhere: 0.00000006 (the number type) -->

# %%
print(f"largest value {maps.max():.1f}, smallest {maps.min():.6f}")
for p in (1, 3, 6, 10):
    power = maps.half().float() ** p
    print(f"p = {p:2}: {(power > 65504).sum():6,} values beyond float16, "
          f"{(power < 6e-8).float().mean():6.1%} of all "
          "are zero to it")

# %% [markdown]
# Read down the two columns. At p = 10 more than a thousand values overflow, and p is learned: it may go there. Zeros do
# harm, too. Take a channel that is silent everywhere, clamped at 0.000001, and ask for the slope in p:
#
# <!-- from elsewhere: 0.000001 (the clamp) -->

# %% tags=["nbval-check-output"]
for dtype in (torch.float16, torch.float32):
    q, silent = torch.tensor(3.0, requires_grad=True), torch.full((1, 1, 2, 2), 1e-6,
                                                                  dtype=dtype)
    silent.pow(q).mean((-2, -1)).pow(1 / q).sum().backward()
    print(dtype, "→ the slope is a number:", bool(q.grad.isfinite()))

# %% [markdown]
# In float16 the slope is not a number (NaN). One silent channel is enough: the next step makes p a NaN, and then the
# whole network. So the package computes GeM in float32. It also takes the largest value out before the power, and puts
# it back after the root.
#
# <details><summary>For the curious: where the NaN comes from, and why the largest value is taken out</summary>
#
# In float16 the third power of 0.000001 is zero. The root of zero is infinitely steep, and infinity times zero is not a
# number. With the largest value taken out, every place is at most 1, so no power overflows. The largest place is
# exactly 1, so the sum is never zero. (Another 16-bit type, bfloat16, reaches as far as float32, but keeps hardly three
# digits: notebook 07.)
# </details>
#
# Now three ways to compute GeM. *Wrong* is what is no number, or off by more than a hundredth of itself (of a
# thousandth, if that is larger):

# %%
from bonexage_utils.course.nb04.pooling import draw_precision

draw_precision(maps)

# %% [markdown]
# Horizontal axis: p. Vertical axis: how many of the pooled values are wrong; lower is better. A dot marks the first p
# at which any value is wrong.
#
# ### Exercise: a decision
#
# Your p starts at 3, is learned, and may go up to 20. Which is the cheapest that is right over the whole range:
# `"float16"`, `"float32"` or `"package"`? (Each computes a little more than the one before.)

# %% tags=["nbval-check-output"]
my_bits = ...
ex.bits.check(my_bits)

# %%
# ex.bits.hint()
# ex.bits.solution()

# %% [markdown]
# ## What does it listen to?
#
# Back to the shares. If place $i$ becomes one per cent louder, the pooled value should rise by $w_i$ per cent. So a
# share is the say that a place has. Check it:

# %% tags=["nbval-check-output"]
from bonexage_utils.course.nb04.pooling import shares

x = torch.tensor(quiet_but_one)
louder = x * torch.tensor([1.0, 1.0, 1.01, 1.0])  # the third place, by one per cent
for p in (1.0, 3.0):
    rise = ((louder**p).mean() / (x**p).mean()) ** (1 / p) - 1
    print(f"p = {p:.0f}: its share {shares(x[None], p)[0, 2]:.4f}, the pooled value "
          f"rises by {100 * rise:.4f} %")

# %% [markdown]
# It is so, to the digits shown. At p = 1 the third place had an eighth of the say. At p = 3 the last place has taken
# nearly all.
#
# Now draw the shares over the film, as a **response map**: the say of each place, averaged over the channels. An even
# share is one hundredth; yellow is four times that, or more. Where a place has little say, the film shows through.
# White lines: the ossification centres.

# %%
from bonexage_utils.course.nb04.pooling import choose_p, draw_responses

choose_p(hands.films[row], maps[row], hands.centres[row])

# %% [markdown]
# The same without a slider, at three p:

# %%
draw_responses(hands.films[row], maps[row], hands.centres[row])

# %% [markdown]
# Left, p = 1: the panel is almost one colour. After the softplus, a place with nothing to say stands at softplus(0) =
# 0.69, and not at 0. So in an average, black corners have nearly as much say as a wrist. At a larger p, fewer places
# have a say, and each of them has more. Do they hold bones? Most do. But look at the lower edge: there are shafts and
# the film's edge, but no centre.
#
# <details><summary>For the curious: two cautions</summary>
#
# Each place of the map has seen far more of the film than its own cell, so colours tell roughly where, not which bone.
# And these films are 320 pixels wide, for a finer map. At that size everything is twice as large as on the films that
# the network learned from. Where errors are measured, below, films have their old size. At that size a place is too
# coarse for a centre.
# </details>
#
# ### Exercise: a decision
#
# Bone age is spread over the whole hand. A pooling that listens to one place per channel wastes most of it. One that
# listens to all alike listens to black corners. Take the typical channel of that hand. Begin with its loudest place,
# and add one place after the other:
#
# <!-- from elsewhere: 0.69 (log 2) -->

# %%
exercises.draw_powers()

# %% [markdown]
# Horizontal axis: the number of places. Vertical axis: how much of the channel's sum they hold. **Which is the largest
# p at which half of the sum takes at least ten places?**

# %% tags=["nbval-check-output"]
my_power = ...  # 1, 2, 3 or 10
ex.power.check(my_power)

# %%
# ex.power.hint()
# ex.power.solution()

# %% [markdown]
# ## Predict first
#
# Three heads on the same frozen maps: GeM (p starts at 3 and learns), average, maximum. All else is equal: films,
# seeds, order of batches, epochs, learning rate. We measure the mean absolute error, MAE, in months. **Which has the
# lowest, `"GeM"`, `"average"` or `"maximum"`? And by how many months is GeM better than the average** (negative if you
# think it is worse)?

# %%
guess_winner = ...
guess_gain = ...  # months, such as 0.5

# %% [markdown]
# ## The experiment
#
# The network is frozen, so we make each film's map only once. The profile decides how large the films are. (With a GPU
# and a connection, the network is larger and has ImageNet's weights.)

# %%
from bonexage_utils.batches import film_sets
from bonexage_utils.course.frozen import frozen_backbone
from bonexage_utils.images import Preprocessing, measure_intensity

backbone, weights, size = frozen_backbone(course.profile)
sets = film_sets(course.cohort, ("train", "calibration"), size)[0]
preprocessing = Preprocessing(size, *measure_intensity(sets["train"].films,
                                                       sets["train"].rows))
print(f"{backbone}, weights '{weights}', {size} px")

# %%
from bonexage_utils.course.frozen import frozen_maps

train, judged = (frozen_maps(backbone, weights, films, preprocessing, course.device)
                 for films in sets.values())

# %%
print(f"maps of {len(train):,} training films to learn from, of {len(judged)} "
      f"calibration films to judge by")
print(f"each {tuple(train.maps.shape[1:])}")

# %% [markdown]
# We judge by *calibration* films: nothing has been chosen by them. (The test films stay locked until notebook 08.)
# Training a head is the loop of notebook 03 again, with maps in place of films:

# %%
from bonexage_utils.course.frozen import BATCH, LR, head_only
from bonexage_utils.model import age_loss, parameter_groups
from bonexage_utils.training import lr_factor, update_weights


# %%
def my_fit(seed, epochs, pooling):
    torch.manual_seed(seed)
    net = head_only(backbone, train.months, pooling=pooling).train()
    optimizer = torch.optim.AdamW(parameter_groups(net, weight_decay=0.05), lr=LR)
    rng, each = np.random.default_rng(seed), len(train) // BATCH
    for step in range(epochs * each):
        if step % each == 0:
            batches = torch.from_numpy(rng.permutation(len(train))).split(BATCH)
        rows = batches[step % each]
        said = net(train.maps[rows].float(), train.sex[rows])
        age_loss(said, train.months[rows], "smoothl1").backward()
        update_weights(net, optimizer, LR * lr_factor(step, epochs * each, 0.05))
    return net.eval()


# %% [markdown]
# The last line of the loop cuts long gradients, takes the step and clears them. A seed decides the first weights, the
# order of the films, and the dropout. So with the same seed the package's `fit_head` must end with the same head:

# %%
from bonexage_utils.course.frozen import fit_head, head_errors

mine, package = my_fit(0, 1, "gem"), fit_head(backbone, train, 0, 1, pooling="gem")
weights_of = package.state_dict()
print("after one epoch all weights are equal:", all(
    torch.equal(value, weights_of[name]) for name, value in mine.state_dict().items()))

# %% [markdown]
# From here on we use the package's. Each pooling gets the same seeds.

# %%
from tqdm import tqdm

seeds, epochs = {"fast": (2, 4), "cpu": (5, 20), "gpu": (5, 20)}[course.profile.name]


def heads(pooling):
    bar = tqdm(range(seeds), desc=pooling, leave=False)
    return [fit_head(backbone, train, seed, epochs, pooling=pooling) for seed in bar]


# %%
nets = {"GeM": heads("gem")}

# %%
nets |= {"average": heads("avg"), "maximum": heads("max")}

# %% [markdown]
# Two yardsticks first. The median by sex looks at no film. The *noise floor*: the labels of the simulated films have a
# reader's errors in them, so even somebody who knew every true bone age would be off by this much.

# %%
from bonexage_utils.course.frozen import yardsticks

from bonexage_utils.course.reveal import after_guess, beside

marks = yardsticks(course.cohort, course.cohort.split("calibration"))
for name, months in marks.items():
    print(f"{name:15} {months:5.1f} months")

# %%
off = {name: np.stack([np.abs(head_errors(net, judged)) for net in fitted])
       for name, fitted in nets.items()}
lines = [f"{name}: MAE {errors.mean():.2f} months; by seed {errors.mean(1).round(2)}"
         for name, errors in off.items()]
learned = [net.pool.p.item() for net in nets["GeM"]]
lines.append(f"learned p by seed: {np.round(learned, 2)}")
after_guess([guess_winner, guess_gain], "\n".join(lines))

# %% [markdown]
# How much of the way from the median to the floor have the three come?
#
# Now compare the numbers *within* a line: these heads differ only by luck. And on other films every line would be
# different. The interval below counts both.
#
# The last line: where p fell from 3, training moved GeM towards the average. Where it rose, towards the maximum.
#
# For each seed and each film, take GeM's error minus the other's. For the interval of their mean we draw films *and*
# seeds anew, with replacement, many times. (The training films and the backbone could have been others, too. The
# interval does not count that.)

# %%
from bonexage_utils.statistics import RESAMPLES, paired_over_seeds, verdict

film_by_film = off["GeM"] - off["average"]  # (seeds, films)
rng, films = np.random.default_rng(0), len(judged)
drawn_seeds = rng.integers(0, seeds, (RESAMPLES, seeds))
drawn_films = rng.integers(0, films, (RESAMPLES, films))
means = [film_by_film[drawn_seeds[k]][:, drawn_films[k]].mean()
         for k in range(RESAMPLES)]
ends = np.percentile(means, [2.5, 97.5])

# %%
apart = {other: paired_over_seeds(off["GeM"], off[other])
         for other in ("average", "maximum")}
package = apart["average"]
print("the package's mean and interval are the same:", np.allclose(
    [film_by_film.mean(), *ends], [package.value, package.low, package.high]))

# %%
from bonexage_utils.figures import BOYS, MUTED, Picture, new_figure

figure, ax = new_figure(6.5, 2.4)
for place, (other, difference) in enumerate(apart.items()):
    by_seed = (off["GeM"] - off[other]).mean(1)
    ax.plot(by_seed, np.full(seeds, place - 0.18), "|", color=MUTED, markersize=10)
    ends = [[difference.value - difference.low], [difference.high - difference.value]]
    ax.errorbar(difference.value, place, xerr=ends, fmt="o", color=BOYS, capsize=4)
ax.axvline(0, color="black", linewidth=0.8)
ax.set(yticks=(0, 1), ylim=(1.6, -0.6), xlabel="GeM's MAE minus the other's (months)")
_ = ax.set_yticklabels([f"GeM − {other}" for other in apart])

# %%
told = [f"GeM minus {other}: {difference} months, {verdict(difference, 'GeM', other)}."
        for other, difference in apart.items()]
drawn = Picture(figure, "Mean paired difference in absolute error with its 95 % "
                        f"interval, and each seed as a tick. {' '.join(told)}")
guesses = [guess_winner, guess_gain]
measured = {"lowest MAE": min(off, key=lambda name: off[name].mean()),
            "GeM better by, months": f"{-apart['average'].value:.2f}"}
after_guess(guesses, drawn, "\n".join(told), beside(measured, guesses))

# %% [markdown]
# Horizontal axis: months; left of the line GeM is better. The dot is the mean, the bar its 95 % interval. The grey
# ticks are the single seeds. If the bar crosses the line, these films cannot tell. Its ends say how large a difference
# they could have missed.

# %% [markdown]
# ### The claim, measured twice
#
# Once live, by us. Once on *real* films (`rsna100`: RSNA's, 100 pixels wide), recorded by a script that anyone can run.

# %%
from bonexage_utils.course.records import how_recorded, two_rows

claim = "GeM beats average pooling"
live = "phantom, live" if course.embedded else "your films, live"
rows = two_rows(claim, {name: off[name] for name in ("GeM", "average")}, len(train),
                live)
print(f"“{claim}”, for a frozen {backbone} with weights '{weights}'\n"
      + how_recorded(claim))
rows.T

# %% [markdown]
# The real films are small and squashed, and new to a backbone that has seen only phantoms: both errors are larger. Read
# the last row of each column: does it support "GeM beats average pooling"? Both answers hold *for a frozen backbone*.
# When the whole network trains, the answer may be another.
#
# Read the size, too. It is about a month or less. Our heads gain thirty months and more on the median, and two readers
# of the same film are half a year and more apart. What would you rather spend a week on?
#
# ## "It looks more at the bones"
#
# The second claim: *GeM looks more at ossification centres than average pooling.* We have forty hands, and know where
# their centres are. What part of the pooled response comes from centres, from shafts, from elsewhere (flesh, air,
# letters)? We compare with the *area* that they cover: an even response would give just that.
#
# We take the learned p, averaged over the seeds (or 3, where the heads had another backbone):
#
# <!-- from elsewhere: thirty (the median by sex and the heads, further up) -->

# %%
from bonexage_utils.course.nb04.pooling import draw_region_shares, region_shares

p = float(np.mean(learned)) if weights == "phantom" else 3.0
poolings = {"average": 1.0, f"GeM, p = {p:.1f}": p, "maximum": float("inf")}
seen = {name: region_shares(hands, maps, power) for name, power in poolings.items()}
area = region_shares(hands, maps, 0)
draw_region_shares(area, seen)

# %% [markdown]
# Vertical axis: a region's part of the response, divided by its part of the area. At the dashed line the response is
# even. Thin lines: 95 % intervals over the hands. Now hand by hand, in percentage points:

# %%
from bonexage_utils.statistics import bootstrap_mean

average, by_gem = (100 * seen[name] for name in list(seen)[:2])
more = bootstrap_mean(by_gem["centres"] - average["centres"])
print(f"on centres: area {100 * area['centres'].mean():.1f} %, average "
      f"{average['centres'].mean():.1f} %, "
      f"GeM {by_gem['centres'].mean():.1f} %; GeM minus average {more} points")
looks_more = "no difference to be seen"
if more.low > 0 or more.high < 0:
    looks_more = f"{'more' if more.low > 0 else 'less'} on centres"
print("verdict:", looks_more)

# %% [markdown]
# Before you quote that line, ask what else could explain it. The same forty hands:

# %%
torch.manual_seed(course.seed)
from bonexage_utils.course.nb04.pooling import maps_of

others = {"an untrained network": Features(BACKBONE),
          "the small ResNet": Features("resnet10t", "phantom")}
others = {name: maps_of(network, hands.films, hands.preprocessing)
          for name, network in others.items()}

# %%
shafts = bootstrap_mean(by_gem["shafts"] - average["shafts"])
steps = {name: region_shares(hands, made, p) - region_shares(hands, made, 1.0)
         for name, made in others.items()}
times = {name: table["centres"].mean() / area["centres"].mean()
         for name, table in seen.items()}
print("times the area, centres:",
      {name: round(float(ratio), 2) for name, ratio in times.items()})
print(f"the same step on shafts: {shafts} points")
for name, step in steps.items():
    print(f"the same step on centres, in {name}: "
          f"{bootstrap_mean(100 * step['centres'])} points")

# %% [markdown]
# - *How much?* The centres gain, as claimed. But GeM's gain is only about one point in a hundred.
# - *Only the centres?* No. The shafts gain more points. GeM listens more to *bone* of any kind.
# - *Learned?* In an untrained network the same step puts more on centres as well. GeM prefers loud places, and bone is
#   bright and full of edges. So this does not show that the network knows centres.
# - *Another backbone?* In the small ResNet, which learned the same task, the sign is the other one. So the claim is
#   about a backbone, not about GeM.
#
# And a **response is not a reason**. The head may ignore a loud channel. An *absent* centre is evidence, too, and no
# mask can hold it. And the backbone was pretrained to name these very centres, so its loud places tell about that task.
# Notebook 08 asks the network, not the map.
#
# The cell below stops if one day the numbers leave the band they had when this was written.

# %%
low, high = {"fast": (12, 36), "cpu": (6, 14), "gpu": (3, 34)}[course.profile.name]
for name, errors in off.items():
    mae = errors.mean()
    inside = low < mae < high
    assert inside or not course.embedded, f"{name}: MAE {mae:.1f}, not {low} to {high}"
assert all(1 < power < 20 for power in learned), f"learned p {learned}"

# %% [markdown]
# ## Self-check
#
# Answer aloud, then open.
#
# <details><summary>1. "With GeM we have an MAE of 9.1, with the average we had 9.4." What do you ask?</summary>
#
# Were both measured on the same films, film by film? With how many seeds each? What interval has the difference? Did
# anything else change (notebooks 00 and 03)? 0.3 months of one seed each can be luck.
# </details>
#
# <details><summary>2. Somebody finds that 40 of the films were exported twice. Does it matter here?</summary>
#
# Yes. Twins on both sides of the split make every network look better, most of all one that memorises (notebook 01).
# Clean the split first, then compare again.
# </details>
#
# <details><summary>3. Squashed films instead of letterboxed ones: does GeM repair what that loses?</summary>
#
# No. Pooling combines what the map contains. Squashing has changed the proportions of the bones (notebook 02), and no
# pooling gets them back.
# </details>
#
# ## What you can now say
#
# <!-- from elsewhere: 9.1, 9.4, 0.3 (an example) -->

# %%
kind_of = "simulated " if course.embedded else ""
print(f"For a frozen {backbone} with weights '{weights}', {len(judged)} "
      f"{kind_of}films, {seeds} seeds each:")
for other, difference in apart.items():
    print(f"- GeM against {other}: {verdict(difference, 'GeM', other)}; {difference} "
          f"months (95 % interval, paired).")
print(f"- GeM against average, {len(hands.films)} hands: {looks_more}; {more} points "
      f"of the response. "
      "A response is not a reason.")

# %% [markdown]
# ### Where you stand
#
# The exercises of this notebook: what is done, and what is open.

# %% tags=["nbval-check-output"]
from bonexage_utils.course.exercise import answered

answered(ex)

# %% [markdown]
# ## What we left out
#
# - **Training the whole network** with each pooling, on a GPU, with several seeds. Only then could GeM *teach* a
#   backbone where to look.
# - **A learning rate for each pooling.** Another rate could make a difference of tenths.
# - **One p for each channel**, as the first paper also tries, and **attention**, which learns *where* to listen.
# - **The child's sex**: every head here was told it. What that is worth: 05. **The bound** on the age: 06.
# - **Real films with masks.** Nobody has outlined their centres.
#
# ## Sources
#
# - Radenović, Tolias & Chum, *Fine-tuning CNN image retrieval with no human annotation*, IEEE TPAMI 2018: GeM as a
#   layer, its derivatives, p learned from 3 on.
# - Berman et al., *MultiGrain*, arXiv 1902.05509, 2019: GeM for classification, and how p goes with the image's size.
# - Liu et al., *A ConvNet for the 2020s*, CVPR 2022: ConvNeXt, whose last norm stands after its pooling; here it stands
#   before. He et al., *Deep Residual Learning*, CVPR 2016: ResNet.
# - Thodberg & Sävendahl, *Acad Radiol* 2010;17:1425: how far two readers differ.
