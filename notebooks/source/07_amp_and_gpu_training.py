# %% [markdown]
# # 07 · AMP and GPU training
#
# **The question:** how do I train the real thing fast and safely?
#
# Today you write the training yourself: one file, `train.py`, in plain PyTorch. *Fast* is a matter of number formats:
# sixteen bits where they suffice, called automatic mixed precision, AMP. *Safely* is a matter of what happens when the
# machine goes down at night. You will kill your own training, and see whether it comes back.
#
# **After this notebook you can**
#
# - say what float16 and bfloat16 keep of a number;
# - write a training loop with mixed precision from memory;
# - make one large update out of small batches, and average the weights;
# - save a run so that it can be killed and resumed, and prove that nothing was lost;
# - judge "AMP is faster and leaner" on your own machine.
#
# **Run a cell** with Shift + Enter, from top to bottom.
#
# **You need** Python with functions and classes, and to have seen a training loop, as in notebook 03. No GPU.
#
# **Time:** 110 to 130 minutes with the exercises, three to five of them computing, and 3 GB of memory (profile
# `cpu`). The first start draws the 2,400 films, if no other notebook has; that takes a minute more. To save time, run
# *What fills the memory* and *Four more tools* without reading.

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
# ## A number in sixteen bits
#
# We can write 200.4 as 2.004 × 10². A computer does the same with powers of two. One bit is for the sign. Some bits
# give the power of two, the **exponent**: how far the numbers reach. The rest give the digits, the **fraction**: how
# close together the numbers lie. float32, PyTorch's usual format, has 8 bits for the exponent and 23 for the fraction.
# Sixteen take half the memory, and some machines multiply them faster. But one must choose: *float16* takes 5 and 10,
# *bfloat16* 8 and 7.
#
# <!-- from elsewhere: 200.4, 2.004 (an example) -->

# %% tags=["nbval-check-output"]
from bonexage_utils.course.nb07.formats import bit_parts, stored

for kind in ("float32", "bfloat16", "float16"):
    sign, exponent, fraction = bit_parts(200.4, kind)
    print(f"{kind:9} {sign} {exponent:8} {fraction:23} is {stored(200.4, kind):.9g}")

# %% [markdown]
# The same age, 200.4 months, in three formats. Change the number below and run the cell again: 0.1, then `0.00000001`,
# then 70000:

# %%
from bonexage_utils.course.nb07.formats import draw_bits

number = 0.1
draw_bits((number,))

# %% [markdown]
# Four numbers at once:

# %%
draw_bits()

# %% [markdown]
# Each row is one format, each square a bit, filled for 1. At 200.4, bfloat16 is the coarse one. In the two lower panels
# float16 fails: a hundred-millionth is *gone*, 70,000 is *infinite*. **bfloat16 has the reach and lacks the digits;
# float16 has more digits and lacks the reach.**
#
# ### Exercise: how fine is an age?
#
# How far apart are neighbouring numbers at 200 months, in float32, bfloat16 and float16? (The gap doubles at every
# power of two, and is the same in between.)

# %% tags=["nbval-check-output"]
from bonexage_utils.course.nb07 import exercises

ex = exercises.build(course)
my_gaps = ...  # such as [0.1, 0.1, 0.1]
ex.gap.check(my_gaps)

# %%
# ex.gap.hint()
# ex.gap.solution()

# %% [markdown]
# A step of training often changes a weight by a thousandth of itself or less. Take a weight of 1 and a thousand steps
# of `0.001`. The answer should be 2:

# %% tags=["nbval-check-output"]
import torch

for kind in (torch.float32, torch.bfloat16, torch.float16):
    weight, change = torch.ones((), dtype=kind), torch.tensor(0.001, dtype=kind)
    for _ in range(1000):
        weight = weight + change
    print(f"{str(kind)[6:]:9} 1 + 1000 × 0.001 = {weight.item():.3f}")

# %% [markdown]
# bfloat16 stays at 1: its next number is 1.0078, and 1.001 is rounded back, a thousand times. No error is raised. So
# *weights* are not kept in sixteen bits. **Mixed** precision means: weights, and long sums, stay in float32; the large
# multiplications in between, convolutions and matrices, are done in sixteen bits.
#
# <!-- from elsewhere: 1.0078 (1 + 2⁻⁷), 1.001 (1 + 0.001) -->
#
# ## Predict first
#
# Make two guesses. A *gradient* says how the loss changes with a weight. Of a small ConvNeXt's gradients that are not
# zero in float32, **what percent become zero when they are computed in float16?** And on your machine, **with which
# format is a training step quickest: `"fp32"`, `"bf16"` or `"fp16"`?** (float32, bfloat16 and float16, in short.)

# %%
guess_lost = ...  # percent, such as 10
guess_quickest = ...  # such as "fp16"

# %% [markdown]
# ## A network's own numbers
#
# Eight small films, and two of timm's miniature networks with random weights: a *ConvNeXt*, as in the full recipe, and
# a *ResNet*.

# %%
from bonexage_utils.batches import film_sets
from bonexage_utils.course.nb07.scaling import first_batch
from bonexage_utils.images import Preprocessing, measure_intensity

SIZE = 64  # px; small, because some processors compute float16 very slowly
train = film_sets(course.cohort, ("train", "selection"), SIZE)[0]["train"]
preprocessing = Preprocessing(SIZE, *measure_intensity(train.films, train.rows))
batch = first_batch(train, 8, preprocessing, course.device)
print(f"{len(train):,} films to learn from; the first {len(batch)} are our batch")

# %%
from bonexage_utils.course.nb07.scaling import gradients


def new_net(backbone):
    torch.manual_seed(course.seed)
    net = bonexage_utils.BoneAgeNet(backbone).train()
    return net.to(course.device, memory_format=torch.channels_last)


nets = {"ConvNeXt": new_net("test_convnext"), "ResNet": new_net("test_resnet")}
found = {name: gradients(net, batch) for name, net in nets.items()}  # in float32

# %%
from bonexage_utils.course.nb07.formats import draw_number_lines
from bonexage_utils.course.reveal import after_guess, beside

weights = [weight.detach().flatten() for weight in nets["ConvNeXt"].parameters()]
seen = {"ages, months": batch.months, "weights of the ConvNeXt": torch.cat(weights)}
seen |= {f"gradients of the {name}": values for name, values in found.items()}
after_guess(guess_lost, draw_number_lines(seen))

# %% [markdown]
# (The picture appears when you have guessed.) Horizontal axis: how large a number is, each tick a thousand times the
# one before; the height says how many there are. The red line at the bottom is float16's range, dotted where digits are
# missing. In the red shade it has no numbers. The grey line, bfloat16 and float32, goes beyond the picture.
#
# What lies in the left shade becomes zero in float16; the titles say how much. ConvNeXt multiplies each block by a
# *layer scale* that begins at a millionth. So the gradients of the weights inside it are a million times smaller.
#
# ## Underflow, and its rescue
#
# A weight whose gradient is zero does not move. But the way back, *backward*, is linear: multiply the *loss* by a
# number, the **scale**, and every gradient on the way is multiplied by it, *before* it can get lost. Afterwards, in
# float32, we divide:

# %%
not_zero, scale = found["ConvNeXt"] != 0, 2.0**12  # in float32
bare = gradients(nets["ConvNeXt"], batch, "fp16")
# the loss times the scale; the gradients divided by it, in float32
rescued = gradients(nets["ConvNeXt"], batch, "fp16", scale) / scale
lost, left = (float((g[not_zero] == 0).float().mean()) for g in (bare, rescued))
after_guess(guess_lost,
            f"Lost without help: {lost:.0%}; with a scale of {scale:,.0f}: {left:.1%}.",
            beside({"percent of the gradients lost": round(100 * lost)}, [guess_lost]))

# %% [markdown]
# So why not a scale of a billion? Try them all:

# %%
from bonexage_utils.course.nb07.scaling import draw_scales, sweep_scales

after_guess(guess_lost, draw_scales(sweep_scales(nets["ConvNeXt"], batch)))

# %% [markdown]
# Horizontal axis: the scale, each tick sixteen times the one before. Blue: gradients lost to zero. Red: gradients
# spoiled, because on the way back a number went beyond 65,504, float16's largest, and became infinite. One spoiled
# gradient makes the whole step useless: it is skipped. The shade begins at the first scale we *tried* that spoiled one.
# Between losing and spoiling there is a window. It moves while the network learns, so the scale has to follow.
#
# ## Autocast, by hand
#
# `torch.autocast` does not change a network. It steps in at each operation, in three ways. Convolutions and matrix
# products get their inputs, weights included, **cast down** to sixteen bits. Some operations that need digits or reach,
# such as a mean of squares, get theirs **cast up** to float32. The others take what comes; where two kinds meet, the
# result is of the **wider** kind.

# %% tags=["nbval-check-output"]
films, kernel = torch.rand(2, 1, 32, 32), torch.randn(8, 1, 3, 3) / 3
ours = torch.nn.functional.conv2d(films.half(), kernel.half())
with torch.autocast("cpu", torch.float16):
    cast = torch.nn.functional.conv2d(films, kernel)
    up = torch.nn.functional.mse_loss(cast, 0 * cast)
    wider = cast + torch.zeros(cast.shape)
print("down: by hand and autocast agree:", torch.equal(ours, cast), "-", cast.dtype)
print("up: a mean of squares of it is", up.dtype)
print("wider: that map plus a map in float32 is", wider.dtype)
print("the weight itself stays", kernel.dtype)

# %% [markdown]
# And in the whole network? What some parts of the ConvNeXt hand on, from the first block to the age:

# %% tags=["nbval-check-output"]
def look(layer, given, made):
    print(f"{layer.__class__.__name__:14} {made.dtype}")


block = "features.body.stages.0.blocks.0"
parts = [f"{block}.conv_dw", f"{block}.mlp", block, "pool", "head", "age"]
net = nets["ConvNeXt"]
hooks = [net.get_submodule(part).register_forward_hook(look) for part in parts]
with torch.no_grad(), torch.autocast(course.device.type, torch.float16):
    net(batch.images, batch.sex)
for hook in hooks:
    hook.remove()

# %% [markdown]
# The convolution and the matrix products (`Mlp`), where nearly all the work is, give float16. The block gives float32:
# its layer scale is a float32 weight, and the wider kind wins. GeM (notebook 04) raises values to a power near 3, and
# is in float32 on purpose: 50³ is too large for float16. The head (`Sequential`) ends in a matrix, so its one number,
# the *score*, is in float16; the age, 240 × sigmoid(score), is made from it in float32. How fine are the ages? One step
# is the gap between neighbouring scores times the slope of that curve:

# %% tags=["nbval-check-output"]
from bonexage_utils.course.nb07.formats import gap

scores = torch.linspace(0.001, 6, 6000, dtype=torch.float64)
slopes = 240 * torch.sigmoid(scores) * torch.sigmoid(-scores)  # months per 1 of score
for kind in ("bfloat16", "float16"):
    gaps = torch.tensor([gap(score, kind) for score in scores.tolist()])
    largest = float((gaps * slopes).max())
    print(f"{kind}: steps of up to {largest:.2f} months")

# %% [markdown]
# Both are small beside a reader's error.
#
# ## train.py, piece by piece
#
# Every training has these lines. Behind each stands the name of the function in which you will write it:
#
#     for each epoch:                                # one_epoch
#         for images, sex, months in batches:        # Films, loader, batches
#             months read = net(images, sex)         # build, forward
#             loss, and its gradients                # learn
#             the optimizer moves the weights        # update
#         measure on the selection films             # validate
#         save everything                            # save
#
# `%%writefile` writes a cell into a file beside this notebook, `%%writefile -a` adds to its end, and `%run -n train.py`
# runs it here, so that we can try its functions. (A cell that is run twice is in the file twice: after a change, start
# again from here.) First, what it takes from others:

# %%
# %%writefile train.py
"""Learn to read bone age from films: python train.py DATA RUN, or --help."""
import argparse, math, time
from pathlib import Path

import numpy as np
import torch
from timm.utils import ModelEmaV3
from torch.utils.data import DataLoader, Dataset

# %%
# %%writefile -a train.py
from bonexage_utils import BoneAgeNet, load_cohort
from bonexage_utils.augment import augment
from bonexage_utils.batches import film_key, film_sets
from bonexage_utils.checkpoints import save_model
from bonexage_utils.images import Preprocessing, measure_intensity
from bonexage_utils.settings import Augmentation
from bonexage_utils.training import training_summary

# %%
# %%writefile -a train.py

SETTINGS = {"backbone": "convnext_tiny", "weights": "imagenet", "image_size": 512,
            "epochs": 35, "batch_size": 16, "grad_accum": 2, "lr": 2e-4,
            "precision": "fp32", "seed": 0, "workers": 0}

# %%
# %%writefile -a train.py


def options(words=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--resume", action="store_true")
    for name, value in SETTINGS.items():
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=type(value), default=value)
    return parser.parse_args(words)

# %% [markdown]
# These are the settings of the full recipe. `options` reads them from the command line into one object, `run`, to which
# every function below adds what it makes: films, network, optimizer. Our own settings are small:

# %%
# %run -n train.py
import tempfile

from bonexage_utils.phantom import write_cohort

folder = tempfile.TemporaryDirectory()
runs = Path(folder.name)
DATA = course.cohort.root
if not course.embedded:
    DATA = write_cohort(runs / "phantom", 600, course.seed)
SMALL = ["--image-size", str(SIZE), "--grad-accum", "1", "--lr", "0.001"]
TINY = [*SMALL, "--backbone", "test_convnext", "--weights", "none",
        "--batch-size", "8", "--epochs", "1"]
run = options([str(DATA), str(runs / "steps"), *TINY])
print(f"{run.batch_size} films at a time, {run.image_size} px, {run.precision}")

# %% [markdown]
# ### The films
#
# A `Dataset` answers two questions: how many items are there, and what is item *i*? This one keeps the rows of a table
# and the letterboxed films as bytes. Of each film it gives the image, the sex, the label, and a number made from its
# name. By that number its augmentation can be drawn again.
#
# For another task, take another column in place of `months`. Bring it to a size near 1, as we shall do with `/ 12`, and
# let the output start near its mean. Otherwise the first updates only look for the unit.

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
        return image, int(film.sex == "M"), np.float32(film.months), film_key(film.id)

# %%
# %%writefile -a train.py


def load(run):
    cohort = load_cohort(run.data)
    sets, tables, _ = film_sets(cohort, ("train", "selection"), run.image_size)
    pixels, rows = sets["train"].films, sets["train"].rows
    run.train, run.selection = (Films(table, pixels) for table in tables.values())
    run.scale = Preprocessing(run.image_size, *measure_intensity(pixels, rows))
    run.mean = float(sets["train"].months.mean())
    settings = {name: getattr(run, name) for name in SETTINGS} | {"loss": "smoothl1"}
    run.about = training_summary(cohort, tables["train"], settings)

# %% tags=["nbval-check-output"]
# %run -n train.py
load(run)
image, sex, months, key = run.train[0]
print("one film:", image.dtype, tuple(image.shape), "- its label:", months.dtype)

# %% [markdown]
# `load` only prepares: with other data, set these five in another way. `scale` has the mean and spread of the pixels
# (not the loss's scale), `mean` the mean age, and `about` says where the model comes from.
#
# A `DataLoader` makes batches. `sampler` is the order of the epoch. `num_workers` are processes that read ahead; 0
# reads in this one, which is enough for a cache of bytes. `pin_memory` and `non_blocking=True` let a GPU copy a batch
# while the program goes on. The films travel as bytes; they are scaled and augmented on the device. *Dropout* silences
# units at random in training. A `DataLoader`, too, draws a number each time it starts. From torch's common stream that
# would change dropout's, so while the network learns it gets a stream of its own.

# %%
# %%writefile -a train.py


def loader(run, films, learning):
    how = {"num_workers": run.workers, "pin_memory": torch.cuda.is_available()}
    if learning:
        order = np.random.default_rng([run.seed, run.epoch]).permutation(len(films))
        how["sampler"] = order[: run.steps * run.batch_size]
        how["generator"] = torch.Generator()
    return DataLoader(films, run.batch_size, **how)

# %%
# %%writefile -a train.py


def batches(run, films, learning=False):
    for batch in loader(run, films, learning):
        images, sex, months, keys = (t.to(run.device, non_blocking=True) for t in batch)
        images = images.float() / 255
        if learning:
            images = augment(images, keys, run.epoch, run.seed, Augmentation())
        images = (images - run.scale.mean) / run.scale.std
        yield images.to(memory_format=torch.channels_last), sex, months

# %% [markdown]
# Everything random comes from a seed and can be drawn again: an augmentation from the seed, the epoch and the film.
# Do the same in a `Dataset` of your own; else, because the loader's own stream begins anew, its workers draw the same
# numbers in every epoch.
#
# Each epoch leaves out a few films that would not fill an update, not always the same ones. Else their gradients
# would wait for the next epoch.
#
# ### The network, the optimizer, the scaler
#
# Weight decay pulls weights towards zero, against learning by heart. That makes sense for matrices and kernels, not for
# norms, biases, GeM's p or the two vectors of the sex. So AdamW, the optimizer, gets two groups. The learning rate
# rises over the first twentieth of all updates, while AdamW's averages know only a few gradients, then falls along half
# a cosine.

# %%
# %%writefile -a train.py


def groups(net):
    bare, rest = [], []
    for name, weight in net.named_parameters():
        (bare if weight.ndim < 2 or "vectors" in name else rest).append(weight)
    return [{"params": rest, "weight_decay": 0.05}, {"params": bare, "weight_decay": 0}]

# %%
# %%writefile -a train.py


def rate(update, updates):
    first = max(1, round(0.05 * updates))
    if update < first:
        return (update + 1) / first
    return 0.5 * (1 + math.cos(math.pi * (update - first) / max(1, updates - first)))

# %%
# %%writefile -a train.py


def build(run):
    run.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.allow_tf32 = False  # TF32: see "The clock", below
    torch.manual_seed(run.seed)
    net = BoneAgeNet(run.backbone, weights=run.weights, months_mean=run.mean,
                     image_size=run.image_size)
    run.net = net.to(run.device, memory_format=torch.channels_last)
    run.ema = ModelEmaV3(run.net, decay=0.999, use_warmup=True)
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
shares = [f"{rate(update, 100):.4f}" for update in (0, 5, 99)]
print("share of the peak rate at updates 0, 5 and 99 of 100:", *shares)
print("dropout's stream has not moved:", torch.equal(before, torch.get_rng_state()))

# %% [markdown]
# `channels_last` is an order in memory: all channels of one place lie together; some machines read it faster. `ema`
# averages the weights (below). `fused` changes all weights in one operation. The scaler lets every call pass through
# unless the format is float16: bfloat16 has the reach and needs none.
#
# ### The forward pass

# %%
# %%writefile -a train.py


def forward(run, net, images, sex):
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(run.precision)
    with torch.autocast(run.device.type, kind, enabled=kind is not None):
        return net(images, sex)

# %% [markdown]
# Only the forward pass stands under autocast. `backward` is called outside; each operation goes back in the format that
# it had on the way forward. The loss, too, is computed outside, in float32 like the labels.
#
# ### The update, and the scaler by hand
#
# The heart of the file. After backward the gradients are there, too large by the scale:

# %%
# %%writefile -a train.py


def update(run, net, optimizer, scaler):
    updates = run.epochs * run.steps // run.grad_accum
    for group in optimizer.param_groups:
        group["lr"] = run.lr * rate(run.update, updates)
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    run.update += 1
    run.ema.update(net, step=run.update)

# %% [markdown]
# `unscale_` divides the gradients by the scale, and looks whether one is infinite or no number. If so, `step` changes
# no weight, and clipping in between does not matter. We count it as an update all the same. `update` halves the scale
# after a skipped step, and doubles it when all has gone well for 2,000 steps in a row. By hand (`seen` is only for
# the picture):

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
# `ema` keeps an average of the weights, timm's `ModelEmaV3`. At each update it goes a share of the way to the network.
# That share is all of the way at the first, a tenth at the 32nd, never less than a thousandth. The average is what is
# measured and used in the end; it is calmer than the last step.
#
# `learn` is one epoch. Where memory is too small for a large batch, `grad_accum` smaller ones make one update. Their
# gradients add up by themselves. So each loss is divided by the number of batches, and everything in `update`,
# unscaling too, is done once for all of them.

# %%
# %%writefile -a train.py


def learn(run):
    net, scaler, total = run.net.train(), run.scaler, 0.0
    for step, (images, sex, months) in enumerate(batches(run, run.train, True), 1):
        years = forward(run, net, images, sex) / 12
        loss = torch.nn.functional.smooth_l1_loss(years, months / 12) / run.grad_accum
        scaler.scale(loss).backward()
        if step % run.grad_accum == 0:
            update(run, net, run.optimizer, scaler)
        total += loss.detach()  # detached, or every step's graph would stay
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
scales, skipped = zip(*mine.seen, strict=True)
draw_scale_history(list(scales), list(skipped))

# %% [markdown]
# Horizontal axis: the step. Vertical axis: the scale. A cross is a step that was skipped. The scaler goes down until
# all gradients are finite; after four good steps it tries double. torch's own begins at 2¹⁶ and waits for 2,000. A step
# skipped now and then is *no* error. If the scale falls to 1 or below, that *is* an error: then something goes beyond
# 65,504 already on the way forward.
#
# And torch's scaler, from the same start?

# %% tags=["nbval-check-output"]
torchs = torch.amp.GradScaler(course.device.type, init_scale=2.0**20, growth_interval=4)
by_torch = sixteen_steps(torchs)
pairs = list(zip(by_hand, by_torch, strict=True))
print("the same scale in the end:", torchs.get_scale() == mine.factor)
print("and the same weights:", all(torch.allclose(*pair, atol=1e-6) for pair in pairs))

# %% [markdown]
# ## Unscale, then clip
#
# Clipping cuts the gradient to a length of 5 if it is longer, so that one odd film cannot throw the network off. The
# limit is meant for gradients of their true size. What if somebody clips first and unscales afterwards?

# %%
def length(gradient):
    return float(gradient.double().norm())


def clipped(gradient, limit=5.0):
    return gradient * min(1.0, limit / length(gradient))


scale, true = 2.0**16, found["ResNet"]
lengths = {"not clipped": true, "unscale, then clip": clipped(true * scale / scale),
           "clip, then unscale": clipped(true * scale) / scale}
print("; ".join(f"{name}: {length(some):.2g}" for name, some in lengths.items()))

# %% [markdown]
# That is the length which reaches the optimizer. In the wrong order it is tens of thousands of times too short. Would
# you notice? The ConvNeXt learns our eight films by heart in both orders, with plain gradient descent (SGD) and with
# AdamW. All is in float32, so that only the order differs:

# %%
from bonexage_utils.course.nb07.scaling import learn_in_order

import pandas as pd

steps = 10 if course.profile.name == "fast" else 30
orders = {"unscale, then clip": True, "clip, then unscale": False}
by_heart = pd.DataFrame(
    {name: {optimizer: learn_in_order(nets["ConvNeXt"], batch, optimizer, first, steps)
            for optimizer in ("SGD", "AdamW")} for name, first in orders.items()})
by_heart.round(1).rename_axis("MAE on the eight, months")

# %% [markdown]
# With SGD the wrong order stands still: its error is the untrained network's. AdamW divides each gradient by a running
# mean of its size, so a constant factor cancels: it *hides* the mistake. Yet all gradients now have one length, the
# short ones, too.
#
# ### Exercise: six lines
#
# Six lines of a loop, in no order. The forward pass has just given the `loss`, one batch makes one update:
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
    same = length(parts - whole) / length(whole) < 0.001
    print(f"{name}: two batches of 4 are one of 8: {same}")

# %% [markdown]
# For the ConvNeXt they do, to within rounding. For the ResNet they do *not*, and that is no bug. Its batch norms bring
# each channel to mean 0 and spread 1 by the films *in hand*, now 4 instead of 8.
#
# ## Validate, save, resume
#
# The averaged network reads the selection films; it is always in its evaluation mode, without dropout. Then everything
# that the next update depends on goes into one file. It is written aside, then renamed, so that there is always a whole
# file, old or new.

# %%
# %%writefile -a train.py


@torch.inference_mode()
def validate(run):
    errors = []
    for images, sex, months in batches(run, run.selection):
        errors.append((forward(run, run.ema.module, images, sex) - months).abs())
    return torch.cat(errors).mean().item()

# %%
# %%writefile -a train.py

PARTS = ("net", "ema", "optimizer", "scaler")
COUNTS = ("epoch", "update", "best", "log")


def save(run):
    state = {name: getattr(run, name).state_dict() for name in PARTS}
    state |= {name: getattr(run, name) for name in COUNTS}
    state["random"] = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    torch.save(state, run.out / "part")
    (run.out / "part").replace(run.out / "state.pt")

# %%
# %%writefile -a train.py


def resume(run):
    state = torch.load(run.out / "state.pt", "cpu", weights_only=True)
    for name in PARTS:
        getattr(run, name).load_state_dict(state[name])
    vars(run).update({name: state[name] for name in COUNTS})
    torch.set_rng_state(state["random"][0])
    torch.cuda.set_rng_state_all(state["random"][1:])

# %% [markdown]
# `weights_only=True` reads tensors, numbers, texts, lists and dicts, and nothing else. Without it, torch would
# unpickle the file, and a pickle can run any program. `state.pt` is for going on, with the same options: `resume`
# does not check them. The file to *use* is written by the package's `save_model`, with all that a prediction needs:

# %%
# %%writefile -a train.py


def one_epoch(run):
    start, loss, mae = time.perf_counter(), learn(run), validate(run)
    run.epoch += 1
    row = {"epoch": run.epoch, "train_loss_years": loss, "selection_mae_months": mae}
    run.log.append(row | {"seconds": time.perf_counter() - start})
    if mae < run.best:
        run.best, path = mae, run.out / "model.safetensors"
        about = {**run.about, "epoch": run.epoch, "selection_mae_months": mae}
        save_model(path, run.net, run.ema.module.state_dict(), run.scale, about)
    save(run)
    print(f"epoch {run.epoch} of {run.epochs}: MAE {mae:.2f} months", flush=True)

# %%
# %%writefile -a train.py


if __name__ == "__main__":
    run = options()
    run.out.mkdir(parents=True, exist_ok=True)
    load(run)
    build(run)
    if run.resume and (run.out / "state.pt").exists():
        resume(run)
    while run.epoch < run.epochs:
        one_epoch(run)

# %% [markdown]
# With workers, Windows and macOS run this file again in each worker; the `if` keeps it from training, too.

# %% tags=["nbval-check-output"]
lines = Path("train.py").read_text(encoding="utf-8").splitlines()
names = [line[4:].split("(")[0] for line in lines if line.startswith("def ")]
print("each function once:", len(names) == len(set(names)), "-", ", ".join(names))
print(sum(map(bool, lines)), "lines that are not empty")

# %% [markdown]
# ## From a terminal
#
# As you would type it, with a network that knows hands already:

# %%
from bonexage_utils.course.frozen import BACKBONE
from bonexage_utils.course.nb07.drill import show_command, start_script, wait

films_a_step = "8" if course.profile.name == "fast" else "32"
recipe = [*SMALL, "--backbone", BACKBONE, "--weights", "phantom",
          "--batch-size", films_a_step]
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
apart = max(float((state[part][name].double() - tensor.cpu().double()).abs().max())
            for part, net in (("net", trainer.network), ("ema", trainer.ema))
            for name, tensor in net.state_dict().items())
# a GPU may add in another order
allowed = 1e-3 if course.device.type == "cuda" else 0.0
print("train.py and Trainer end in the same weights:", apart <= allowed)

# %%
print("the largest difference of any weight:", apart)

# %% [markdown]
# On a processor not one bit differs. `Trainer` has more around it: several processes, a clean stop at Ctrl-C. And
# `bonexage predict RUN/model.safetensors FILMS` takes your file, too.
#
# ## Kill it
#
# A training of hours will be stopped one day: Colab ends a session, the power fails. First, three epochs that nobody
# interrupts. The learning rate falls over all three, so the first differs from the one above:

# %%
from bonexage_utils.course.nb07.drill import kill_within, read_log

three = [*recipe, "--epochs", "3"]
wait(start_script("train.py", str(DATA), str(runs / "whole"), *three))
whole = read_log(runs / "whole")
whole.round(2)

# %% [markdown]
# And once more. In the middle of the second epoch we kill it. On Linux that is SIGKILL, which no program can catch or
# prepare for.

# %%
process = start_script("train.py", str(DATA), str(runs / "killed"), *three)
killed = kill_within(process, runs / "killed", after=1)
print("alive:", process.poll() is None)
print(f"in its log: {len(killed.log)} of 3 epochs")

# %% [markdown]
# ### Exercise: what must be in it?
#
#     A   the weights                            F   where the random stream stands
#     B   the averaged weights                   G   the gradients
#     C   AdamW's moments and step counts        H   the films in the cache
#     D   the scaler's scale                     I   the learning rate
#     E   how many epochs and updates are done
#
# A run *in float16* is to end, resumed, as if it had never stopped. **Which of these must be in the file?** Give the
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
# The broad band is the run that was never interrupted. The points are the other run's (round: before the kill;
# square: after it). The shaded part was lost, and done again. Points on a line are no proof: compare every number in
# both files.

# %% tags=["nbval-check-output"]
from bonexage_utils.course.nb07.drill import largest_difference

between = largest_difference(runs / "whole", runs / "killed")
same = max(between.values()) <= allowed
print("the killed run ends in the same weights:", same)

# %%
print("largest difference between the two runs:", between)

# %% [markdown]
# On a processor it is zero. Most slips in `save` would show here, and hardly anywhere else. Not a forgotten *scaler*:
# in float32 it is off. The random stream is compared, too: forgotten, it may move the weights too little to see.
#
# ## The clock, and where the time goes
#
# A GPU works in the background: an operation only puts work into its queue. A clock that does not wait shows how long
# it took to *ask*. `torch.cuda.synchronize()` waits; so does whatever needs a number: `float`, `.item()`, `print`. Put
# none of them into the loop, and one before each reading of a clock.
#
# <details><summary>A second trap: TF32, a float32 that is none</summary>
#
# GPUs since 2020 can shorten float32 products to 10 bits of fraction, **TF32**. In convolutions torch does so unless it
# is told not to, as in `build`; in matrix products only if `torch.backends.cuda.matmul.allow_tf32` is `True`. Say which
# it was before you compare with "float32".
# </details>
#
# torch's profiler watches a few training steps; on a GPU each part here waits until its work is done:

# %%
from bonexage_utils.course.nb07.speed import draw_profile, part_shares, profile_steps

spans, operators = profile_steps(train, preprocessing, BACKBONE, "phantom", 16,
                                 course.device, precision="fp32")
draw_profile(spans, operators)

# %%
part_shares(spans).map("{:.0%}".format).to_frame("share of the time").T

# %% [markdown]
# Left: the parts of a step, along the time. Right: the operations that took most of it. A quicker format can shorten
# only *forward* and *backward*. Say they are two thirds of a step, and then take half as long. The step
# still takes two thirds of its time.
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
# *AMP is faster and leaner*, one hears. Four ways to train race, from float32 to float16. In every round each takes one
# whole training step, in a new order: a slow minute slows all of them, so we compare within rounds. `plain` is the
# other layout, channel by channel.

# %%
from bonexage_utils.course.nb07.speed import draw_race, race, time_table

count, rounds = {"fast": (4, 3), "cpu": (8, 10), "gpu": (64, 30)}[course.profile.name]
racing = first_batch(train, count, preprocessing, course.device)
arms = [("fp32", "plain"), ("fp32", "channels-last"), ("bf16", "channels-last"),
        ("fp16", "channels-last")]
times = race(BACKBONE, "phantom", racing, rounds, arms)

# %%
from bonexage_utils.course.nb07.speed import quickest

measured = time_table(times)
digits = {"step, ms": 1, "time": 2, "low": 2, "high": 2, "MB": 1, "memory": 2}
after_guess(guess_quickest, draw_race(times), measured.round(digits),
            beside({"the quickest format here": quickest(measured)}, [guess_quickest]))

# %% [markdown]
# Left in the picture, each point is a step; the scale is logarithmic. In the table, *time* is the ratio to `fp32,
# channels-last` within a round, with its 95 % interval from *low* to *high*; below 1 is faster. *MB* is the peak of a
# step on a GPU; on a processor the counted bytes of what is kept for the way back. (With so few films it is no test of
# memory.)
#
# The winner depends on the machine, and on the network. Processors with AVX512-BF16 or AMX multiply bfloat16 natively,
# few multiply float16. GPUs from 2020 on do both. A T4 (2018) only emulates bfloat16, slowly.
#
# Is the network as good in the end? Recorded with a small ResNet, against float32:

# %%
from bonexage_utils.course.nb07.precision import how_measured, precision_table

precision_table()

# %%
print(how_measured())

# %% [markdown]
# An interval that holds × 1, or 0 months, shows no difference; it does not prove equality. A processor proves nothing
# about GPUs.
#
# ## What fills the memory
#
# The weights, a gradient for each, AdamW's two moments, the average; and, most of all, the maps that are kept for the
# backward pass. For the full recipe, ConvNeXt-Tiny at 512 px, this can be computed:

# %%
from bonexage_utils.course.nb07.scaling import draw_step_memory, step_megabytes

recipes = {"float32, 16 films": (16, "fp32"), "16 bits, 16 films": (16, "bf16"),
           "16 bits, 8 films": (8, "bf16")}
budgets = {name: step_megabytes("convnext_tiny", 512, *how)
           for name, how in recipes.items()}
draw_step_memory(budgets)

# %% [markdown]
# The dashed line is a GPU with 16 GB. The small stripes at the left are the same in all: weights stay in float32.
# Sixteen bits make the blue part about half as long, and half the films halve it again; `--grad-accum 2` then keeps the
# update as large.
#
# ## Four more tools
#
# Each cell is off; set its word to `True` to try it. **Compiling** joins small operations into large ones.
# **Checkpointing** throws maps away and computes them again on the way back: it costs time and saves memory.
# **TensorBoard** draws a log. **Two processes** share every batch and average their gradients before each update.

# %%
COMPILE = False  # True: takes a minute or two, and a C++ compiler
if COMPILE:
    run = options([str(DATA), str(runs / "compiled"), *TINY])
    load(run), build(run)
    run.steps = 16
    for attempt in ("as it was", "with compiling", "compiled"):
        if attempt == "with compiling":
            run.net.compile()
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
TENSORBOARD = False  # True: then, in a terminal here: tensorboard --logdir board
if TENSORBOARD:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print("TensorBoard is not installed: pip install tensorboard")
    else:
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
# Another task: how wide is the radius, in mm? Write the loop from memory, for one epoch, in float16. `batches` gives
# pairs of images and widths. `net(images)` gives widths of the same shape, and only it stands under autocast; the loss
# is `torch.nn.functional.mse_loss`; clip at 5. Every `accumulate` batches make one update, and none is left over. All
# is on the processor, so autocast is for `"cpu"`. The check trains a small network with your function and compares its
# weights.

# %% tags=["nbval-check-output"]
def my_loop(net, optimizer, scaler, batches, accumulate):
    ...


ex.loop.check(my_loop)

# %%
# ex.loop.hint()
# ex.loop.solution()

# %%
band = {"fast": (8, 45), "cpu": (5, 25), "gpu": (3, 25)}[course.profile.name]
mae = whole["selection_mae_months"].min()
assert band[0] < mae < band[1], f"MAE {mae:.1f}, expected {band[0]} to {band[1]} months"
in_order, too_early = by_heart.loc["SGD"]
assert too_early > in_order + 2, "the wrong order was to stand still"
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
# float32, as GeM is (notebook 04).
# </details>
#
# <details><summary>2. "With AMP our MAE is half a month worse." What do you ask?</summary>
#
# Over how many seeds, on the same films, with what interval (notebook 04)?
# </details>
#
# <details><summary>3. A run was resumed, and its curve has a bump just there. What was forgotten?</summary>
#
# Most likely the optimizer's moments, or the count of updates, so that warm-up began again.
# </details>
#
# ## What you can now say

# %%
others = measured.drop(index=[("fp32", "channels-last")])
here = "GPU" if course.device.type == "cuda" else "processor"
print(f"On this {here}, for {BACKBONE}, {count} films of {SIZE} px, times as long as")
print("fp32, channels-last, with its 95 % interval:")
for (kind, layout), row in others.iterrows():
    print(f"- {kind}, {layout}: {row.time:.2f} [{row.low:.2f}, {row.high:.2f}], "
          f"{row.verdict}.")

# %%
print(f"- Of a small ConvNeXt's gradients float16 loses {lost:.0%} without a scaler "
      f"and {left:.1%} with one.")
wide, half, _ = (sum(parts.values()) / 1e3 for parts in budgets.values())
print(f"- Computed, the full recipe, 16 films at once: {wide:.1f} GB in float32, "
      f"{half:.1f} GB in sixteen bits.")
print("- My train.py and the package's Trainer: after an epoch no weight differs by "
      f"more than {apart:g}.")
print(f"- A training killed in epoch {killed.after + 1} went on; no number of its end "
      f"differs by more than {max(between.values()):g}.")

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
# **float8**: newer cards multiply with 8 bits; that needs a scale for every layer. **The real training**: notebook 10.
#
# ## Sources
#
# - Micikevicius et al., *Mixed precision training*, ICLR 2018; Kalamkar et al. (bfloat16), arXiv 1905.12322.
# - Liu et al., *A ConvNet for the 2020s*, CVPR 2022: the layer scale. Loshchilov & Hutter, ICLR 2019: AdamW.
# - PyTorch's pages on `torch.amp`, `torch.profiler` and CUDA semantics (TF32, waiting).
