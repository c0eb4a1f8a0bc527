# %% [markdown]
# # 02 · From pixels to batches
#
# **The question:** what does the network see?
#
# Not the film. Before the first layer, the film is made square, made small, changed by chance and rescaled. Each step
# takes something away, and most raise no error. So look at what is left.
#
# **After this notebook you can**
#
# - say in numbers what squashing does to a bone, and letterbox a film instead;
# - choose an image size by what you can still see at it;
# - tell why films are decoded once, and measure what that saves;
# - choose changes that keep the label, and give each film its own chance;
# - find a transform that two splits share, although no error is raised.
#
# **Run a cell** with Shift + Enter, from top to bottom.
#
# **You need** Python with functions and classes, and a first idea of arrays. Notebooks 00 and 01 help.
#
# **Time:** about 125 minutes with the exercises, one of them computing on two processor cores. The first start draws
# the course's films, which takes a minute more. To save time, run *When bright is too bright* and *Read once* without
# reading.

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
# ## A film is a table of numbers
#
# Three films of the training split, as they come from the disk:

# %%
from bonexage_utils.decoding import read_gray
from bonexage_utils.images import letterbox

train_films = course.cohort.split("train")
three = [read_gray(path) for path in train_films["image"].head(3)]
for film in three:
    print(f"{film.shape[0]} rows, {film.shape[1]} columns, {film.dtype}, from "
          f"{film.min()} to {film.max()}")

# %% [markdown]
# Each film is a table with one number for each pixel: 0 is black, 255 is white. A network works on a *batch* of
# films, one block of numbers. Can these three be stacked?

# %% tags=["nbval-check-output"]
import numpy as np

try:
    np.stack(three)
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# No. First every film has to get the same shape. How that is done decides what the network can know.
#
# ### An aside: when bright is too bright
#
# Hospitals store films with 12 bits, which are 4,096 shades. Many programs expect 8. Here is one such film, brought
# to 8 bits in three ways:

# %%
import tempfile
from pathlib import Path

import cv2
from bonexage_utils.course.nb02.pixels import deep_film

deep = deep_film(three[0])  # the same picture, 0 to 4095
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "deep.png"
    path.write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    stretched = read_gray(path)
ways = {"cut off at 255": np.minimum(deep, 255), "upper byte of 16 bits": deep >> 8,
        "stretched (package)": stretched}

# %%
from bonexage_utils.figures import montage

titles = [f"{way}\n{len(np.unique(film))} shades, {(film == 255).mean():.0%} white"
          for way, film in ways.items()]
montage([np.asarray(film) for film in ways.values()], titles, f"""The same 12-bit film
brought to 8 bits in three ways:
{'; '.join(' '.join(title.split()) for title in titles)}. Cut off, no bone is left to
see, by the upper byte all is nearly black; stretched it looks as a film should.""",
        columns=3, side=1.9)

# %% [markdown]
# Left: all but the darkest sixteenth of the scale is white. Middle: at most sixteen shades are left, nearly black.
# Neither raises an error, and a network trains on both. Right: the package's `read_gray` stretches from the film's
# darkest to its brightest pixel.
#
# <details><summary>For the curious: bright marks and negatives</summary>
#
# `read_gray` leaves out a small mark that is much brighter than all else, because it would leave fewer shades for the
# hand. If a file says that its 0 is white, as many DICOM files do, `read_gray` turns it round. A negative that does
# not say so stays a negative. The audit of notebook 01 finds such films by comparing them with the others.
# </details>
#
# ## Into a square
#
# There are two ways to make a film square. **Squash**: stretch it to a square, whatever its shape. **Letterbox**:
# shrink it until it fits, and fill the rest with black. Letterboxing wastes pixels. Is it worth it?
#
# ## Predict first
#
# A girl of ten has a film 65 % as wide as high. Squashed, her bones become wider, but no shorter. Somebody then
# judges her age by one number: how many times the middle metacarpal (the bone in the palm behind the middle finger)
# is as long as wide. In a small child this bone is stubby. With the years it gets slender. **How old, in years, would
# she look?** Commit to a number.
#
# <!-- from elsewhere: 65 (an example) -->

# %%
my_guess = ...  # years, such as 9

# %% [markdown]
# First the letterbox, by hand: one scale for both directions, then black around it.

# %% tags=["nbval-check-output"]
def by_hand(film, size):
    scale = size / max(film.shape)
    height, width = (round(side * scale) for side in film.shape)
    square = np.zeros((size, size), np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    small = cv2.resize(film, (width, height), interpolation=cv2.INTER_AREA)
    square[top:top + height, left:left + width] = small
    return square


print("same as the package:",
      all(np.array_equal(by_hand(film, 128), letterbox(film, 128)) for film in three))

# %% [markdown]
# `True`, pixel by pixel, so from here on we use the package's. (`INTER_AREA` makes each new pixel the mean of all
# that it covers.)
#
# Now we need a ruler: how long and how wide is a bone that does not lie straight? Take all its pixels. How far do
# they spread along the bone, and how far across it? For a rectangle the ratio of the two is that of its sides. (You
# need not know how `np.cov` and `eigvalsh` find the two directions.) We try it on a bar of 100 × 20 pixels:

# %% tags=["nbval-check-output"]
from bonexage_utils.course.nb02.pixels import slimness, squash


def by_spread(mask):
    across, along = np.linalg.eigvalsh(np.cov(np.argwhere(mask).T,
                                              aweights=mask[mask > 0]))
    return (along / across) ** 0.5


bar = np.zeros((400, 300), np.uint8)
bar[160:260, 140:160] = 255
for way, made in {"film": bar, "squashed": squash(bar, 300),
                  "letterboxed": letterbox(bar, 300)}.items():
    print(f"{way:12} by hand {by_spread(made):.1f}   course {slimness(made):.1f}")

# %% [markdown]
# On the film the bar is 5.0 times as long as wide, and letterboxed it still is. Squashed, it is 3.8: three quarters
# of 5, because the film is three quarters as wide as high. So every film bends its bones by its own shape.
#
# Now a hand. Move the slider: the girl stays the same, only her film gets narrower or wider.

# %%
from bonexage_utils.course.nb02.pixels import choose_width, draw_squares

choose_width()

# %% [markdown]
# The same without a slider, for three widths:

# %%
draw_squares()

# %% [markdown]
# The number over each picture is the length of the outlined bone over its width. Right, letterboxed: the bone stays
# about 5.3 times as long as wide. Middle, squashed: 3.2 on the narrow film, 6.7 on the wide one. The same bone has
# become twice as slender because of some air.
#
# ### How much do proportions tell?
#
# In the phantom, the course's simulator, this bone gets longer faster than wider up to about ten years. But children
# differ, too: some are slender, some sturdy. Here are 400 simulated children from one to ten:

# %%
from bonexage_utils.course.nb02.pixels import bones, draw_bones

table = bones()
draw_bones(table)

# %% [markdown]
# Horizontal axis: the bone age. Vertical axis: length over width. The *rank correlation* over each panel is 1 if the
# older of any two children always has the more slender bone, and 0 if the bone says nothing about age. Right: a broad
# band rises from about 3.5 to about 5. It is broad because children differ. Left: a cloud, with narrow films (dark)
# below and wide ones (light) above. So the *shape of the film* spreads the points, and no child has that in its
# bones.
#
# What is that in months? Someone learns a curve on every second child, and reads the age of the others from this one
# number:
#
# <!-- from elsewhere: 3.5 (the figure above) -->

# %%
from bonexage_utils.evaluation import score
from bonexage_utils.statistics import paired_difference

known, new = table[::2], table[1::2]
truth = new["months"].to_numpy()


def read_age(way):
    curve = np.polyfit(known[way], known["months"], 2)
    return np.polyval(curve, new[way])


# %%
off = {way: read_age(way) - truth for way in ("squashed", "letterboxed")}
for way, error in off.items():
    print(f"{way:12} MAE {score(error + truth, truth).mae} months")
guess = np.full(len(truth), known["months"].median())
print(f"the median   MAE {score(guess, truth).mae} months")
cost = paired_difference(off["squashed"], off["letterboxed"])
print(f"squashed minus letterboxed, child by child: {cost} months")

# %% [markdown]
# Each line is a mean error in months, with its 95 % interval in brackets. With the true proportions this reader is
# off by about 20 months, and with squashed ones by about 26. The median looks at no bone and is off by 30. So
# squashing loses more than half of what the bone could tell. The interval in the last line lies well above zero, so
# this is hardly luck.
#
# But this reader sees one bone of simulated children. A network sees more, such as *growth gaps*: the dark lines near
# the ends of a child's bones, which close when growth ends. They survive squashing, so squashing may cost *a network*
# less.
#
# And the girl of ten?

# %%
import pandas as pd
from bonexage_utils.course.nb02.pixels import film_and_bone


# years: the median bone age of the twenty children whose bone is nearest
def looks_like(number):
    nearest = (table["film"] - number).abs().nsmallest(20).index
    return f"{table.loc[nearest, 'months'].median() / 12:.1f}"


# %%
from bonexage_utils.course.reveal import after_guess

_, bone = film_and_bone(width=65)
answers = {"your guess": "none" if my_guess is ... else my_guess,
           "squashed": looks_like(slimness(squash(bone, 512))),
           "letterboxed": looks_like(slimness(letterbox(bone, 512)))}
after_guess(my_guess, pd.Series(answers, name="she looks (years)"))

# %% [markdown]
# She is ten. Even letterboxed she does not look it: children differ too much for one bone to tell. The step from the
# last row to the one above is what squashing does.
#
# A letterbox has its price: at 65 % a third of the square is black. And the bars tell the network the film's shape. A
# network can misuse that as it can the size of a file (notebook 01).
#
# ### Exercise: the way back
#
# A network marks a spot in the square, and a doctor wants to see it on the film. Write `my_place(row, column, shape,
# size)`: where on the film, as `(row, column)`, lies that pixel of the square? `shape` is the film's `(height,
# width)`, `size` the side of the square.

# %%
from bonexage_utils.course.nb02 import exercises

ex = exercises.build(course)

# %% tags=["nbval-check-output"]
def my_place(row, column, shape, size):
    ...


ex.back.check(my_place)

# %%
# ex.back.hint()
# ex.back.solution()

# %% [markdown]
# ## How many pixels?
#
# A square of 512 pixels costs 64 times as much to compute as one of 64. What does it buy? Here are the knuckles of
# the girl of ten at five sizes:

# %%
from bonexage_utils.course.nb02.pixels import draw_sides

draw_sides()

# %% [markdown]
# *1 mm = 0.3 px* means that a millimetre is a third of a pixel. At ten, a growth gap in a finger is about a millimetre
# wide. At 64 pixels there is no gap, only a slightly darker place. At 128 you guess it, at 256 it is a line, and
# at 512 it has edges.
#
# What is enough? The toy of notebook 00 beat the median with 96 pixels, so it must have used what is large, such as
# the wrist and the shape of bones. A network can read gaps only if its pixels show them. A student's thesis on RSNA,
# self-reported, used 512 pixels and found no gain from 768. On a laptop the course uses 64 to 128, so that you need
# not wait.
#
# ## Read once: the cache
#
# Decoding a film takes long, and it is the same work in every epoch. So do it once, letterbox, and keep the bytes in
# one long file. The second time, this cell takes next to no time:

# %%
from bonexage_utils.images import cached_images

size = {"fast": 64, "cpu": 64, "gpu": 128}[course.profile.name]  # px
films = course.cohort.table
films = films[films["split"].isin(["train", "selection"])].reset_index(drop=True)
cache = cached_images(films["image"].tolist(), size)

# %% tags=["nbval-check-output"]
same = [np.array_equal(cache.array[row], letterbox(read_gray(films["image"][row]),
                                                   size)) for row in (0, 7, 70)]
print("a row of the cache is the letterboxed film:", same)
print(f"RSNA's training films as bytes at 512 px:       "
      f"{12_611 * 512 * 512 / 1e9:5.1f} GB")
print(f"as 32-bit numbers, grey copied into 3 channels: "
      f"{12_611 * 512 * 512 * 4 * 3 / 1e9:5.1f} GB")

# %% [markdown]
# Why bytes? As 32-bit numbers the same 256 shades take twelve times the space. So bytes wait on the disk, and become
# fractions on the device that computes. If you exchange a film, a new cache is made: its name comes from every film's
# path, length and time of change.
#
# What does it save? We read films at 512 pixels from files of RSNA's size (ours, enlarged), from our small files, and
# from the cache:

# %%
from bonexage_utils.course.nb02.pixels import draw_rates, rates

measured = rates(films["image"].head(16).tolist())

# %%
draw_rates(measured)

# %%
slow, fast = measured["file of RSNA's size"], measured["row of the cache"]
print(f"{fast / slow:,.0f} times as many. One epoch of 12,611 films at 512 px takes "
      f"one core:")
print(f"from files {12_611 / slow / 60:.1f} minutes, from the cache "
      f"{12_611 / fast:.1f} seconds.")

# %% [markdown]
# Horizontal axis: films per second, each tick ten times the one before; longer is better. Read the ratio, because the
# seconds belong to this machine. Without the cache, a quick GPU does little but wait.
#
# <details><summary>For the curious: what these numbers leave out</summary>
#
# The wait for the disk is not in them, because all files had just been read. Enlarged phantoms are smoother than real
# films: twenty of RSNA's own took 1.4 times as long. And more cores share the work.
# </details>
#
# ## A batch
#
# The package puts films and labels side by side, and hands them out in shuffled batches:
#
# <!-- from elsewhere: 1.4 (measured once on twenty films of RSNA) -->

# %%
from bonexage_utils.batches import FilmDataset, train_loader

rows = {name: np.flatnonzero(films["split"] == name) for name in ("train", "selection")}
sets = {name: FilmDataset(cache.array, part, films.iloc[part].reset_index(drop=True))
        for name, part in rows.items()}
batch = next(iter(train_loader(sets["train"], 16, course.seed)))

# %% tags=["nbval-check-output"]
for name, value in batch.items():
    print(f"{name:7} {value.dtype!s:14} axes: {value.ndim}, films: {len(value)}")

# %% [markdown]
# Sixteen films, still bytes; the axes are film, channel (one, grey), row and column. Each has a label in months, a
# sex (0 girl, 1 boy), and a *key*, a number made from the film's id. What is the key for?
#
# ## Changes that keep the label
#
# A hand may lie turned a little, nearer to the edge, brighter or larger. None of that is bone age, and there are
# never enough films to show all of it. So change every film a little, anew in every epoch. That is **augmentation**.
# Here are six films, and what became of them in three epochs:

# %%
from bonexage_utils.augment import augment
from bonexage_utils.devices import to_unit
from bonexage_utils.settings import Augmentation

six, keys = to_unit(batch["image"][:6]), batch["key"][:6]
looks = {"as cached": six} | {f"epoch {epoch}": augment(six, keys, epoch, course.seed,
                                                        Augmentation())
                              for epoch in (0, 1, 2)}

# %%
tiles = [(255 * film[0]).numpy() for some in looks.values() for film in some]
ages = [f"{months:.0f} months" for months in batch["months"][:6]]
titles = [age if name == "as cached" else name for name in looks for age in ages]
montage(tiles, titles, f"""Six films ({', '.join(ages)}) in four rows: as they lie in
the cache, and augmented in three epochs. From row to row each is turned, shifted,
stretched and brightened a little differently.""",
        columns=6, side=1.15)

# %% [markdown]
# Top row: the films in the cache. Go down a column: one film, one label, four looks. Each change is small and drawn
# evenly from a range, such as up to 10 degrees or 5 % of the side. But on a faint film, noise can drown the hand: a
# change that keeps one film's label may destroy another's.
#
# If the films of a batch shared one dice, no run could be repeated in another order. So each film has its own dice: a
# hash of (seed, epoch, key). Here it is by hand, for brightness alone. (You need not follow `mixed`: it turns a
# number into another that looks like chance.)
#
# <!-- from elsewhere: 5 (the settings of Augmentation) -->

# %%
import torch


def mixed(x):  # SplitMix64: scrambles 64 bits, always in the same way
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


# throw `number` of this film in this epoch: 0 to 1
def dice(key, epoch, number, seed=course.seed):
    return (mixed(mixed(mixed(key + seed) + epoch) + mixed(number)) >> 40) / 2**24


# %% tags=["nbval-check-output"]
only_brightness = Augmentation(0, 0, 0, 0, brightness=0.1, contrast=0, gamma=0, noise=0,
                               occlusion=0)
package = augment(six, keys, 3, course.seed, only_brightness)
# the eighth throw is for brightness
added = torch.tensor([0.1 * (2 * dice(int(key), 3, 7) - 1) for key in keys])
by_hand = (six + added[:, None, None, None]).clamp(0, 1)
print("same as the package:", torch.allclose(package, by_hand, atol=1e-4))

# %% tags=["nbval-check-output"]
how = Augmentation()
together, alone = augment(six, keys, 0, course.seed, how), augment(six[2:3], keys[2:3],
                                                                   0, course.seed, how)
print("the same in other company:", torch.allclose(together[2:3], alone, atol=1e-5))
print("the same in another epoch:",
      torch.allclose(together, augment(six, keys, 1, course.seed, how), atol=1e-2))

# %% [markdown]
# `True` and `False`, as we want it: a film's changes depend on its id, the epoch and the seed, and on nothing else.
#
# ### Exercise: a decision
#
# A colleague has more ideas. Here is a film of a ten-year-old boy, changed in six ways:

# %%
from bonexage_utils.course.nb02.pixels import draw_six_changes

draw_six_changes()

# %% [markdown]
# Which of them destroy the label? Answer with their letters, such as `"AB"`.

# %% tags=["nbval-check-output"]
my_letters = ...
ex.keeps.check(my_letters)

# %%
# ex.keeps.hint()
# ex.keeps.solution()

# %% [markdown]
# ## One transform for two
#
# Training films are augmented. The films that we judge by are not, because a ruler must not change. The colleague
# writes it as most of us would. (PyTorch's `random_split` deals a set out to two parts; `.dataset` is the set behind
# a part.) Is it right?

# %%
from torch.utils.data import Dataset, random_split


class Films(Dataset):
    def __init__(self, array):
        self.array, self.transform = array, None

    def __len__(self):
        return len(self.array)

    def __getitem__(self, row):
        film = to_unit(torch.from_numpy(self.array[row].copy()))[None]
        return film if self.transform is None else self.transform(film)


# %%
def brighter_or_darker(film):
    return (film + 0.2 * torch.rand(()) - 0.1).clamp(0, 1)


halves = random_split(Films(cache.array[:120]), [100, 20],
                      torch.Generator().manual_seed(0))
training_part, selection_part = halves
training_part.dataset.transform = brighter_or_darker
selection_part.dataset.transform = None

# %% [markdown]
# It runs, and a network trains on it. How would you find out whether the films of a part change?
#
# ### Exercise: a test
#
# Write `my_test(part)`: `True` if films of `part` change from one look to the next. `len(part)` is how many there
# are, and `part[0]` is the first, a tensor.

# %% tags=["nbval-check-output"]
def my_test(part):
    ...


ex.looks.check(my_test)

# %%
# ex.looks.hint()
# ex.looks.solution()

# %% [markdown]
# ### Exercise: the experiment
#
# Now use it, or look at one film twice by hand. Is augmentation on or off, for the training part and for the
# selection part? Answer `"on and off"`, `"off and off"`, `"on and on"` or `"off and on"`.

# %%
# Your experiment goes here, such as: torch.equal(training_part[0], training_part[0])

# %% tags=["nbval-check-output"]
what_happens = ...
ex.shared.check(what_happens)

# %%
# ex.shared.hint()
# ex.shared.solution()

# %% [markdown]
# The package cannot have this bug: its films carry no transform. The loop changes only training batches. Let us
# check:

# %% tags=["nbval-check-output"]
attributes = [name for name in vars(sets["train"]) if "transform" in name
              or "augment" in name]
still = torch.equal(sets["train"][0]["image"], sets["train"][0]["image"])
print("transforms in the set:", attributes, "| a film looks the same twice:", still)

# %% [markdown]
# ### What did it cost?
#
# We train the same small network twice: augmented, as the colleague believes it is, and not augmented, as it is. The
# films are few:

# %%
from dataclasses import replace

from bonexage_utils.prediction import Predictor
from bonexage_utils.settings import TrainConfig
from bonexage_utils.training import train

some = course.cohort.split("train").head(200)
few = replace(course.cohort, table=pd.concat([some, course.cohort.split("selection")],
                                             ignore_index=True))
epochs = 12 if course.profile.name == "fast" else 24
config = TrainConfig(backbone="test_resnet", image_size=size, epochs=epochs,
                     batch_size=20, grad_accum=1, lr=3e-3,
                     weights="none", precision="fp32", seed=course.seed)
settings = {"augmented": config, "not augmented": replace(config, augmentation=None)}

# %%
models, logs = {}, {}
for name, setting in settings.items():
    with tempfile.TemporaryDirectory() as folder:
        models[name] = Predictor(train(few, folder, setting))
        logs[name] = pd.read_csv(f"{folder}/log.csv")

# %%
from bonexage_utils.figures import BOYS, MUTED, Picture, new_figure

figure, axes = new_figure(9, 3.5, 1, 2, sharey=True)
for ax, (name, log) in zip(axes, logs.items(), strict=True):
    ax.plot(log["epoch"], log["train_mae_months"], color=MUTED, label="training films")
    ax.plot(log["epoch"], log["selection_mae_months"], color=BOYS, linewidth=2.5,
            label="selection films")
    ax.set(title=name, xlabel="epoch")
axes[0].set(ylabel="MAE (months)", ylim=(0, None))
_ = axes[0].legend()

# %%
last = {name: log.iloc[-1] for name, log in logs.items()}
told = "; ".join(f"{name} {row.train_mae_months:.1f} on training and "
                 f"{row.selection_mae_months:.1f} on selection films"
                 for name, row in last.items())
Picture(figure, f"Two learning curves, mean absolute error in months against the "
                f"epoch. At the end: {told}.")

# %% [markdown]
# Horizontal axes: the epoch. Vertical axis: the error in months; lower is better. Grey is taken during training, on
# the left on changed films. On the right grey sinks far below blue: the network begins to learn its films by heart,
# and that helps little with others. On the left the two stay together: no picture comes twice, so the network has to
# learn what they share. Now compare the best network of each run, film by film:

# %%
from bonexage_utils.statistics import verdict

judged, selection = cache.array[rows["selection"]], films.iloc[rows["selection"]]
labels, sexes = selection["months"].to_numpy(), selection["sex"].tolist()
error = {name: model.months(judged, sexes) - labels for name, model in models.items()}
gain = paired_difference(error["augmented"], error["not augmented"])
for name, off_by in error.items():
    print(f"{name:14} MAE {score(off_by + labels, labels).mae} months")
found = verdict(gain, "augmenting", "not augmenting")
print(f"augmented minus not augmented: {gain} months, {len(labels)} selection films: "
      f"{found}")

# %% [markdown]
# A negative difference is in favour of augmentation. If zero lies inside the brackets, these films cannot tell. This
# is one run each, of a toy, with few films, where augmentation has most to give. The gap between grey and blue on the
# right is hardly luck. How could a network learn films by heart if they changed in every epoch?
#
# As in every notebook, the cell below stops if one day the numbers leave the band they had when this was written.

# %%
low, high = {"fast": (15, 50), "cpu": (14, 32), "gpu": (5, 40)}[course.profile.name]
for name, off_by in error.items():
    mae = float(np.abs(off_by).mean())
    inside = low < mae < high
    assert inside or not course.embedded, f"{name}: MAE {mae:.1f}, not {low} to {high}"

# %% [markdown]
# And if augmentation is *on* for both? The augmented network judges the same films five times: as they are, and with
# the changes of four epochs.

# %%
kept, keys_judged = models["augmented"], torch.tensor(sets["selection"].keys)


def judge(films_0_255):
    return np.abs(kept.months(films_0_255, sexes) - labels).mean()


print(f"as they are {judge(judged):.1f} months; augmented:", end=" ")
for epoch in range(4):
    changed = 255 * augment(to_unit(torch.from_numpy(judged)[:, None]), keys_judged,
                            epoch, 1, Augmentation())
    print(f"{judge(changed[:, 0].round().byte().numpy()):.1f}", end=" ")

# %% [markdown]
# One network, the same children: a larger error, and another number at every look. Such a ruler measures films that
# nobody will ever take.
#
# ## Two numbers, and whose they are
#
# A network learns best from numbers around 0 with a spread of about 1. So subtract a mean and divide by a standard
# deviation: one pair of numbers for all films. But the mean *of what*?
#
# ### Exercise: the two numbers
#
# Take the first 200 training films, at 64 pixels, on the 0–1 scale. Which mean and standard deviation would you use?

# %%
# bytes
from_train = np.stack([letterbox(read_gray(path), 64)
                       for path in train_films["image"].head(200)])

# %% tags=["nbval-check-output"]
my_numbers = ...  # (mean, std)
ex.numbers.check(my_numbers)

# %%
# ex.numbers.hint()
# ex.numbers.solution()

# %% [markdown]
# The package measures them on the training films:

# %% tags=["nbval-check-output"]
from bonexage_utils.devices import standardise
from bonexage_utils.images import Preprocessing, measure_intensity

preprocessing = Preprocessing(size, *measure_intensity(cache.array, rows["train"]))
by_hand = (six - preprocessing.mean) / preprocessing.std
print("same as the package:", torch.allclose(by_hand, standardise(six, preprocessing)))
scaled = standardise(to_unit(torch.from_numpy(cache.array[rows["train"]])),
                     preprocessing)
print(f"all training films: mean {abs(scaled.mean()):.2f}, standard deviation "
      f"{scaled.std():.2f}")

# %% [markdown]
# By hand and by the package alike. Over all training films the mean is now 0 and the spread 1.
#
# What if somebody uses the network with other numbers? In public bone-age code that happens, and no error is raised.
# Here is the network from above, with four ways to standardise:

# %%
@torch.inference_mode()
def read(images):  # standardised films to months
    codes = torch.tensor(sets["selection"].sex, device=kept.device)
    return kept.model(images.to(kept.device), codes).cpu().numpy()


# %%
unit = to_unit(torch.from_numpy(judged)[:, None])
own_mean, own_std = unit.mean((1, 2, 3), keepdim=True), unit.std((1, 2, 3),
                                                                 keepdim=True)
ways = {"as it learned": standardise(unit, kept.preprocessing),
        "0.5 and 0.5": (unit - 0.5) / 0.5,
        "ImageNet's": (unit - 0.449) / 0.226, "each film's own": (unit - own_mean)
        / own_std}
errors = {way: read(images) - labels for way, images in ways.items()}
first = errors["as it learned"]
rows_of = [{"MAE": score(off_by + labels, labels).mae,
            "bias": score(off_by + labels, labels).bias,
            "MAE minus the first": "" if off_by is first
            else paired_difference(off_by, first)}
           for off_by in errors.values()]
pd.DataFrame(rows_of, index=list(errors)).astype(str)

# %% [markdown]
# *Bias* is the mean of prediction minus label. Where the interval in the last column lies above zero, the other
# numbers did harm. Where zero lies inside, these films cannot tell. With 0.5 and 0.5 the network is no better than a
# guess that looks at no film (the median by sex has about 41 months here). And still no error is raised.
#
# Here is a surprise: *each film's own* numbers did no clear harm, although the network never saw them. It was trained
# with changing brightness and contrast, and this rule changes just those. But the black bars count in such a mean, so
# the same hand on a narrower film gets other numbers. Whatever you choose, use the same in training and ever after.
# So the package keeps both numbers inside the checkpoint.
#
# ## Self-check
#
# Answer aloud, then open.
#
# <details><summary>1. A program reports 9 years 11 months for 119.99, and squashes its films. Which of the two can
# more training mend?</summary>
#
# Neither. The first is a mistake in the output, mended in one line (notebook 00). The second takes information away
# before the network sees it. No training brings back the proportions of a bone on a film whose shape nobody kept.
# </details>
#
# <details><summary>2. Somebody computes mean and standard deviation on all films, then splits. A leak?</summary>
#
# Yes, a small one: two numbers of the network now depend on films that nobody should have touched. Make it a habit to
# take nothing from them. (Notebook 01 has the leak that costs much more: one child on both sides.)
# </details>
#
# <details><summary>3. The selection error jumps up and down although the network hardly changes. What do you look
# at?</summary>
#
# Look at one selection film, twice. If it differs, augmentation is on where it should be off. Then ask how many films
# there are: the interval of a mean over few films is wide (notebooks 00 and 01).
# </details>
#
# ## What you can now say
#
# <!-- from elsewhere: 11, 119.99 (an example), 41 (notebook 03) -->

# %%
other = paired_difference(errors["0.5 and 0.5"], first)
print(f"Squashing cost a reader of one bone, in {len(truth)} simulated children up to "
      f"ten, {cost} months.")
print(f"A film at 512 px comes from the cache {fast / slow:,.0f} times as fast as from "
      f"a file of RSNA's size.")
print(f"Augmented minus not, a toy network, {len(some)} films, one seed: {gain} "
      f"months: {found}.")
print(f"Standardised with 0.5 and 0.5 in place of its own numbers, that network is "
      f"{other} months further off.")
print("In brackets 95 % intervals, film by film; selection films, so the best epochs "
      "flatter a little.")

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
# - **What squashing costs a network**, and what 64 pixels cost. One bone was measured, not a network. Train two and
#   compare, film by film: notebook 03 has the tools.
# - **How much augmentation is best.** A student's thesis on RSNA, self-reported, found half a month less error with
#   light augmentation, nothing certain from a mirror alone, and no gain from strong changes.
# - **Cutting the hand out** first, as many do. It needs a second program, which can be wrong, too.
# - **Many processes that load**: 07.
# - **Other scanners**: 09.
#
# ## Sources
#
# - Halabi et al., *Radiology* 2019;290:498: RSNA's films and their sizes.
# - PyTorch, issue 56886 (2021): users ask for a transform of its own for each part of `random_split`.
# - Steele, Lea & Flood, *Fast Splittable Pseudorandom Number Generators*, OOPSLA 2014: SplitMix64.
# - Garn, Hertzog, Poznanski & Nagy, *Radiology* 1972;105:375 (lengths) and Garn 1970 (widths of metacarpals): the
#   tables the phantom grows by, recalled, not compared with the originals.
# - Public bone-age code: squashing, clipped 16-bit films, one transform for two splits, and other numbers at
#   prediction than in training were each found there.
