# %% [markdown]
# # 07 · AMP and GPU training
#
# **The question:** how do I train the real thing fast and safely?
#
# *Fast* is said to be a matter of number formats: let the network compute with 16 bits instead of 32. That is called
# automatic mixed precision, AMP, and it has a price, which you will see and pay yourself. *Safely* is a matter of what
# happens at three in the morning, when the machine goes down. So today you will also kill a training, with no warning,
# and see whether it comes back.
#
# **After this notebook you can**
#
# - say what float16 and bfloat16 keep of a number, and which numbers of a network each of them breaks;
# - cast a convolution as autocast does, write a gradient scaler, and put unscale, clip and step in their order;
# - make one large batch out of small ones, and say for which networks that is not the same;
# - find in a profile what a step waits for, and compute what it needs in memory;
# - judge "AMP is faster and leaner" on your own machine, with an interval;
# - kill a training and resume it, and prove that nothing was lost.
#
# **You need** Python with functions, and to have seen a training loop: notebook 03 has one. Nothing here needs other
# notebooks to have been run, nor a GPU: all of it works on a processor as well.
#
# **Time:** 80 minutes with the exercises. Measured on two processor cores, profile `cpu`: about a minute of computing
# and 4.2 GB of memory, plus a minute, once, to draw the 2,400 films if no other notebook has.

# %%
# On Colab this fetches the course and installs what is missing; on your own machine it changes nothing.
import importlib.util, os, subprocess, sys

ADDRESS = "https://github.com/bonexage/bonexage"  # the course's home; a fork has its own
if importlib.util.find_spec("bonexage_utils") is None:
    if not os.path.isdir("../bonexage_utils"):
        if not os.path.isdir("bonexage"):
            subprocess.run(["git", "clone", "--quiet", "--depth=1", ADDRESS, "bonexage"], check=True)
        os.chdir("bonexage/notebooks")
    subprocess.run([sys.executable, "../bonexage_utils/course/bootstrap.py"], check=True)
    sys.path.insert(0, os.path.abspath(".."))
import bonexage_utils

# %%
from bonexage_utils.course import start

course = start()

# %% [markdown]
# ## A number in sixteen bits
#
# A computer writes numbers as we write very large and very small ones: 2.004 × 10², only with powers of two. One bit is
# for the sign. Some say the power of two, the **exponent**: how far the numbers reach. The rest say the digits, the
# **fraction**: how close together they lie. float32, PyTorch's usual format, has 8 bits for the exponent and 23 for the
# fraction. Whoever has sixteen must choose. *float16* takes 5 for the exponent and 10 for the fraction; *bfloat16*
# takes 8, as many as float32, and has 7 left for the digits.

# %% tags=["nbval-check-output"]
from bonexage_utils.course.nb07.formats import bit_parts, stored

for kind in ("float32", "bfloat16", "float16"):
    sign, exponent, fraction = bit_parts(200.4, kind)
    print(f"{kind:9} {sign} {exponent:8} {fraction:23} is {stored(200.4, kind):.9g}")

# %% [markdown]
# The same age in three formats, 200.4 months. float16 keeps it to a fraction of a month. bfloat16 says 200. To see that
# there is no magic in it, read the bits by hand. Take the last line. The exponent, 10110, is 22 as a whole number; half
# of what five bits can say, 15, is taken off, so that it can also be negative: 22 − 15 = 7, and 2⁷ = 128. The fraction
# 1001000011 counts halves, quarters, eighths and so on: 1/2 + 1/16 + 1/512 + 1/1024 = 0.565. A one stands before it
# unwritten, and 128 × 1.565 = 200.375. The same in a function:

# %% tags=["nbval-check-output"]
def by_hand(exponent, fraction):
    shift = 2 ** (len(exponent) - 1) - 1
    digits = 1 + sum(int(bit) / 2**place for place, bit in enumerate(fraction, 1))  # the leading 1 is not written
    return digits * 2.0 ** (int(exponent, 2) - shift)


for kind in ("float32", "bfloat16", "float16"):
    print(kind, by_hand(*bit_parts(200.4, kind)[1:]) == stored(200.4, kind))

# %% [markdown]
# Type a number, from 0 to a million, and see what each format makes of it. Try 0.1, then your age in months, then
# 0.00000001, then 70000:

# %%
from bonexage_utils.course.nb07.formats import draw_bits, type_a_number

type_a_number()

# %% [markdown]
# The same without typing, for four numbers:

# %%
draw_bits()

# %% [markdown]
# Each row is one format, each square a bit, filled for 1. Read the texts on the right. A tenth is exact in none of
# them: in base two it has no end. At 200.4, bfloat16 is the coarse one. In the two lower panels it is float16 that
# fails, and it fails altogether: a hundred-millionth is *gone*, and 70,000 is *infinite*. So the two formats break in
# opposite ways. **bfloat16 has the reach and lacks the digits; float16 has more digits and lacks the reach.**
#
# ### Exercise: how fine is an age?
#
# How far apart are neighbouring numbers at 200 months, in float32, bfloat16 and float16? Give a list of three numbers.
# (The gap doubles at every power of two, and is the same in between.)

# %% tags=["nbval-check-output"]
from bonexage_utils.course.nb07 import exercises

ex = exercises.build(course)
my_gaps = ...  # such as [0.1, 0.1, 0.1]
ex.gap.check(my_gaps)

# %%
# ex.gap.hint()
# ex.gap.solution()

# %% [markdown]
# ## Where the digits run out
#
# One step of training often changes a weight by a thousandth of itself or less: AdamW moves all weights by about the
# same, so the large ones, such as a norm's 1, move least. Take a weight of 1 and a thousand steps of 0.001. The answer
# should be 2:

# %% tags=["nbval-check-output"]
import torch

for kind in (torch.float32, torch.bfloat16, torch.float16):
    weight, change = torch.ones((), dtype=kind), torch.tensor(0.001, dtype=kind)
    for _ in range(1000):
        weight = weight + change
    print(f"{str(kind)[6:]:9} 1 + 1000 × 0.001 = {weight.item():.3f}")

# %% [markdown]
# bfloat16 stays at 1. Its next number after 1 is 1.0078, and 1.001 is rounded back to 1, a thousand times. A weight
# like this would never move, and no error would be raised. float16 arrives near 2, with a rounding error added up. So
# *weights* are not kept in sixteen bits. **Mixed** precision means: weights, and what is added up for long, stay in
# float32; the large multiplications in between, convolutions and matrices, are done in sixteen bits.
#
# ## Predict first
#
# Commit to two guesses. In a small ConvNeXt, of a hundred gradients that are not zero, **how many become zero when
# they are computed in float16?** And on the machine in front of you, with **which format is a training step quickest:
# `"fp32"`, `"bf16"` or `"fp16"`?** (So the package's `--precision` calls them.)

# %%
guess_lost = ...  # percent, such as 10
guess_quickest = ...  # such as "fp16"

# %% [markdown]
# ## A network's own numbers
#
# Let us look. The films first, small ones, and two networks that you will meet again: a *ConvNeXt*, timm's miniature of
# the family that the full recipe uses, from random weights; and the *ResNet* that comes with the course, pretrained on
# phantoms.

# %%
from bonexage_utils.batches import film_sets
from bonexage_utils.course.frozen import BACKBONE
from bonexage_utils.course.nb07.scaling import first_batch
from bonexage_utils.images import Preprocessing, measure_intensity

SIZE = 64  # px; small, because some processors compute float16 very slowly
sets = film_sets(course.cohort, ("train", "selection"), SIZE)[0]
preprocessing = Preprocessing(SIZE, *measure_intensity(sets["train"].films, sets["train"].rows))
batch = first_batch(sets["train"], 8, preprocessing, course.device)
print(f"{len(sets['train']):,} films to learn from; the first {len(batch)} are our batch")

# %%
from bonexage_utils.course.nb07.formats import draw_number_lines
from bonexage_utils.course.nb07.scaling import gradients
from bonexage_utils.model import BoneAgeNet


def new_net(backbone, weights):
    torch.manual_seed(course.seed)
    return BoneAgeNet(backbone, weights=weights).train().to(course.device, memory_format=torch.channels_last)


nets = {"ConvNeXt": new_net("test_convnext", "none"), "ResNet": new_net(BACKBONE, "phantom")}
found = {name: gradients(net, batch) for name, net in nets.items()}  # in float32

# %%
weights = torch.cat([p.detach().flatten() for p in nets["ConvNeXt"].parameters()])
draw_number_lines({"ages, months": batch.months, "weights of the ConvNeXt": weights,
                   "gradients of the ConvNeXt": found["ConvNeXt"], "gradients of the ResNet": found["ResNet"]})

# %% [markdown]
# Horizontal axis: how large a number is, each tick a thousand times the one before. The height says how many there
# are. The orange line at the bottom is float16's range: solid with all digits, dotted with fewer and fewer; in the
# shaded parts it has no numbers at all. The grey line, bfloat16 and float32, reaches beyond the picture on both sides.
#
# Ages and weights are well inside. The ConvNeXt's gradients are not: a great part of them lies in the left shade,
# where float16 knows only zero. The ResNet's are nearly all inside. So "float16 needs a scaler" is not a law of
# nature, it depends on the network. ConvNeXt multiplies each block by a *layer scale* that begins at a millionth, and
# the gradients behind it are a million times smaller. (In a pretrained one it has had time to grow. But a training
# has to begin somewhere.)
#
# ## Autocast, by hand
#
# `torch.autocast` does not change a network. It steps in at each operation: convolutions and matrix products get their
# inputs, weights included, in sixteen bits; what needs digits or reach, it leaves in float32. One convolution by hand:

# %% tags=["nbval-check-output"]
import torch.nn.functional as F

films, kernel = torch.rand(2, 1, 32, 32), torch.randn(8, 1, 3, 3) / 3
ours = F.conv2d(films.half(), kernel.half())
with torch.autocast("cpu", torch.float16):
    cast = F.conv2d(films, kernel)
    product, mean_square = cast @ cast.mT, F.mse_loss(cast, 0 * cast)
print("by hand and autocast agree:", torch.equal(ours, cast))
print("the weight itself stays", kernel.dtype, "- the map is", cast.dtype)
print("a product of maps is", product.dtype, "- a mean of squares is", mean_square.dtype)

# %% [markdown]
# And in the whole network? A look at what some parts of the ConvNeXt hand on, from the first block to the age:

# %% tags=["nbval-check-output"]
def look(layer, given, made):
    print(f"{layer.__class__.__name__:14} {made.dtype}")


block = "features.body.stages.0.blocks.0"
parts = [f"{block}.conv_dw", f"{block}.mlp", block, "pool", "head", "age"]
hooks = [nets["ConvNeXt"].get_submodule(part).register_forward_hook(look) for part in parts]
with torch.no_grad(), torch.autocast(course.device.type, torch.float16):
    nets["ConvNeXt"](batch.images, batch.sex)
for hook in hooks:
    hook.remove()

# %% [markdown]
# The convolution and the matrix products of the block (`Mlp`), where nearly all the work is, hand on float16. The block
# as a whole hands on float32: its layer scale is a weight, weights are float32, and whoever multiplies both kinds gets
# the wider one. The pooling is in float32 on purpose: GeM raises to powers, and 50³ is already beyond float16. The head
# (`Sequential`) ends in a matrix, so the *score* is in float16. Then the package writes `.float()`, and the age is made
# of it in float32. The exercise above says why: in bfloat16 an age of more than 128 months comes in whole months. (What
# the score has lost stays lost. In bfloat16 it moves in steps that are worth up to a third of a month, in float16 up to
# a twentieth. Still far better than whole months.)
#
# ## Underflow, and its rescue
#
# What is lost? We compute the ConvNeXt's gradients again, the forward pass under autocast, and count those that have
# become zero although float32 knows better:

# %%
there = found["ConvNeXt"] != 0
bare = gradients(nets["ConvNeXt"], batch, "fp16")
lost = float((bare[there] == 0).float().mean())
print(f"lost without help: {lost:.0%} of the ConvNeXt's gradients")

# %% [markdown]
# A weight whose gradient is zero does not move. But backward is linear: multiply the *loss* by a number, and every
# gradient on the way is multiplied by it, *before* it can get lost. Afterwards, in float32, we divide. The number is
# called the scale:

# %%
scale = 2.0**12
rescued = gradients(nets["ConvNeXt"], batch, "fp16", scale) / scale
print(f"lost with a scale of {scale:,.0f}: {float((rescued[there] == 0).float().mean()):.1%}")

# %%
import pandas as pd

pd.DataFrame({"your guess": [guess_lost], "measured": [f"{100 * lost:.0f}"]},
             index=["percent of the gradients lost"]).replace({...: "no guess"})

# %% [markdown]
# So why not a scale of a billion? Try them all:

# %%
from bonexage_utils.course.nb07.scaling import draw_scales, sweep_scales

sweep = sweep_scales(nets["ConvNeXt"], batch)

# %%
draw_scales(sweep)

# %% [markdown]
# Horizontal axis: the scale, each tick sixteen times the one before. Blue: gradients lost to zero. Orange: gradients
# spoiled, because somewhere on the way back a number went beyond 65,504 and became infinite, and infinity minus
# infinity is no number at all. Mind the shade. Where a single gradient is spoiled, the whole step is useless and has to
# be skipped, and a few dozen of 230,000 are too few to see on this axis: look at 2¹⁶, where torch begins. There is a
# window between losing and spoiling, and it is not wide. It also moves while the network learns. So the scale cannot be
# chosen once; it has to be looked for all the time.
#
# ## A scaler by hand
#
# The rule is short. If any gradient is infinite or no number, skip this step and halve the scale. If all has gone well
# for so many steps, double it.

# %%
class MyScaler:
    def __init__(self, scale, patience):
        self.scale, self.patience, self.went_well = scale, patience, 0

    def unscale(self, parameters):
        for parameter in parameters:
            parameter.grad /= self.scale
        self.fine = all(bool(torch.isfinite(parameter.grad).all()) for parameter in parameters)

    def update(self):
        self.went_well = self.went_well + 1 if self.fine else 0
        if not self.fine:
            self.scale /= 2
        elif self.went_well == self.patience:
            self.scale, self.went_well = 2 * self.scale, 0


# %% [markdown]
# Now the loop around it: an epoch over a few films. To be able to compare, we borrow films, network and settings from
# the package's own `Trainer`, and begin with a scale far too large, so that something happens:

# %%
import tempfile

from bonexage_utils.checkpoints import random_state, restore_random
from bonexage_utils.course.start import sample_cohort
from bonexage_utils.settings import TrainConfig
from bonexage_utils.training import Trainer

config = TrainConfig(backbone="test_convnext", image_size=SIZE, epochs=1, batch_size=8, grad_accum=1, lr=1e-3,
                     weights="none", precision="fp16", seed=course.seed)
folder = tempfile.TemporaryDirectory()
trainer = Trainer(sample_cohort(course.cohort, 160), f"{folder.name}/scaler", config)
before = random_state(course.device)  # dropout will draw from here, in our loop and in the package's

# %%
import copy

from bonexage_utils.augment import augment
from bonexage_utils.devices import standardise, to_unit
from bonexage_utils.model import age_loss, parameter_groups
from bonexage_utils.training import lr_factor

net, history = copy.deepcopy(trainer.network).train(), []
optimizer = torch.optim.AdamW(parameter_groups(net, config.weight_decay), lr=config.lr, fused=True)
weights, scaler = list(net.parameters()), MyScaler(2.0**20, patience=4)


# %%
def my_step(part, rate):
    images = augment(to_unit(part["image"]), part["key"], 0, config.seed, config.augmentation)
    images = standardise(images, trainer.preprocessing).to(memory_format=torch.channels_last)
    with torch.autocast(course.device.type, torch.float16):
        months = net(images, part["sex"])
    (age_loss(months, part["months"], "smoothl1") * scaler.scale).backward()
    scaler.unscale(weights)
    torch.nn.utils.clip_grad_norm_(weights, config.clip)
    for group in optimizer.param_groups:
        group["lr"] = config.lr * rate
    if scaler.fine:
        optimizer.step()
    optimizer.zero_grad()


# %%
for step, part in enumerate(trainer.loader):
    used = scaler.scale
    my_step(part, lr_factor(step, len(trainer.loader), config.warmup))
    history.append((used, not scaler.fine))
    scaler.update()

# %%
from bonexage_utils.course.nb07.scaling import draw_scale_history

scales, skipped = map(list, zip(*history, strict=True))
draw_scale_history(scales, skipped)

# %% [markdown]
# Horizontal axis: the step. Vertical axis: the scale. A cross is a step that was skipped. The scaler feels its way down
# until the gradients hold; after four steps in a row without trouble it tries double, and where that was too much, it
# loses one step and goes back. A step may also fail at a scale that held a step before: other films, other gradients.
# Count the crosses. So many are lost because we began 64 times too high and try double after only four. torch's own
# begins at 2¹⁶ and waits 2,000 steps before it tries, so a skipped step is rare. Two things follow. A step skipped now
# and then is *no* error. And a scale that falls and falls, down to 1 and below, is one: then something goes beyond
# 65,504 already on the way forward, and no scale will mend that.
#
# ## The package does the same
#
# `Trainer.fit` has the same lines, with `torch.amp.GradScaler` in the place of ours. The same films, the same dropout:

# %%
from torch.amp import GradScaler

restore_random(before, course.device)
trainer.scaler = GradScaler(course.device.type, init_scale=2.0**20, growth_interval=4)
_ = trainer.fit()

# %% tags=["nbval-check-output"]
pairs = list(zip(net.parameters(), trainer.network.parameters(), strict=True))
print("the same scale in the end:", trainer.scaler.get_scale() == scaler.scale)
print("and the same weights:", all(torch.allclose(mine, theirs, atol=1e-6) for mine, theirs in pairs))

# %% [markdown]
# That is mixed precision, all of it. From here on it is one word: `precision="fp16"`. With bfloat16 there is no scaler,
# since there is nothing to rescue: its reach is that of float32.
#
# ## Unscale, then clip
#
# Clipping cuts the gradient to a length of 5 where it is longer, so that one odd film cannot throw the network off. *5*
# is meant for gradients of their true size. What if somebody clips first and unscales then? What comes out goes to
# AdamW. For each weight it keeps two running means, its *moments*: of the gradient and of its square. It moves the
# weight by the first over the root of the second plus 1e-8; so we also count gradients below that.

# %%
def length(gradient):
    return float(gradient.double().norm())


def clipped(gradient, limit=5.0):
    return gradient * min(1.0, limit / length(gradient))


scale = 2.0**16
true = gradients(nets["ResNet"], batch, "fp16", 1024.0) / 1024
orders = {"not clipped": true, "unscale, then clip": clipped(true * scale / scale),
          "clip, then unscale": clipped(true * scale) / scale}
for name, gradient in orders.items():
    tiny = float((gradient[true != 0].abs() < 1e-8).float().mean())
    print(f"{name}: length {length(gradient):.2g}, below AdamW's 1e-8: {tiny:.0%}")

# %% [markdown]
# *Length* is what reaches the optimizer. In the wrong order the limit is held against gradients 65,536 times too long.
# All of them are cut, and what comes out is tens of thousands of times too short. Would you notice? The ConvNeXt learns
# our eight films by heart, in both orders, once with plain gradient descent (SGD) and once with AdamW. (In float32,
# with the same factor, so that nothing but the order differs.)

# %%
from bonexage_utils.course.nb07.scaling import learn_in_order

steps = 10 if course.profile.name == "fast" else 40
rows = {optimizer: {name: learn_in_order(nets["ConvNeXt"], batch, optimizer, first, steps)
                    for name, first in (("unscale, then clip", True), ("clip, then unscale", False))}
        for optimizer in ("SGD", "AdamW")}
by_heart = pd.DataFrame.from_dict(rows, orient="index")
by_heart.round(1).rename_axis("MAE on the eight, months")

# %% [markdown]
# With SGD the wrong order stands still: the right column is where everybody begins. One would look for a bug. AdamW
# divides each gradient by its usual size, and so it *hides* the mistake: it learns all the same. (Which of its two
# numbers is smaller is chance: one run each, and with other first weights it is the other way round about as often.)
# But the limit of 5 is gone. Every step is cut to one length, odd film or not; and where gradients fall below the 1e-8
# that AdamW adds in its division, their weights move by a fraction of what they should. A bug that raises no error and
# still learns is the worst kind.
#
# ### Exercise: the order
#
# Six words, one step: `"backward"`, `"clip"`, `"scale"`, `"step"`, `"unscale"`, `"update"` (the scaler's own). In which
# order?

# %% tags=["nbval-check-output"]
my_order = ...  # such as ["backward", "clip", "scale", "step", "unscale", "update"]
ex.order.check(my_order)

# %%
# ex.order.hint()
# ex.order.solution()

# %% [markdown]
# ## One large batch out of small ones
#
# What does not fit into memory at once goes through in parts: two batches of 4, each with half of the loss, and one
# step after both. The gradients add up to those of a batch of 8. Do they? We switch dropout off, and compare in
# float32:

# %%
def in_parts(net, sizes):
    net.zero_grad()
    for part in torch.arange(len(batch)).split(sizes):
        months = net(batch.images[part], batch.sex[part])
        (age_loss(months, batch.months[part], "smoothl1") * len(part) / len(batch)).backward()
    return torch.cat([p.grad.flatten() for p in net.parameters()])


# %% tags=["nbval-check-output"]
for name, net in nets.items():
    net.head[3].p = 0.0  # no dropout
    whole, parts = in_parts(net, [8]), in_parts(net, [4, 4])
    off = length(parts - whole) / length(whole)
    print(f"{name}: two batches of 4 are one of 8: {off < 0.001}")

# %% [markdown]
# For the ConvNeXt it is the same to within rounding. For the ResNet it is *not*, and no bug is to blame: its batch
# norms bring each channel to mean 0 and spread 1 by the films *in hand*, and there are 4 of them now instead of 8.
# With batch norms, accumulation is not a large batch; with norms that look at one film at a time (ConvNeXt's layer
# norms), it is.
#
# ### Exercise: unequal parts
#
# Above, each part counts as `len(part) / len(batch)`. Suppose 20 films come as 8, 8 and 4. Write `my_shares(sizes)`: a
# list with the factor for each part, so that the sum is the gradient of the mean over all films.

# %% tags=["nbval-check-output"]
my_shares = ...  # a function: def my_shares(sizes): ...
ex.shares.check(my_shares)

# %%
# ex.shares.hint()
# ex.shares.solution()

# %% [markdown]
# ## What fills the memory
#
# A training step keeps five things. The weights; a gradient for each; AdamW's two moments; the
# averaged weights, which are the ones used in the end. And, most of all, what the forward pass must keep for the
# backward pass: the map after every layer, for every film of the batch. We can compute that without having the memory:
# it grows with films and pixels, so one small film and then two of them tell. The full recipe, ConvNeXt-Tiny at 512 px:

# %%
from bonexage_utils.course.nb07.scaling import draw_step_memory, step_megabytes

recipes = {"float32, 16 films": (16, "fp32"), "16 bits, 16 films": (16, "bf16"), "16 bits, 8 films": (8, "bf16")}
budgets = {name: step_megabytes("convnext_tiny", 512, *recipe) for name, recipe in recipes.items()}

# %%
draw_step_memory(budgets)

# %% [markdown]
# One bar for each way to run it; the dashed line is a card of 16 GB. The small stripes at the left are the network, and
# the same in all: weights and what belongs to them stay in float32. The blue part shrinks. Sixteen bits make it about
# half, and half the batch halves it again: the full recipe's 32 films an update then come as four times 8. All of this
# is *computed*, not measured. On paper even the first bar fits. But what the operations need to work in comes on top,
# and so does what the allocator wastes between blocks; leave a wide margin.
#
# Is AMP leaner, then? Not always. The shipped ResNet, on films of two sizes:

# %%
sizes = {f"{films} films of {side} px": (side, films) for side, films in ((64, 4), (64, 32), (160, 32), (512, 32))}
rows = {name: [step_megabytes(BACKBONE, *size, kind)["kept for backward"] for kind in ("fp32", "bf16")]
        for name, size in sizes.items()}
kept = pd.DataFrame.from_dict(rows, orient="index", columns=["float32, MB", "16 bits, MB"])
kept.assign(ratio=kept["16 bits, MB"] / kept["float32, MB"]).round(2)

# %% [markdown]
# Read the last column downwards. For four small films sixteen bits cost *more*: autocast keeps a copy of each weight in
# sixteen bits, and those copies are larger than what they save. For real batches the maps outweigh the weights by far,
# and the ratio goes towards a half.
#
# ## Where the time goes
#
# Before one makes a part of a program faster, one looks whether it matters. torch's profiler watches a few training
# steps. (On a GPU, each part here waits until its work is done. Without that, the program runs ahead of the GPU, and
# whatever waits first, such as printing the loss, would get the blame.)

# %%
from bonexage_utils.course.nb07.speed import draw_profile, part_shares, profile_steps

spans, operators = profile_steps(sets["train"], preprocessing, BACKBONE, "phantom", 16, course.device, precision="fp32")

# %%
draw_profile(spans, operators)

# %%
part_shares(spans).map("{:.0%}".format).to_frame("share of the time").T

# %% [markdown]
# On the left, time runs to the right, and each line is one part of a step; on the right, which operations took most
# time of their own. In the table, what share each part has. All of it in float32, before any help. *forward* and
# *backward* are what a quicker format can shorten. *update* it cannot: clipping and AdamW work on weights in float32
# (and much of `copy_` is AdamW's). *films* and *augment* it cannot either; from the course's cache they are small. So
# add up forward and backward: if they are two thirds of a step, halving them makes it half again as fast, and no more.
# (Three steps are few; another time they come out otherwise.)
#
# ### Exercise: a decision
#
# Four runs, two steps each (these times are made up):

# %%
exercises.draw_four_profiles()

# %% [markdown]
# Suppose that sixteen bits halve *forward* and *backward*, and nothing else. Which run gains **least**: `"A"`, `"B"`,
# `"C"` or `"D"`?

# %% tags=["nbval-check-output"]
my_run = ...
ex.profile.check(my_run)

# %%
# ex.profile.hint()
# ex.profile.solution()

# %% [markdown]
# ## The race
#
# Now the claim that one hears: *AMP is faster and leaner*. Three formats, and two **layouts** in memory: the numbers of
# a map may lie channel by channel (`plain`), or place by place, all channels of one place together (`channels-last`).
# The values are the same:

# %% tags=["nbval-check-output"]
maps = torch.arange(24).reshape(1, 2, 3, 4)
lasting = maps.to(memory_format=torch.channels_last)
print("the same values:", torch.equal(maps, lasting))
print("from one column, row, channel to the next, in numbers:", maps.stride()[:0:-1], "and", lasting.stride()[:0:-1])

# %% [markdown]
# In every round each of five takes one whole training step, in an order that is drawn anew (float16 in one layout
# only, since it can be slow). A slow minute slows all of them, so we compare within rounds, and the interval is over
# rounds. (A hiccup of a twentieth of a second hits one step only; such a step will lie alone, on the right.)

# %%
from bonexage_utils.course.nb07.speed import draw_race, race, time_table

films, rounds = {"fast": (4, 3), "cpu": (8, 12), "gpu": (64, 30)}[course.profile.name]
racing = first_batch(sets["train"], films, preprocessing, course.device)
pairs = (("fp32", "plain"), ("fp32", "channels-last"), ("bf16", "plain"), ("bf16", "channels-last"),
         ("fp16", "channels-last"))
times = race(BACKBONE, "phantom", racing, rounds, pairs)

# %%
draw_race(times)

# %%
measured = time_table(times)
measured.round({"step, ms": 1, "time": 2, "low": 2, "high": 2, "MB": 1, "memory": 2})

# %%
from bonexage_utils.course.nb07.speed import quickest

pd.DataFrame({"your guess": [guess_quickest], "measured": [quickest(measured)]},
             index=["the quickest format here"]).replace({...: "no guess"})

# %% [markdown]
# Left in the picture, each point is a step; mind the scale, which is logarithmic. In the table, *time* is the ratio to
# `fp32, channels-last`, with its 95 % interval from *low* to *high*; below 1 is faster. It is the typical ratio (the
# geometric mean) *within a round*, and so not the quotient of two medians in the first column: a lone slow step moves
# the one and not the other. *MB*, and its ratio *memory*: on a GPU the measured peak of a step; on a processor nothing
# is measured, it is the *count* of what autograd keeps for the way back.
#
# What you see depends on the machine more than on anything else. A processor that multiplies bfloat16 natively (the
# server kind since about 2020: AVX512-BF16 or AMX) can be quicker in it; one that does not has to convert to and fro.
# float16 is seldom native on x86 processors (ARM ones often have it), and where it is not, a step takes many times as
# long. On GPUs, both are native from 2020 on; on those of 2017 to 2019, such as a T4, only float16 is. That is what
# `precision="auto"` looks up: bfloat16 where it is native, else float16 on a GPU and float32 on a processor.

# %% tags=["nbval-check-output"]
from bonexage_utils.devices import choose_precision

for wanted in ("fp32", "bf16", "fp16"):
    print(wanted, "is", choose_precision(wanted, torch.device("cpu")), "on any processor")

# %%
print("and auto, here, is", choose_precision("auto", course.device))

# %% [markdown]
# ## The ledger
#
# Beside the race, what `tools/benchmarks/precision.py` has recorded: the same race on larger films, the memory of
# larger batches, and networks trained in float32 and bfloat16, several seeds each, because a quick step is worth
# nothing if the network is worse for it. (In float16 only on a GPU; on a processor it would take fifteen times as
# long.)

# %%
from bonexage_utils.course.nb07.precision import how_measured, precision_table

precision_table(measured, course.device)

# %%
print(how_measured())

# %% [markdown]
# For the memory, remember the table above: few and small films, as in our live race, are no test of it; the recorded
# row has more and larger ones. Read it row by row: what was measured, on what, the ratio or the difference to float32
# with its interval, and what the interval allows to say. "Not yet measured" means just that. A claim about GPUs is not
# proven by a processor, nor the other way round.
#
# ## Kill it
#
# Now the other half of the question: safely. A training of hours will be stopped one day. Colab ends a session, a
# colleague restarts the machine, the power fails. So we start a training in a process of its own, with the command that
# you would use, and let it run to its end. That is the run to compare with:

# %%
from pathlib import Path

from bonexage_utils.course.nb07.drill import kill_within, start_training, train_command, wait
from bonexage_utils.phantom import write_cohort

runs = Path(folder.name)
data = course.cohort.root if course.embedded else write_cohort(runs / "phantom", 600, course.seed)
settings = {"backbone": BACKBONE, "weights": "phantom", "image-size": SIZE, "epochs": 4, "lr": 0.001, "grad-accum": 1,
            "batch-size": 8 if course.profile.name == "fast" else 32}
print("python", *train_command(Path("DATA"), Path("RUN"), settings)[1:])

# %%
whole = wait(start_training(data, runs / "whole", settings), runs / "whole")
whole[["epoch", "train_mae_months", "selection_mae_months"]].round(2)

# %% [markdown]
# And once more, from the beginning. When two epochs are done, and the third is about half through, we kill it. Not
# politely: `kill` on Linux is SIGKILL, which no program can catch, prepare for, or tidy up after.

# %%
process = start_training(data, runs / "killed", settings)
killed = kill_within(process, runs / "killed", after=2)
print("alive:", process.poll() is None)
print(f"in its log: {len(killed.log)} of {settings['epochs']} epochs")

# %% [markdown]
# Dead in the middle of an epoch. What is left of it lies on the disk. Beside the model there is a file to resume from.
# What is in it?

# %%
from bonexage_utils.course.nb07.drill import state_parts

state_parts(runs / "killed").round(2)

# %% [markdown]
# Four groups of tensors. AdamW's is the largest: two moments for every weight. `ema` are the averaged weights. `random`
# is where the stream of random numbers stands, from which dropout draws. With them, as text, are counts of epochs and
# updates, the best score so far, the settings and, in float16, the scaler's scale. The file was written aside, flushed
# to the disk and then renamed, so that there is always a whole one, the old or the new.
#
# ### Exercise: what must be in it?
#
# A the weights, B the averaged weights, C AdamW's moments and step counts, D the scaler's scale, E how many epochs and
# updates are done, F where the random stream stands, G the gradients, H the films in the cache, I the learning rate.
# **Which of them must be in the file**, if a run *in float16* is to end, resumed, as if it had never stopped? Give the
# letters.

# %% tags=["nbval-check-output"]
my_letters = ...  # such as "AB"
ex.resume.check(my_letters)

# %%
# ex.resume.hint()
# ex.resume.solution()

# %% [markdown]
# ## And bring it back
#
# The same command, with one word more:

# %%
resumed = wait(start_training(data, runs / "killed", settings, resume=True), runs / "killed")

# %%
from bonexage_utils.course.nb07.drill import draw_drill

draw_drill(whole, killed, resumed)

# %% [markdown]
# Horizontal axis: the epoch. Vertical axis: the MAE on the selection films. The broad band is the run that was never
# interrupted. On it lie the killed one's points before the kill (round) and after it (square). The shaded half epoch
# was lost, and done again. Points on a line are a good sign, but not a proof: many networks have the same MAE. So
# compare every number in both files:

# %% tags=["nbval-check-output"]
from bonexage_utils.course.nb07.drill import largest_difference

apart = largest_difference(runs / "whole", runs / "killed")
same = max(apart.values()) <= (1e-3 if course.device.type == "cuda" else 0.0)  # a GPU may add in another order
print("the killed run ends in the same weights:", same)

# %%
print("largest difference between the two runs:", apart)

# %% [markdown]
# *model* is the file that one would use, *state* everything in the file to resume from; the largest difference of any
# number. On a processor it is zero: not one bit of one weight differs. That is so because everything that is random
# (order, augmentation, dropout) is drawn from a seed, the epoch and the film, or from a stream whose state was saved.
# On a GPU, sums may be taken in another order each time, so look at the size of the number instead.
#
# A gentler stop loses not even the half epoch. At Ctrl-C, or at SIGTERM, which most systems send first, the package
# finishes the update at hand and saves. And the one call that does all of this from Python:
# `train(cohort, folder, config, resume=True)`.

# %%
band = {"fast": (8, 40), "cpu": (5, 22), "gpu": (3, 22)}[course.profile.name]
mae = whole["selection_mae_months"].min()
assert band[0] < mae < band[1], f"MAE {mae:.1f}, expected {band[0]} to {band[1]} months"
assert by_heart.loc["SGD"].iloc[1] > by_heart.loc["SGD"].iloc[0] + 2, "the wrong order was to stand still"
assert lost > 0.2, f"only {lost:.0%} of the gradients lost in float16"
if course.device.type == "cpu":
    assert same, f"the resumed run ended elsewhere: {apart}"

# %% [markdown]
# The cell above stops if one day these numbers leave the band they had when this was written.
#
# ## Several GPUs
#
# Several cards share a batch out among them: each process has the whole network, takes its part of the films, and the
# gradients are averaged before every step. Accelerate starts such processes from a notebook with `notebook_launcher`.
# It has one condition, and the second cell looks at it: nothing in the notebook may have touched a GPU before.

# %%
import tempfile

from accelerate import notebook_launcher

from bonexage_utils.settings import TrainConfig
from bonexage_utils.training import train


def train_on_several(gpus):
    job = TrainConfig("resnet10t", 64, epochs=2, batch_size=32 * gpus, grad_accum=1, weights="phantom")
    notebook_launcher(train, (course.cohort, tempfile.mkdtemp(), job), num_processes=gpus)


# %%
import torch

gpus, touched = torch.cuda.device_count(), torch.cuda.is_initialized()
if gpus > 1 and not touched:
    train_on_several(gpus)
elif gpus > 1:
    print(f"{gpus} GPUs, but this kernel has used one. Restart it, run the first two cells and these two.")
else:
    print(f"{gpus} GPUs here. With two, each would get half of every batch, and one network would come out.")

# %% [markdown]
# For long trainings the command line is the better place: no browser to close by accident. The lines for `accelerate
# launch` stand in the README, under *Your own data*. The tests of the package train on one process and on two, on a
# processor, and find the same weights to within rounding; on several GPUs we have not measured it yet.

# %%
folder.cleanup()

# %% [markdown]
# ## Self-check
#
# Answer aloud, then open.
#
# <details><summary>1. A colleague's loss becomes NaN in float16, and is fine in bfloat16. Your suspicion?</summary>
#
# A number beyond 65,504 somewhere: a power, a sum over many pixels, a label in the wrong unit. Look for the layer after
# which the first infinity stands, and compute that one in float32, as GeM is computed here (notebook 04).
# </details>
#
# <details><summary>2. "With AMP our MAE is half a month worse." What do you ask?</summary>
#
# Over how many seeds, on the same films, and with what interval (notebook 04)? And was the last step to the age taken
# in sixteen bits? Near 200 months bfloat16 has only whole ones.
# </details>
#
# <details><summary>3. A run was resumed, and its curve has a bump just there. What was forgotten?</summary>
#
# Most likely the optimizer's moments, or the count of updates, so that warm-up began again. A resume that is right
# leaves no trace. And the learning curve (notebook 03) is the place where one sees it.
# </details>
#
# ## What you can now say

# %%
arms = measured.drop(index=("fp32", "channels-last"))
print(f"On this {'GPU' if course.device.type == 'cuda' else 'processor'}, for {BACKBONE}, {films} films of {SIZE} px:")
for (kind, layout), row in arms.iterrows():
    print(f"- {kind}, {layout}: {row.verdict}; takes {row.time:.2f} [{row.low:.2f}, {row.high:.2f}] times as long as "
          "fp32, channels-last.")
print(f"- In float16 without a scaler, {lost:.0%} of a small ConvNeXt's gradients are lost; with one, hardly any.")
few, many = (kept.iloc[row]["16 bits, MB"] / kept.iloc[row]["float32, MB"] for row in (0, -1))
print(f"- What a step keeps, 16 bits against 32: × {few:.2f} for {kept.index[0]}, × {many:.2f} for {kept.index[-1]}.")
wide, half = (sum(budgets[name].values()) / 1e3 for name in ("float32, 16 films", "16 bits, 16 films"))
print(f"- Computed, the full recipe, 16 films at once: {wide:.1f} GB in float32 and {half:.1f} GB in sixteen bits.")
print(f"- A training killed in epoch {killed.after + 1} went on; no number of its end differs by more than "
      f"{max(apart.values()):g}.")

# %% [markdown]
# ## What we left out
#
# - **float8 and integers.** Newer cards multiply with 8 bits; training with them needs a scale for every layer.
# - **TF32.** GPUs since 2020 may shorten the digits of float32 products on their own; torch has a switch for it.
# - **Compiling the network** (`torch.compile`), which joins small operations into large ones.
# - **Checkpointing of activations**: forget the maps and compute them again on the way back, time for memory.
# - **The real training**, on a GPU, with ConvNeXt-Tiny: notebook 10.
#
# ## Sources
#
# - Micikevicius et al., *Mixed precision training*, ICLR 2018: float16, weights in float32, and the scaled loss.
# - Kalamkar et al., *A study of bfloat16 for deep learning training*, arXiv 1905.12322.
# - IEEE 754-2019: float32 and float16, bit by bit.
# - Liu et al., *A ConvNet for the 2020s*, CVPR 2022; Touvron et al., *Going deeper with image transformers*, ICCV 2021:
#   the layer scale that begins at a millionth.
# - Loshchilov & Hutter, *Decoupled weight decay regularization*, ICLR 2019: AdamW.
# - PyTorch's pages on `torch.amp`, `torch.profiler` and channels-last; Accelerate's on `notebook_launcher`.
