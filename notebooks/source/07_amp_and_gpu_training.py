# %% [markdown]
# # 07 · AMP and GPU training
#
# **The question:** how do I train the real thing fast and safely?
#
# Today you write the training yourself: one file, `train.py`, in plain PyTorch. *Fast* is a matter of number formats:
# sixteen bits where they suffice, called automatic mixed precision, AMP. *Safely* is a matter of what happens at three
# in the morning, when the machine goes down: you will kill your own training, and see whether it comes back.
#
# **After this notebook you can**
#
# - say what float16 and bfloat16 keep of a number, and which numbers of a network each of them breaks;
# - write a training loop with mixed precision from memory: scale, backward, unscale, clip, step, update;
# - make one large update out of small batches, and average the weights;
# - save a run so that it can be killed and resumed, and prove that nothing was lost;
# - find out what a step waits for, and judge "AMP is faster and leaner" on your own machine.
#
# **You need** Python with functions and classes, and to have seen a training loop, as in notebook 03. No GPU is needed.
#
# **Time:** 60 minutes with the exercises. On one processor core, profile `cpu`, five minutes of computing, plus one,
# once, to draw the 2,400 films if no other notebook has.

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
# A computer writes numbers as we write very large ones: 2.004 × 10², only with powers of two. One bit is for the sign.
# Some say the power of two, the **exponent**: how far the numbers reach. The rest say the digits, the **fraction**:
# how close together they lie. float32, PyTorch's usual format, has 8 bits for the exponent and 23 for the fraction.
# With sixteen one must choose. *float16* takes 5 and 10. *bfloat16* takes 8, as many as float32, and has 7 left.

# %% tags=["nbval-check-output"]
from bonexage_utils.course.nb07.formats import bit_parts, stored

for kind in ("float32", "bfloat16", "float16"):
    sign, exponent, fraction = bit_parts(200.4, kind)
    print(f"{kind:9} {sign} {exponent:8} {fraction:23} is {stored(200.4, kind):.9g}")

# %% [markdown]
# The same age in three formats, 200.4 months.
#
# Type a number, from 0 to a million, and see what each format makes of it. Try 0.1, then 0.00000001, then 70000:

# %%
from bonexage_utils.course.nb07.formats import draw_bits, type_a_number

type_a_number()

# %% [markdown]
# The same without typing, for four numbers:

# %%
draw_bits()

# %% [markdown]
# Each row is one format, each square a bit, filled for 1. At 200.4, bfloat16 is the coarse
# one. In the two lower panels it is float16 that fails: a hundred-millionth is *gone*, and 70,000 is *infinite*.
# **bfloat16 has the reach and lacks the digits; float16 has more digits and lacks the reach.**
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
# One step of training often changes a weight by a thousandth of itself or less. Take a weight of 1 and a thousand
# steps of 0.001. The answer should be 2:

# %% tags=["nbval-check-output"]
import torch

for kind in (torch.float32, torch.bfloat16, torch.float16):
    weight, change = torch.ones((), dtype=kind), torch.tensor(0.001, dtype=kind)
    for _ in range(1000):
        weight = weight + change
    print(f"{str(kind)[6:]:9} 1 + 1000 × 0.001 = {weight.item():.3f}")

# %% [markdown]
# bfloat16 stays at 1: its next number is 1.0078, and 1.001 is rounded back, a thousand times. No error is raised. So
# *weights* are not kept in sixteen bits. **Mixed** precision means: weights, and what is added up for long, stay in
# float32; the large multiplications in between, convolutions and matrices, are done in sixteen bits.
#
# ## Predict first
#
# Commit to two guesses. In a small ConvNeXt, of a hundred gradients that are not zero, **how many become zero when
# they are computed in float16?** And on the machine in front of you, with **which format is a training step quickest:
# `"fp32"`, `"bf16"` or `"fp16"`?** (float32, bfloat16 and float16, in short.)

# %%
guess_lost = ...  # percent, such as 10
guess_quickest = ...  # such as "fp16"

# %% [markdown]
# ## A network's own numbers
#
# Eight small films, and two of timm's miniature networks with random weights: a *ConvNeXt*, of the family that the
# full recipe uses, and a *ResNet*.

# %%
from bonexage_utils.batches import film_sets
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


def new_net(backbone):
    torch.manual_seed(course.seed)
    return bonexage_utils.BoneAgeNet(backbone).train().to(course.device, memory_format=torch.channels_last)


nets = {"ConvNeXt": new_net("test_convnext"), "ResNet": new_net("test_resnet")}
found = {name: gradients(net, batch) for name, net in nets.items()}  # in float32

# %%
weights = torch.cat([p.detach().flatten() for p in nets["ConvNeXt"].parameters()])
draw_number_lines({"ages, months": batch.months, "weights of the ConvNeXt": weights,
                   "gradients of the ConvNeXt": found["ConvNeXt"], "gradients of the ResNet": found["ResNet"]})

# %% [markdown]
# Horizontal axis: how large a number is, each tick a thousand times the one before; the height says how many there
# are. The red line at the bottom is float16's range: solid with all digits, dotted with fewer. In the red shade it has
# no numbers at all. The grey line, bfloat16 and float32, reaches beyond the picture on both sides.
#
# Of the ConvNeXt's gradients many lie in the left shade, where float16 knows only zero; the titles say how many.
# ConvNeXt multiplies each block by a *layer scale* that begins at a millionth, so the gradients behind it are a million
# times smaller. How much float16 loses depends on the network.
#
# ## Underflow, and its rescue
#
# We compute the ConvNeXt's gradients again, the forward pass in float16, and count those that have become zero although
# float32 knows better. A weight whose gradient is zero does not move. But backward is linear: multiply the *loss* by a
# number, the **scale**, and every gradient on the way is multiplied by it, *before* it can get lost. Afterwards, in
# float32, we divide:

# %%
import pandas as pd

there, scale = found["ConvNeXt"] != 0, 2.0**12
bare = gradients(nets["ConvNeXt"], batch, "fp16")
rescued = gradients(nets["ConvNeXt"], batch, "fp16", scale) / scale
lost, left = (float((some[there] == 0).float().mean()) for some in (bare, rescued))
print(f"lost without help: {lost:.0%}; with a scale of {scale:,.0f}: {left:.1%}")
pd.DataFrame({"your guess": [guess_lost], "measured": [f"{100 * lost:.0f}"]},
             index=["percent of the gradients lost"]).replace({...: "no guess"})

# %% [markdown]
# So why not a scale of a billion? Try them all:

# %%
from bonexage_utils.course.nb07.scaling import draw_scales, sweep_scales

sweep = sweep_scales(nets["ConvNeXt"], batch)
draw_scales(sweep)

# %% [markdown]
# Horizontal axis: the scale, each tick sixteen times the one before. Blue: gradients lost to zero. Red: gradients
# spoiled, because somewhere on the way back a number went beyond 65,504 and became infinite. A single spoiled gradient
# makes the whole step useless: it is skipped. The shade begins at the first scale we *tried* at which one
# was spoiled. There is a window between losing and spoiling, and it moves while the network learns: the scale has to be
# looked for all the time.
#
# ## Autocast, by hand
#
# `torch.autocast` does not change a network. It steps in at each operation, in three ways. Convolutions and matrix
# products get their inputs, weights included, **cast down** to sixteen bits. Some operations that need digits or reach,
# such as a mean of squares, get theirs **cast up** to float32, even where they come in float16. The others take what
# comes; where two kinds meet, the result is of the **wider** kind.

# %% tags=["nbval-check-output"]
films, kernel = torch.rand(2, 1, 32, 32), torch.randn(8, 1, 3, 3) / 3
ours = torch.nn.functional.conv2d(films.half(), kernel.half())
with torch.autocast("cpu", torch.float16):
    cast = torch.nn.functional.conv2d(films, kernel)
    up = torch.nn.functional.mse_loss(cast, 0 * cast)
    wider = cast + torch.zeros(cast.shape)
print("down: by hand and autocast agree:", torch.equal(ours, cast), "-", cast.dtype)
print("up: a mean of squares of it is", up.dtype)
print("wider: the map plus one in float32 is", wider.dtype)
print("the weight itself stays", kernel.dtype)

# %% [markdown]
# And in the whole network? What some parts of the ConvNeXt hand on, from the first block to the age:

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
# The convolution and the matrix products (`Mlp`), where nearly all the work is, hand on float16. The block hands on
# float32: its layer scale is a float32 weight, and the wider kind wins. GeM is in float32 on purpose: 50³ is already
# beyond float16. The head (`Sequential`) ends in a matrix, so the *score* is in float16; the age is made of it in
# float32. What the score has lost stays lost. What is that worth in months, at worst?

# %% tags=["nbval-check-output"]
from bonexage_utils.course.nb07.formats import gap

scores = torch.linspace(0.001, 6, 6000, dtype=torch.float64)
slopes = 240 * torch.sigmoid(scores) * torch.sigmoid(-scores)  # months for each 1 of the score
for kind in ("bfloat16", "float16"):
    steps = [gap(float(at), kind) * float(slope) for at, slope in zip(scores, slopes, strict=True)]
    print(f"{kind}: steps of up to {max(steps):.2f} months")

# %% [markdown]
# ## train.py, piece by piece
#
# Now the file. `%%writefile` writes a cell into a file beside this notebook, `%%writefile -a` adds to its end, and
# `%run -n train.py` runs it here, so that its names are ours to try. (Twice added is twice there: after a change, go
# on from this cell. To keep a version of your own, give the file another name.) What it takes:

# %%
# %%writefile train.py
"""Learn to read bone age from films: python train.py DATA RUN, or --help."""
import argparse, copy, math, os, time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from bonexage_utils import BoneAgeNet, load_cohort
from bonexage_utils.augment import augment
from bonexage_utils.batches import film_key, film_sets
from bonexage_utils.checkpoints import save_model
from bonexage_utils.images import Preprocessing, measure_intensity
from bonexage_utils.settings import Augmentation

# %%
# %%writefile -a train.py

SETTINGS = {"backbone": "convnext_tiny", "weights": "imagenet", "image_size": 512,
            "epochs": 35, "batch_size": 16, "grad_accum": 2, "lr": 2e-4,
            "precision": "fp32", "seed": 0, "workers": 0}


def options(words=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument("--resume", action="store_true")
    for name, value in SETTINGS.items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value)
    return parser.parse_args(words)

# %% [markdown]
# The settings are the package's, with its values for the full recipe. Ours here are small:

# %%
# %run -n train.py
import tempfile

from bonexage_utils.phantom import write_cohort

folder = tempfile.TemporaryDirectory()
runs = Path(folder.name)
DATA = course.cohort.root if course.embedded else write_cohort(runs / "phantom", 600, course.seed)
SMALL = ["--image-size", str(SIZE), "--batch-size", "8", "--grad-accum", "1", "--lr", "0.001"]
TINY = [*SMALL, "--backbone", "test_convnext", "--weights", "none", "--epochs", "1"]
run = options([str(DATA), str(runs / "steps"), *TINY])
print(f"{run.epochs} epoch, {run.batch_size} films at a time, {run.image_size} px, {run.precision}")

# %% [markdown]
# ### The films
#
# A `Dataset` answers two questions: how many, and give me number *i*. This one keeps the rows of a table and the
# letterboxed films as bytes. For each film it gives the image, the sex, the label, and a number made from the film's
# name. Another task takes another column: the width of the radius, say, in place of `months`.

# %%
# %%writefile -a train.py


class Films(Dataset):
    def __init__(self, table, pixels):
        self.films, self.pixels = list(table.itertuples()), pixels

    def __len__(self):
        return len(self.films)

    def __getitem__(self, item):
        film = self.films[item]
        image = torch.tensor(self.pixels[film.Index])[None]  # uint8 (1, S, S)
        months = torch.tensor(film.months, dtype=torch.float32)
        return image, int(film.sex == "M"), months, film_key(film.id)

# %%
# %%writefile -a train.py


def load(run):
    cohort = load_cohort(run.data)
    sets, tables, _ = film_sets(cohort, ("train", "selection"), run.image_size)
    pixels, train = sets["train"].films, tables["train"]
    run.train, run.selection = Films(train, pixels), Films(tables["selection"], pixels)
    run.scale = Preprocessing(run.image_size, *measure_intensity(pixels, train.index))
    run.mean = float(train["months"].to_numpy("float32").mean())
    run.about = {"cohort": cohort.name, "label_hashes": cohort.label_hashes, "films": len(train),
                 "median_months_by_sex": train.groupby("sex")["months"].median().to_dict()}

# %% tags=["nbval-check-output"]
# %run -n train.py
load(run)
image, sex, months, key = run.train[0]
print("one film:", image.dtype, tuple(image.shape), "- its label:", months.dtype)

# %% [markdown]
# A `DataLoader` makes batches of them. `sampler` is the order of the epoch. `workers` are processes that read ahead;
# 0 reads in this one, which is enough for a cache of bytes. `pin_memory` puts batches where a GPU can fetch them by
# itself, and `non_blocking=True` lets it do so while the program goes on. The films travel as bytes; scaling and
# augmentation happen on the device.
#
# Everything random is drawn from a seed that can be had again: the order from seed and epoch, each film's augmentation
# from its own number. (The `generator` is one for the loader alone: else its start would draw from the stream from
# which dropout draws.) Films that make no whole update are left out, others each epoch.

# %%
# %%writefile -a train.py


def batches(run, films, learning=False):
    order, how = np.random.default_rng([run.seed, run.epoch]).permutation(len(films)), {}
    if learning:
        how = {"sampler": order[: run.steps * run.batch_size], "generator": torch.Generator()}
    for batch in DataLoader(films, run.batch_size, num_workers=run.workers,
                            pin_memory=torch.cuda.is_available(), **how):
        images, sex, months, keys = (t.to(run.device, non_blocking=True) for t in batch)
        images = images.float() / 255
        if learning:
            images = augment(images, keys, run.epoch, run.seed, Augmentation())
        images = (images - run.scale.mean) / run.scale.std
        yield images.to(memory_format=torch.channels_last), sex, months

# %% [markdown]
# ### The network, the optimizer, the scaler
#
# Weight decay pulls a weight towards zero. That means something for matrices and kernels, and nothing for norms,
# biases, GeM's p or the two vectors of the sex: AdamW gets two groups. The learning rate rises over the first
# twentieth of all updates and falls along half a cosine. It is a function of the count, so it need not be saved.

# %%
# %%writefile -a train.py


def groups(net, decay=0.05):
    bare = [p for name, p in net.named_parameters() if p.ndim < 2 or "vectors" in name]
    rest = [p for name, p in net.named_parameters() if p.ndim > 1 and "vectors" not in name]
    return [{"params": rest, "weight_decay": decay}, {"params": bare, "weight_decay": 0.0}]


def rate(update, updates, warm_up=0.05):
    first = max(1, round(warm_up * updates))
    if update < first:
        return (update + 1) / first
    return 0.5 * (1 + math.cos(math.pi * (update - first) / max(1, updates - first)))

# %%
# %%writefile -a train.py


def build(run):
    run.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32 on a GPU, too
    torch.manual_seed(run.seed)
    net = BoneAgeNet(run.backbone, weights=run.weights, months_mean=run.mean,
                     image_size=run.image_size)
    run.net = net.to(run.device, memory_format=torch.channels_last)
    run.average = copy.deepcopy(run.net).eval()
    run.optimizer = torch.optim.AdamW(groups(run.net), lr=run.lr, fused=True)
    run.scaler = torch.amp.GradScaler(run.device.type, enabled=run.precision == "fp16")
    run.steps = len(run.train) // (run.batch_size * run.grad_accum) * run.grad_accum
    run.epoch, run.update, run.best, run.log = 0, 0, math.inf, []

# %% tags=["nbval-check-output"]
# %run -n train.py
build(run)
before = torch.get_rng_state()
images, sex, months = next(batches(run, run.train, learning=True))
print("a batch:", images.dtype, tuple(images.shape), "- ages", tuple(months.shape))
print("the rate at updates 0, 5 and 99 of 100:", *(f"{rate(n, 100):.4f}" for n in (0, 5, 99)))
print("the stream of dropout has not moved:", torch.equal(before, torch.get_rng_state()))

# %% [markdown]
# `channels_last` is the order in memory: all channels of one place together; the values are the same. The scaler does
# nothing unless the format is float16: bfloat16 has the reach and needs none.
#
# ### The forward pass

# %%
# %%writefile -a train.py


def forward(run, net, images, sex):
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(run.precision)
    with torch.autocast(run.device.type, kind, enabled=kind is not None):
        return net(images, sex)

# %% [markdown]
# Only the forward pass stands under autocast. The backward pass follows by itself, each operation in the format that
# its forward had. The loss comes after, in float32.
#
# ### The update, and the scaler by hand
#
# The heart of the file. After backward the gradients are there, too large by the scale:

# %%
# %%writefile -a train.py


def update(run, net, optimizer, scaler):
    for group in optimizer.param_groups:
        group["lr"] = run.lr * rate(run.update, run.epochs * run.steps // run.grad_accum)
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    run.update += 1
    follow(run.average, net, run.update)

# %% [markdown]
# `unscale_` divides the gradients by the scale, and looks whether one is infinite or no
# number. `step` skips the step if so. `update` halves the scale after a skipped step, and doubles it if all has gone
# well for so many steps. By hand:

# %%
class Scale:
    def __init__(self, factor, patience):
        self.factor, self.patience, self.went_well, self.seen = factor, patience, 0, []

    def scale(self, loss):
        return loss * self.factor

    def unscale_(self, optimizer):
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        for weight in weights:
            weight.grad /= self.factor
        self.fine = all(bool(torch.isfinite(weight.grad).all()) for weight in weights)


# %%
class MyScaler(Scale):
    def step(self, optimizer):
        if self.fine:
            optimizer.step()

    def update(self):
        self.seen.append((self.factor, not self.fine))
        self.went_well = self.went_well + 1 if self.fine else 0
        if not self.fine:
            self.factor /= 2
        elif self.went_well == self.patience:
            self.factor, self.went_well = 2 * self.factor, 0


# %% [markdown]
# ### Average, and learn
#
# `follow` keeps an average of the weights: each update it moves a little towards the network, first much, later by a
# thousandth. The average is what is measured and used in the end; it is calmer than the last step.
#
# `learn` is one epoch. `grad_accum` batches make one update. Their gradients add up by themselves, so each loss is
# divided by their number, and everything in `update`, unscaling included, is done once for all of them.

# %%
# %%writefile -a train.py


@torch.no_grad()
def follow(average, net, update):
    keep, weights = min(0.999, 1 - update ** (-2 / 3)), net.state_dict()
    for name, mean in average.state_dict().items():
        now = weights[name]
        mean.lerp_(now, 1 - keep) if mean.is_floating_point() else mean.copy_(now)

# %%
# %%writefile -a train.py


def learn(run):
    net, scaler, total = run.net.train(), run.scaler, 0.0
    for step, (images, sex, months) in enumerate(batches(run, run.train, True), 1):
        read = forward(run, net, images, sex)
        loss = torch.nn.functional.smooth_l1_loss(read / 12, months / 12) / run.grad_accum
        scaler.scale(loss).backward()
        if step % run.grad_accum == 0:
            update(run, net, run.optimizer, scaler)
        total += loss.detach()
    return float(total) * run.grad_accum / run.steps  # years, per film

# %% [markdown]
# `float(total)` waits until a GPU is done; so it stands behind the loop, not in it.
#
# Now sixteen steps in float16 with *our* scaler. We begin with a scale far too large, so that something happens:

# %%
# %run -n train.py
from bonexage_utils.course.nb07.scaling import draw_scale_history


def sixteen_steps(scaler):
    run.precision = "fp16"
    build(run)
    run.steps, run.scaler = 16, scaler
    learn(run)
    return [weight.clone() for weight in run.net.state_dict().values()]


mine = MyScaler(2.0**20, patience=4)
by_hand = sixteen_steps(mine)

# %%
draw_scale_history(*map(list, zip(*mine.seen, strict=True)))

# %% [markdown]
# Horizontal axis: the step. Vertical axis: the scale. A cross is a step that was skipped. The scaler feels its way down
# until the gradients hold; after four good steps it tries double. torch's own begins at 2¹⁶ and waits for 2,000. A step
# skipped now and then is *no* error. A scale that falls to 1 and below is one: then something goes beyond 65,504
# already on the way forward.
#
# And torch's, from the same start?

# %% tags=["nbval-check-output"]
torchs = torch.amp.GradScaler(course.device.type, init_scale=2.0**20, growth_interval=4)
by_torch = sixteen_steps(torchs)
pairs = list(zip(by_hand, by_torch, strict=True))
print("the same scale in the end:", torchs.get_scale() == mine.factor)
print("and the same weights:", all(torch.allclose(*pair, atol=1e-6) for pair in pairs))

# %% [markdown]
# ## Unscale, then clip
#
# Clipping cuts the gradient to a length of 5 where it is longer, so that one odd film cannot throw the network off. *5*
# is meant for gradients of their true size. What if somebody clips first and unscales then?

# %%
def length(gradient):
    return float(gradient.double().norm())


def clipped(gradient, limit=5.0):
    return gradient * min(1.0, limit / length(gradient))


scale, true = 2.0**16, found["ResNet"]
print(f"not clipped: {length(true):.3g}; unscale, then clip: {length(clipped(true * scale / scale)):.3g}; "
      f"clip, then unscale: {length(clipped(true * scale) / scale):.2g}")

# %% [markdown]
# That is the length which reaches the optimizer. In the wrong order it is tens of thousands of times too short. Would
# you notice? The ConvNeXt learns our eight films by heart, in both orders, with plain gradient descent (SGD) and with
# AdamW; in float32, so that nothing but the order differs:

# %%
from bonexage_utils.course.nb07.scaling import learn_in_order

steps = 10 if course.profile.name == "fast" else 30
rows = {optimizer: {name: learn_in_order(nets["ConvNeXt"], batch, optimizer, first, steps)
                    for name, first in (("unscale, then clip", True), ("clip, then unscale", False))}
        for optimizer in ("SGD", "AdamW")}
by_heart = pd.DataFrame.from_dict(rows, orient="index")
by_heart.round(1).rename_axis("MAE on the eight, months")

# %% [markdown]
# With SGD the wrong order stands still: the right column is where everybody begins. AdamW divides each gradient by its
# usual size, and so it *hides* the mistake: it learns all the same. But every step is now cut to one length, odd film
# or not.
#
# ### Exercise: six lines
#
# Six lines of a loop, in no order. The forward pass has just given the `loss`:
#
#     A   scaler.step(optimizer)
#     B   optimizer.zero_grad()
#     C   scaler.scale(loss).backward()
#     D   scaler.update()
#     E   torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
#     F   scaler.unscale_(optimizer)
#
# Put them right: give six letters. The check *runs* your lines, several times round, on a small problem.

# %% tags=["nbval-check-output"]
my_order = ...  # such as "ABCDEF"
ex.order.check(my_order)

# %%
# ex.order.hint()
# ex.order.solution()

# %% [markdown]
# ## Is it really one large batch?
#
# Two batches of 4, each with half of the loss: do the gradients add up to those of a batch of 8? Dropout off, float32:

# %%
def in_parts(net, sizes):
    net.zero_grad()
    for part in torch.arange(len(batch)).split(sizes):
        read = net(batch.images[part], batch.sex[part])
        loss = torch.nn.functional.smooth_l1_loss(read / 12, batch.months[part] / 12)
        (loss * len(part) / len(batch)).backward()
    return torch.cat([p.grad.flatten() for p in net.parameters()])


# %% tags=["nbval-check-output"]
for name, net in nets.items():
    net.head[3].p = 0.0  # no dropout
    whole, parts = in_parts(net, [8]), in_parts(net, [4, 4])
    print(f"{name}: two batches of 4 are one of 8: {length(parts - whole) / length(whole) < 0.001}")

# %% [markdown]
# For the ConvNeXt, to within rounding. For the ResNet *not*, and that is no bug: its batch norms bring each channel to
# mean 0 and spread 1 by the films *in hand*, 4 now instead of 8.
#
# ### Validate, save, resume
#
# The average reads the selection films, in the same number format. Then everything that the next update depends on
# goes into one file: written aside, then renamed, so that there is always a whole one, the old or the new.

# %%
# %%writefile -a train.py


@torch.inference_mode()
def validate(run):
    errors = []
    for images, sex, months in batches(run, run.selection):
        errors.append((forward(run, run.average, images, sex) - months).abs())
    return torch.cat(errors).mean().item()

# %%
# %%writefile -a train.py

PARTS, COUNTS = ("net", "average", "optimizer", "scaler"), ("epoch", "update", "best", "log")


def save(run):
    state = {name: getattr(run, name).state_dict() for name in PARTS}
    state |= {name: getattr(run, name) for name in COUNTS}
    state["random"] = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    part, head = Path(run.out, "part"), "epoch,train_loss_years,selection_mae_months,seconds"
    torch.save(state, part)
    os.replace(part, Path(run.out, "state.pt"))
    np.savetxt(part, run.log, "%.6g", ",", header=head, comments="")
    os.replace(part, Path(run.out, "log.csv"))

# %%
# %%writefile -a train.py


def resume(run):
    state = torch.load(Path(run.out, "state.pt"), "cpu", weights_only=True)
    for name in PARTS:
        getattr(run, name).load_state_dict(state[name])
    vars(run).update({name: state[name] for name in COUNTS})
    torch.set_rng_state(state["random"][0])
    torch.cuda.set_rng_state_all(state["random"][1:])

# %% [markdown]
# `weights_only=True` reads tensors, numbers and texts, and nothing else. Without it, torch would unpickle whatever is
# in the file, and a pickle can run any program. `save_model` is the package's: the file to use, with all that a
# prediction needs.

# %%
# %%writefile -a train.py


def keep(run):
    about = {**run.about, "epoch": run.epoch, "selection_mae_months": run.best,
             "parameters": sum(p.numel() for p in run.net.parameters()),
             "config": {name: getattr(run, name) for name in SETTINGS} | {"loss": "smoothl1"}}
    path, best = Path(run.out, "model.safetensors"), run.average.state_dict()
    save_model(path, run.net, best, run.scale, about)

# %%
# %%writefile -a train.py


def one_epoch(run):
    start, loss = time.perf_counter(), learn(run)
    run.epoch, mae = run.epoch + 1, validate(run)
    run.log.append([run.epoch, loss, mae, time.perf_counter() - start])
    print(f"epoch {run.epoch} of {run.epochs}: MAE {mae:.2f} months", flush=True)
    if mae < run.best:
        run.best = mae
        keep(run)
    save(run)

# %%
# %%writefile -a train.py


if __name__ == "__main__":
    run = options()
    Path(run.out).mkdir(parents=True, exist_ok=True)
    load(run)
    build(run)
    if run.resume and Path(run.out, "state.pt").exists():
        resume(run)
    while run.epoch < run.epochs:
        one_epoch(run)

# %% tags=["nbval-check-output"]
lines = Path("train.py").read_text(encoding="utf-8").splitlines()
names = [line.split("(")[0].removeprefix("def ") for line in lines if line.startswith("def ")]
print("each function once:", len(names) == len(set(names)), "-", ", ".join(names))

# %% [markdown]
# ## From a terminal
#
# As you would type it, with a network that knows hands already:

# %%
from bonexage_utils.course.frozen import BACKBONE
from bonexage_utils.course.nb07.drill import show_command, start_script, wait

recipe = ["--backbone", BACKBONE, "--weights", "phantom", *SMALL]
if course.profile.name != "fast":
    recipe += ["--batch-size", "32"]
once = [str(DATA), str(runs / "once"), *recipe, "--epochs", "1"]
print(show_command(["train.py", "DATA", "RUN", *once[2:]]))
print(wait(start_script("train.py", *once)))

# %% [markdown]
# And the package's own `Trainer`, with the same settings?

# %%
from bonexage_utils.settings import TrainConfig
from bonexage_utils.training import Trainer

run = options(once)
settings = {name: getattr(run, name) for name in SETTINGS}
trainer = Trainer(load_cohort(DATA), runs / "trainer", TrainConfig(**settings))
_ = trainer.fit()

# %% tags=["nbval-check-output"]
state = torch.load(runs / "once" / "state.pt", "cpu", weights_only=True)
theirs = {"net": trainer.network.state_dict(), "average": trainer.ema.module.state_dict()}
apart = max(float((state[part][name].double() - tensor.cpu().double()).abs().max())
            for part, tensors in theirs.items() for name, tensor in tensors.items())
allowed = 1e-3 if course.device.type == "cuda" else 0.0  # a GPU may add in another order
print("train.py and Trainer end in the same weights:", apart <= allowed)

# %%
print("the largest difference of any weight:", apart)

# %% [markdown]
# On a processor not one bit differs. `Trainer` has more around it: several processes, a clean stop at Ctrl-C. But what
# it computes is what you have written, and `bonexage predict RUN/model.safetensors FILMS` takes the file that it made.
#
# ## Kill it
#
# A training of hours will be stopped one day: Colab ends a session, the power fails. First a run of three epochs that
# nobody interrupts:

# %%
from bonexage_utils.course.nb07.drill import kill_within, read_log

three = [*recipe, "--epochs", "3"]
wait(start_script("train.py", str(DATA), str(runs / "whole"), *three))
whole = read_log(runs / "whole")
whole.round(2)

# %% [markdown]
# And once more. When one epoch is done, and the second is about half through, we kill it: `kill` on Linux is SIGKILL,
# which no program can catch, prepare for, or tidy up after.

# %%
process = start_script("train.py", str(DATA), str(runs / "killed"), *three)
killed = kill_within(process, runs / "killed", after=1)
print("alive:", process.poll() is None)
print(f"in its log: {len(killed.log)} of 3 epochs")

# %% [markdown]
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
# The same command, with one word more:

# %%
from bonexage_utils.course.nb07.drill import draw_drill

wait(start_script("train.py", str(DATA), str(runs / "killed"), *three, "--resume"))
resumed = read_log(runs / "killed")
draw_drill(whole, killed, resumed)

# %% [markdown]
# The broad band is the run that was never interrupted. On it lie the killed one's points before the kill (round) and
# after it (square). The shaded half epoch was lost, and done again. Points on a line are no proof: compare every number
# in both files.

# %% tags=["nbval-check-output"]
from bonexage_utils.course.nb07.drill import largest_difference

between = largest_difference(runs / "whole", runs / "killed")
same = max(between.values()) <= allowed
print("the killed run ends in the same weights:", same)

# %%
print("largest difference between the two runs:", between)

# %% [markdown]
# On a processor it is zero, because everything random is drawn from a seed, the epoch and the film, or from a stream
# whose state was saved. A slip in `save` would show here, and hardly anywhere else.
#
# ## The clock, and where the time goes
#
# A GPU works behind the program's back: an operation only puts work into its queue. A clock that is read without
# waiting shows how long it took to *ask*. `torch.cuda.synchronize()` waits. So does whatever needs a number: `float`,
# `.item()`, `print`. Put none of them into the loop, and one before each reading of a clock.
#
# A second trap: GPUs since 2020 can shorten float32 products to 10 bits of fraction, **TF32**. torch does so in
# convolutions unless told not to, as `build` does; in matrix products only if
# `torch.backends.cuda.matmul.allow_tf32` is `True`. Say which before you compare with "float32".
#
# torch's profiler watches a few training steps; on a GPU each part here waits until its work is done:

# %%
from bonexage_utils.course.nb07.speed import draw_profile, part_shares, profile_steps

spans, operators = profile_steps(sets["train"], preprocessing, BACKBONE, "phantom", 16, course.device, precision="fp32")
draw_profile(spans, operators)

# %%
part_shares(spans).map("{:.0%}".format).to_frame("share of the time").T

# %% [markdown]
# On the left, time runs to the right, each line one part of a step; on the right, the operations that took most time of
# their own. A quicker format can shorten *forward* and *backward*, and nothing else. If they are two thirds of a step,
# halving them makes it half again as fast, and no more.
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
# *AMP is faster and leaner*, one hears. In every round each of four takes one whole training step, in an order that is
# drawn anew: a slow minute slows all of them, so we compare within rounds. `plain` is the other layout, channel by
# channel.

# %%
from bonexage_utils.course.nb07.speed import draw_race, race, time_table

count, rounds = {"fast": (4, 3), "cpu": (8, 10), "gpu": (64, 30)}[course.profile.name]
racing = first_batch(sets["train"], count, preprocessing, course.device)
arms = (("fp32", "plain"), ("fp32", "channels-last"), ("bf16", "channels-last"), ("fp16", "channels-last"))
times = race(BACKBONE, "phantom", racing, rounds, arms)
draw_race(times)

# %%
measured = time_table(times)
measured.round({"step, ms": 1, "time": 2, "low": 2, "high": 2, "MB": 1, "memory": 2})

# %%
from bonexage_utils.course.nb07.speed import quickest

pd.DataFrame({"your guess": [guess_quickest], "measured": [quickest(measured)]},
             index=["the quickest format here"]).replace({...: "no guess"})

# %% [markdown]
# Left in the picture, each point is a step; the scale is logarithmic. In the table, *time* is the ratio to `fp32,
# channels-last` within a round, with its 95 % interval from *low* to *high*; below 1 is faster. *MB* is the peak of a
# step on a GPU; on a processor it is the *count* of what autograd keeps for the way back. (So few small films are no
# test of memory.)
#
# It depends on the machine. Processors with AVX512-BF16 or AMX multiply bfloat16 natively; others convert to and fro.
# float16 is seldom native on x86. On GPUs both are native from 2020 on. A T4 gives bfloat16 by slow emulation only.
#
# And is the network as good? What was recorded, against float32:

# %%
from bonexage_utils.course.nb07.precision import how_measured, precision_table

precision_table()

# %%
print(how_measured())

# %% [markdown]
# An interval that holds × 1, or 0 months, allows no claim. A processor proves nothing about GPUs.
#
# ## What fills the memory
#
# The weights, a gradient for each, AdamW's two moments, the average; and, most of all, the maps kept for the backward
# pass. Computed, not measured, for the full recipe, ConvNeXt-Tiny at 512 px:

# %%
from bonexage_utils.course.nb07.scaling import draw_step_memory, step_megabytes

recipes = {"float32, 16 films": (16, "fp32"), "16 bits, 16 films": (16, "bf16"), "16 bits, 8 films": (8, "bf16")}
budgets = {name: step_megabytes("convnext_tiny", 512, *how) for name, how in recipes.items()}
draw_step_memory(budgets)

# %% [markdown]
# The dashed line is a card of 16 GB. The small stripes at the left are the same in all: weights stay in float32.
# Sixteen bits make the blue part about half, and half the films halve it again; `--grad-accum` makes up for them. Leave
# a margin: what operations need to work in comes on top.
#
# ## Four more tools
#
# Each cell is off; set its word to `True` to try it. **Compiling** joins small operations into large ones.
# **Checkpointing** forgets maps and computes them again on the way back: time for memory. **TensorBoard** draws a log.
# **Two processes** share out every batch and average the gradients before each update.

# %%
COMPILE = False  # True: takes a minute, and a C++ compiler
if COMPILE:
    run = options([str(DATA), str(runs / "compiled"), *TINY])
    load(run), build(run)
    run.net.compile()
    run.steps = 16
    for attempt in ("with compiling", "compiled"):
        start = time.perf_counter()
        learn(run)  # ends with a float, so it waits for a GPU
        print(f"{attempt}: {time.perf_counter() - start:.1f} s")

# %%
CHECKPOINTING = False  # True: count what a step keeps, without and with it
if CHECKPOINTING:
    from bonexage_utils.course.memory import kept_bytes

    for on in (False, True):
        nets["ConvNeXt"].features.body.set_grad_checkpointing(on)
        kept = kept_bytes(nets["ConvNeXt"], batch.images.requires_grad_(), batch.sex)
        print(f"checkpointing {on}: {kept / 1e6:.1f} MB kept")
    nets["ConvNeXt"].features.body.set_grad_checkpointing(False)

# %%
TENSORBOARD = False  # True: pip install tensorboard first; then tensorboard --logdir board
if TENSORBOARD:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter("board") as board:
        for row in whole.itertuples():
            board.add_scalar("MAE, months", row.selection_mae_months, row.epoch)

# %%
TWO_PROCESSES = False  # True: torchrun starts the package twice, on this processor
if TWO_PROCESSES:
    from bonexage_utils.course.nb07.drill import start_two

    print(wait(start_two(str(DATA), str(runs / "two"), *recipe, "--epochs", "1")))

# %% [markdown]
# ## Exercise: close the notebook
#
# Another task: how wide is the radius, in mm? Write the loop from memory, for one epoch, in float16:
#
#     def my_loop(net, optimizer, scaler, batches, accumulate):
#         for step, (images, widths) in enumerate(batches, 1):
#             ...
#
# `net(images)` gives widths of the same shape; the loss is `torch.nn.functional.mse_loss`; clip at 5; `accumulate`
# batches make one update, and their number divides evenly. All is on the processor, so autocast is for `"cpu"`. The
# check trains a small network with your function and compares its weights.

# %% tags=["nbval-check-output"]
my_loop = ...  # your function, without brackets
ex.loop.check(my_loop)

# %%
# ex.loop.hint()
# ex.loop.solution()

# %%
band = {"fast": (8, 45), "cpu": (5, 25), "gpu": (3, 25)}[course.profile.name]
mae = whole["selection_mae_months"].min()
assert band[0] < mae < band[1], f"MAE {mae:.1f}, expected {band[0]} to {band[1]} months"
assert by_heart.loc["SGD"].iloc[1] > by_heart.loc["SGD"].iloc[0] + 2, "the wrong order was to stand still"
assert lost > 0.2, f"only {lost:.0%} of the gradients lost in float16"
if course.device.type == "cpu":
    assert same, f"the resumed run ended elsewhere: {between}"
folder.cleanup()

# %% [markdown]
# ## Self-check
#
# Answer aloud, then open.
#
# <details><summary>1. A colleague's loss becomes NaN in float16, and is fine in bfloat16. Your suspicion?</summary>
#
# A number beyond 65,504 somewhere: a power, a sum over many pixels, a label in the wrong unit. Compute that layer in
# float32, as GeM is computed here (notebook 04).
# </details>
#
# <details><summary>2. "With AMP our MAE is half a month worse." What do you ask?</summary>
#
# Over how many seeds, on the same films, with what interval (notebook 04)?
# </details>
#
# <details><summary>3. A run was resumed, and its curve has a bump just there. What was forgotten?</summary>
#
# Most likely the optimizer's moments, or the count of updates, so that warm-up began again. The learning curve
# (notebook 03) is where one sees it.
# </details>
#
# ## What you can now say

# %%
others = measured.drop(index=[("fp32", "channels-last")])
print(f"On this {'GPU' if course.device.type == 'cuda' else 'processor'}, for {BACKBONE}, {count} films of {SIZE} px:")
for (kind, layout), row in others.iterrows():
    print(f"- {kind}, {layout}: {row.verdict}; takes {row.time:.2f} [{row.low:.2f}, {row.high:.2f}] times as long as "
          "fp32, channels-last.")
print(f"- In float16 without a scaler, {lost:.0%} of a small ConvNeXt's gradients are lost; with one, {left:.1%}.")
wide, half = (sum(budgets[name].values()) / 1e3 for name in ("float32, 16 films", "16 bits, 16 films"))
print(f"- Computed, the full recipe, 16 films at once: {wide:.1f} GB in float32 and {half:.1f} GB in sixteen bits.")
print(f"- My train.py and the package's Trainer: no weight differs by more than {apart:g} after an epoch.")
print(f"- A training killed in epoch {killed.after + 1} went on; no number of its end differs by more than "
      f"{max(between.values()):g}.")

# %% [markdown]
# ## What we left out
#
# - **float8.** Newer cards multiply with 8 bits; training with them needs a scale for every layer.
# - **Several machines**: README, *Your own data*.
# - **The real training**, on a GPU, with ConvNeXt-Tiny: notebook 10.
#
# ## Sources
#
# - Micikevicius et al., *Mixed precision training*, ICLR 2018: float16, weights in float32, and the scaled loss.
# - Kalamkar et al., *A study of bfloat16 for deep learning training*, arXiv 1905.12322.
# - Liu et al., *A ConvNet for the 2020s*, CVPR 2022; Touvron et al., *Going deeper with image transformers*, ICCV 2021:
#   the layer scale that begins at a millionth.
# - Loshchilov & Hutter, *Decoupled weight decay regularization*, ICLR 2019: AdamW.
# - PyTorch's pages on `torch.amp`, `torch.profiler` and CUDA semantics (TF32, waiting).
