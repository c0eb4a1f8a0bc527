# %% [markdown]
# # 04 · GeM pooling
#
# **The question:** does how we pool matter?
#
# A network looks at a hand in a hundred places and has to end with one number. Somewhere the places are melted
# together. The plain way is to average them. A *generalised mean*, GeM, lets loud places count for more, and has a
# name for being better. Today you build it, look at what it listens to, and measure whether it is.
#
# **After this notebook you can**
#
# - build GeM, and say where it stands between the average and the maximum;
# - explain why its map must not be negative, why it is normed, and how many bits it needs;
# - derive how GeM changes with its p, check that by numbers, and say what training does to p;
# - read a response map, and say what it does not show;
# - compare two parts of a network over several seeds, and state a verdict no stronger than its interval.
#
# **Run a cell** with Shift + Enter, from top to bottom.
#
# **You need** Python with functions, and to have seen a PyTorch tensor; logarithms and the chain rule for one section.
# Notebook 03 helps; nothing here needs it to have been run.
#
# **Time:** 75 minutes with the exercises, one or two of them computing on two processor cores. The first start draws
# the 2,400 films, if no other notebook has, which takes a minute more.

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
# Notebook 03 started from random weights, and in a minute not every network gets far from the median. From here on we
# start with one that has learned something about hands already. The course ships it:

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
# It learned, on simulated films that are in none of our cohorts, to *name the state of every ossification centre*: is
# it there, how wide, how far fused? It has never been told a bone age or a sex. And it read its map through an
# attention of its own, not through any of the poolings we are about to compare, so that none of them has an advantage.
# The last two lines say how well it learned: a width is a share of the shaft's, fusion runs from 0 to 1. It is small,
# and learned on a laptop: it knows something of hands, not everything.
#
# We keep this network as it is, **frozen**, and look at the last map it makes. Forty hands were drawn for this notebook
# alone, with the place of every bone known. Their films are 320 pixels wide today, so that the map is not too coarse.

# %%
from bonexage_utils.course.nb04.pooling import hands_and_maps

hands, maps = hands_and_maps()  # draws forty hands and reads their maps: some seconds

# %% tags=["nbval-check-output"]
print("films", hands.films.shape, "→ maps", tuple(maps.shape))

# %% [markdown]
# Read the second shape: films, channels, then rows and columns of places, 10 × 10 of them. A channel is one question,
# such as "something round and bright here?", asked in a hundred places; what exactly it asks, nobody chose. A head
# wants *one* answer for each channel. **Pooling** makes it: 100 numbers to 1.

# %%
from bonexage_utils.course.diagram import draw_way

draw_way("pooling")

# %% [markdown]
# Take a row short enough for a hand calculation, one channel at four places:

# %% tags=["nbval-check-output"]
import numpy as np

quiet_but_one = np.array([0.2, 0.4, 0.5, 3.0])
print("average", quiet_but_one.mean(), "| maximum", quiet_but_one.max())

# %% [markdown]
# The average hardly tells this row from one that says 1 everywhere. The maximum hears the last place, and would not
# notice if the first three changed. Something between the two: raise each number to a power p, so that the large ones
# grow most; average; take the root, to come back to the old units:

# %% tags=["nbval-check-output"]
for p in (1, 2, 3, 10, 100):
    power = quiet_but_one**p
    print(f"p = {p:3}: each to the power p, then the mean, then the root: "
          f"{power.mean() ** (1 / p):.3f}")

# %% [markdown]
# p = 1 is the average, 1.025, to the last digit. With p the result climbs, and at p = 100 it has all but reached the
# maximum. That is the generalised mean, long known (Hölder), and as a layer of a network it is called GeM:
#
# $$\mathrm{GeM}_p(x) = \Big(\frac{1}{n}\sum_{i=1}^{n} x_i^{\,p}\Big)^{1/p}$$
#
# ### Exercise: GeM for a whole batch of maps
#
# Write `my_gem(x, p)` in PyTorch: a map (B, C, H, W) to (B, C). Clamp x at 1e-6 from below, and compute in float32,
# even if the map comes in float16 (why, further down).

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
# One way to write it, and the package's, on the hands' own maps:

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
# And between the ends. Three rows: our four numbers, four that are nearly equal, and one channel of a hand's own map:

# %%
from bonexage_utils.course.nb04.pooling import draw_from_mean_to_max

row = hands.shown()  # a child between seven and eleven
loudest = maps[row, maps[row].amax((-2, -1)).argmax()].flatten()
draw_from_mean_to_max({"0.2, 0.4, 0.5, 3.0": torch.tensor(quiet_but_one),
                       "nearly equal": torch.tensor([1.0, 1.1, 0.9, 1.2]),
                       "the loudest channel of a hand": loudest})

# %% [markdown]
# Horizontal axis: p, each tick about three times the one before. Vertical axis: what comes out, as a multiple of the
# row's mean. Thin lines: each row's maximum. Every curve starts at 1, never falls, and ends near its maximum. Where all
# places say nearly the same, p hardly matters. How *fast* a curve climbs we shall derive.
#
# ## First of all: no negative numbers
#
# What about that clamp? Some maps are never negative: a ResNet ends in a ReLU, which cuts. A ConvNeXt, such as ours,
# ends in a norm. The map that it makes of eight hands, as that norm leaves it:

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
# Left: the map as the norm leaves it (what lies below −4 stands in the first bar). The red part is negative, and it
# *means* something: "surely nothing round here". A clamp makes 0.000001 of all of it, strong no and faint no alike.
# Right: the same numbers through a softplus, log(1 + eˣ), which is positive everywhere and keeps their order. Does it
# matter? Clamp-and-power with p = 1 ought to be the average:
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
# On the signed map "GeM with p = 1" is not the average at all. To compare the two there is to compare a whole map with
# half a map, and to call the difference pooling. So the package lifts the map first, for *every* pooling alike. (It
# does so only where a map can be negative; a ResNet's ends in a ReLU and needs nothing.)
#
# ### Why the norm stays
#
# ConvNeXt's norm sits at the very end; many drop it together with the classifier. It brings each place to the same
# loudness. What is a map like that has none? The course ships a small ResNet, too, with the same schooling. Its map
# beside ours:

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
# Compare the lines. Without a norm some places are louder than others in all their channels at once, and a power p
# makes a ratio r into r to the p: at p = 3, twice as loud is eight times the say, and ten times as loud a thousand
# times. Whatever makes a place loud as a whole (a bone, but an edge or a letter of lead, too) then drowns the rest.
# After a norm the ratio is all but 1, and places differ in *what* they say. Neither is right in itself. But what was
# pretrained behind a norm was pretrained to hear it; so a ConvNeXt keeps its own, and a ResNet, pretrained without,
# gets none.
#
# ## How GeM changes with p
#
# p need not be chosen. It can be learned, like any weight, if we know the slope of GeM in p. Write m for GeM. The
# logarithm takes the root away:
#
# $$\log m = \frac{1}{p}\,\log\Big(\frac1n\sum_i x_i^{\,p}\Big)$$
#
# ### Exercise: the slope
#
# Take the derivative in p of both sides (on the left: m′/m; p stands in two places on the right; the derivative of
# $x^p$ is $x^p \log x$). Solve for m′, and write it as `my_slope(x, p)` for a row of positive numbers, a torch tensor
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
# The $w_i$ in it are what each place contributes to the sum, its **share**. The formula says: look at log x where the
# shares are, and compare it with log m. We do not trust a derivation, however. We nudge p a little to both sides, and
# let PyTorch differentiate as well:

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
# The same number twice, and a `True`: `gradcheck` nudged every input by a hair, in float64, because in float32 the
# nudge would drown in rounding.
#
# What does training make of that slope? The chain rule multiplies it by how the loss changes with m. Since m′ is never
# negative, the sign lies with the loss: **if larger pooled values would lower the loss, p goes up; if smaller ones
# would, p goes down.** One p serves all channels, so it follows what they want on the whole.
#
# <details><summary>For the curious: why m′ is never negative</summary>
#
# Put $\log w_i = p\log x_i - \log\sum x_j^p$ into the formula, and out comes
# $m' = \frac{m}{p^2}\,\sum_i w_i \log(n\,w_i)$: the Kullback–Leibler divergence between the shares and an even share.
# It is zero only if all places say the same. GeM climbs the faster, the more unevenly the places contribute.
# </details>
#
# ### p stays positive, and nothing pulls at it
#
# A p of zero divides by zero. So the package learns log p, and p = exp(log p) is positive whatever the optimiser does.
# And **weight decay** must not touch it. Decay pulls a weight towards zero; and log p = 0 is p = 1. It would quietly
# vote for the average.

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
# GPUs are fast in 16 bits. The number type float16 ends at 65,504 and has nothing between zero and 0.00000006. (Its
# sibling bfloat16 reaches as far as float32, but keeps hardly three digits: notebook 07.) Do the powers of our
# maps fit in?
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
# A power makes large what is large and small what is small: read down the two columns. At p = 1 nothing is lost, at p
# = 10 more than a thousand values overflow, and p = 10 is not extreme: p is learned and may wander. A single infinity
# makes the pooled value infinite. And zeros are not harmless: take a channel that is silent everywhere, clamped at
# 0.000001 as it should be, and ask for the slope in p.
#
# <!-- from elsewhere: 0.000001 (the clamp) -->

# %% tags=["nbval-check-output"]
for dtype in (torch.float16, torch.float32):
    q, silent = torch.tensor(3.0, requires_grad=True), torch.full((1, 1, 2, 2), 1e-6,
                                                                  dtype=dtype)
    silent.pow(q).mean((-2, -1)).pow(1 / q).sum().backward()
    print(dtype, "→ the slope is a number:", bool(q.grad.isfinite()))

# %% [markdown]
# In float16 the third power of 0.000001 is zero, the root of zero is infinitely steep, and infinity times zero is not a
# number (NaN). One silent channel is enough: the next step makes p a NaN, and the network with it. So the package
# computes GeM in float32, whatever the rest runs in. It does one thing more: it takes the largest value out before the
# power and puts it back after the root. The rest is then at most 1, so no power overflows; and the largest place is
# exactly 1, so the sum never vanishes.
#
# Three ways on our maps. *Wrong* is a pooled value off by more than a hundredth of itself, or no number at all (under
# a thousandth, nothing counts):

# %%
from bonexage_utils.course.nb04.pooling import draw_precision

draw_precision(maps)

# %% [markdown]
# Horizontal axis: p. Vertical axis: how many of the pooled values (one for each film and channel) are wrong; lower is
# better. A few wrong ones among thousands do not lift a line visibly off zero, so a dot marks on each line the first p
# at which any value is wrong. A line without a dot has none.
#
# ### Exercise: a decision
#
# Your p starts at 3, is learned, and may wander up to 20. Each step to the right in this list computes a little more:
# `"float16"`, `"float32"`, `"package"`. Which is the cheapest that is right over the whole range?

# %% tags=["nbval-check-output"]
my_bits = ...
ex.bits.check(my_bits)

# %%
# ex.bits.hint()
# ex.bits.solution()

# %% [markdown]
# ## What does it listen to?
#
# The shares again. $w_i$ is what place $i$ contributes to the sum, and it is more: if this place becomes one per cent
# louder, the pooled value rises by $w_i$ per cent. A share is the say that a place has. Is that so?

# %% tags=["nbval-check-output"]
from bonexage_utils.course.nb04.pooling import shares

louder = x * torch.tensor([1.0, 1.0, 1.01, 1.0])  # the third place, by one per cent
for p in (1.0, 3.0):
    rise = ((louder**p).mean() / (x**p).mean()) ** (1 / p) - 1
    print(f"p = {p:.0f}: its share {shares(x[None], p)[0, 2]:.4f}, the pooled value "
          f"rises by {100 * rise:.4f} %")

# %% [markdown]
# The same, to the digits shown. At p = 1 the third place had an eighth of the say, at p = 3 hardly any: the last one
# has taken it.
#
# So draw the shares over the film, as a **response map**: what say does each place have at this p, averaged over the
# channels? An even share would be one hundredth; yellow is four times that, and more. Where a place has little say, the
# film shows through. White lines: the ossification centres, which the phantom knows.

# %%
from bonexage_utils.course.nb04.pooling import choose_p, draw_responses

choose_p(hands.films[row], maps[row], hands.centres[row])

# %% [markdown]
# The same without a slider, at three p:

# %%
draw_responses(hands.films[row], maps[row], hands.centres[row])

# %% [markdown]
# Left, p = 1: the panel is almost one colour. After the norm all places are about equally loud, and after the softplus
# a place with nothing to say stands at softplus(0) = 0.69, not at 0: in an average, black corners have nearly as much
# say as a wrist. The further to the right, the fewer places speak, and the more say each of them has. Do the loud ones
# hold bones? Most do. But look at the lower edge, where the forearm leaves the film: shafts and an edge, and no centre
# anywhere near.
#
# Two cautions. A cell is 32 pixels wide, but a network's place has seen far more of the film than its own cell; so
# colours tell roughly where, not which bone. And the network learned on films of at most 160 pixels; at 320 everything
# is twice as large for it. We do that for the picture's sake; below, where errors are measured, films are as it learned
# them.
#
# ### Exercise: a decision
#
# Bone age is spread over the whole hand: fingers, palm, wrist. A pooling that hears only one place per channel wastes
# it; one that hears all alike listens to black corners. How few places hold how much? Take the typical channel of that
# hand, begin with its loudest place, and add one place after the other:
#
# <!-- from elsewhere: 0.69 (log 2) -->

# %%
exercises.draw_powers()

# %% [markdown]
# Horizontal axis: the number of places. Vertical axis: what they hold of the channel's sum. **Which is the largest p at
# which half of the sum takes at least ten places?**

# %% tags=["nbval-check-output"]
my_power = ...  # 1, 2, 3 or 10
ex.power.check(my_power)

# %%
# ex.power.hint()
# ex.power.solution()

# %% [markdown]
# ## Predict first
#
# Enough of pictures. Three heads on the same frozen maps: GeM (p starts at 3 and learns), average, maximum. All else is
# equal: films, seeds, order of batches, epochs, learning rate. The measure is the mean absolute error, MAE, in months.
# **Which has the lowest, `"GeM"`, `"average"` or `"maximum"`? And by how many months is GeM better than the average**
# (negative if you think it is worse)?

# %%
guess_winner = ...
guess_gain = ...  # months, such as 0.5

# %% [markdown]
# ## The experiment
#
# The network is frozen, so each film's map needs to be made only once. The profile decides how large the films are;
# with a GPU and a connection it is a larger network, with ImageNet's weights.

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
# The judges are *calibration* films: nothing has been chosen by them here. (The test films stay locked until notebook
# 08.) Training a head is the loop of notebook 03 once more; only, the films are maps already:

# %%
from bonexage_utils.course.frozen import BATCH, LR, head_only
from bonexage_utils.model import age_loss
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
# The last line of the loop cuts long gradients, takes the step and clears them. A seed decides the head's first
# weights, the order of the films, and the dropout. So the package's `fit_head`, with the same seed, must end with the
# same head:

# %%
from bonexage_utils.course.frozen import fit_head, head_errors

mine, package = my_fit(0, 1, "gem"), fit_head(backbone, train, 0, 1, pooling="gem")
weights_of = package.state_dict()
print("after one epoch all weights are equal:", all(
    torch.equal(value, weights_of[name]) for name, value in mine.state_dict().items()))

# %% [markdown]
# From here on the package's. One pooling after the other, each with several seeds; the same seed means the same in each
# of the three.

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
# Two yardsticks first. The median of the sex looks at no film. And a *noise floor*: the labels of the simulated films
# have a reader's slips in them, so even somebody who knew every child's true bone age would be off by this much.

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
# Place the three between the two yardsticks. How much of the way from the median to the floor has the frozen backbone
# brought them?
#
# Then compare the numbers *within* a line before you compare lines: so far apart are heads that differ in nothing but
# luck. The larger doubt is another one: on other films every line would have come out otherwise. The interval below
# counts both.
#
# The last line: where p went from 3. Below 3, smaller pooled values lowered the loss on the whole, and more places
# have a say than at the start: training moved GeM towards the average. Above 3, it moved towards the maximum.
#
# For each seed and each film: GeM's error minus the other's. The mean of these has an interval over films *and* seeds,
# because both could have been others. So we draw both anew, with replacement, many times, and see how far the mean
# moves. (The training films and the backbone could have been others, too. Of that the interval knows nothing.)

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
# Horizontal axis: months; left of the line GeM is better. The dot is the mean, the bar its 95 % interval, the grey
# ticks are the single seeds. If the bar crosses the line, these films cannot tell. How large a difference they could
# have missed, the bar's ends say.

# %% [markdown]
# ### The claim in two rows
#
# One row is ours, live. The other was measured once on *real* films (`rsna100`: RSNA's, 100 pixels wide) by the same
# script that anyone can run, and is read from the course's records.

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
# Two columns, and neither borrows from the other; the phantom's films are ours by construction. On the real films,
# small and squashed as they are and new to a backbone that has seen phantoms only, both errors are larger. Read the
# last row of each column: does "GeM beats average pooling" find support in it? Both hold *for a frozen backbone*: its
# features were made before anybody asked how they would be pooled. When the whole network trains, features and
# pooling grow towards each other, and the answer may be another.
#
# Read the size, too. Tenths of a month, whatever their sign, stand beside the thirty months and more that the heads
# gain on the median, and beside how far two readers of the same film are apart (half a year and more). What would you
# rather spend a week on?
#
# ## "It looks more at the bones"
#
# The second claim one hears: *GeM looks more at ossification centres than average pooling.* It is told with one pretty
# picture. We have forty hands and know where their centres lie. For each hand: what part of the pooled response comes
# from centres, from shafts, from elsewhere (flesh, air, letters)? A cell that a centre covers to a third gives a third
# of its share to the centres. As a ruler, the part of the *area* that they cover: what an even response would give.
#
# At the learned p, averaged over the seeds, or at 3 where the network in hand is another one:
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
# Vertical axis: how many times its area a region gets of the response; at the dashed line the response would be even.
# Thin lines: 95 % intervals over the hands. Film by film, GeM minus average, in points of a hundred:

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
# Before you quote that line, ask what else it could be. The same forty hands:

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
# - *How much?* The first line says how many times their area the centres get. It rises from the average over GeM to the
#   maximum, as one hears. But it is a matter of a point in a hundred: nearly all of the response lies elsewhere.
# - *Only the centres?* No. The shafts gain, too, and by more points. GeM listens more to *bone*, whichever.
# - *Learned?* In a network that has learned nothing the same step puts more on centres as well: GeM prefers loud
#   places, and bone is bright and full of edges. So GeM's ear for centres is no sign that the network knows them.
# - *Another backbone?* The last line is of the small ResNet, with the same schooling. Its sign is the other one. So the
#   claim belongs to a backbone, not to GeM: two networks, two stories, and each comes with a pretty picture.
# - *At which size?* Today's films are twice as large as those the networks learned on. At their own size a place is too
#   coarse for a centre.
#
# And a **response is not a reason**. The head that follows weighs the channels, some of them with a minus; a loud
# channel may be one it ignores. An *absent* centre is evidence too, and no mask can hold it. Lastly, the backbone is
# frozen, and was pretrained to name just these centres: where its maps are loud says something about its schooling.
# How GeM would *teach* a backbone to look cannot be seen here. Notebook 08 asks the network, not the map.
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
# Whether on the same films, film by film; with how many seeds each; what interval the difference has; and whether
# anything else changed (notebooks 00 and 03). 0.3 months of one seed each can be luck.
# </details>
#
# <details><summary>2. Somebody finds that 40 of the films were exported twice. Does it matter here?</summary>
#
# Yes: twins on both sides of the split flatter every network, and those most that memorise best (notebook 01). Clean
# first, then compare both on the clean split.
# </details>
#
# <details><summary>3. Squashed films instead of letterboxed ones: does GeM repair what that loses?</summary>
#
# No. Pooling melts together what the map contains. What squashing has done to the proportions of the bones (notebook
# 02), no pooling gets back.
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
# - **Training the whole network** with each pooling: that takes a GPU and several seeds, and is the question that a
#   hospital would ask. Here the backbone was frozen.
# - **To each pooling its own learning rate.** All three had the same one; the best for each may differ, and a
#   difference of tenths could be that.
# - **One p for each channel**, as the first paper also tries, and **attention**, which learns *where* to listen
#   instead of taking the loud.
# - **The child's sex**: every head here was told it, alike. What that is worth: 05. **The bound** on the age:
#   06.
# - **Where the network looks when it decides**: 08.
# - **Real films with masks.** Nobody has outlined their centres; the second claim has a phantom's row only.
#
# ## Sources
#
# - Radenović, Tolias & Chum, *Fine-tuning CNN image retrieval with no human annotation*, IEEE TPAMI 2018: GeM as a
#   layer, its derivatives, p learned from 3 on.
# - Berman et al., *MultiGrain*, arXiv 1902.05509, 2019: GeM for classification as well as retrieval, and how p goes
#   with the size of the image.
# - Liu et al., *A ConvNet for the 2020s*, CVPR 2022: ConvNeXt, whose last norm stands after its pooling; here it
#   stands before. He et al., *Deep Residual Learning*, CVPR 2016: ResNet.
# - Thodberg & Sävendahl, *Acad Radiol* 2010;17:1425: how far two readers differ.
