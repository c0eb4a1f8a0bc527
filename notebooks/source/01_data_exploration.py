# %% [markdown]
# # 01 · Data exploration
#
# **The question:** can I trust the labels and the pictures?
#
# The hospital has sent its films on a disk, with a table of ages. Somebody typed that table. Somebody copied those
# files, perhaps twice. Before a network learns from them, you look at them; what is wrong now will be learned, or will
# flatter you later.
#
# **After this notebook you can**
#
# - say what a label is worth, from the comb in its histogram;
# - find bad films, by eye and with an audit, and state what each of the two missed;
# - explain how a random split can make a poor reader look good, and build one that does not;
# - compute the error every model has to beat, for the cohort in hand.
#
# **You need** Python with lists and functions, and to have met a pandas table. Notebook 00 helps; it need not have
# been run.
#
# **Time:** 50 minutes with the exercises. Measured on two processor cores: 20 seconds of computing (profile `cpu`),
# 1.0 GB of memory.

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
# ## The label table
#
# A label table looks dull, and decides everything. One row per film: which image, how old the bones are said to be
# (months), girl or boy, and which part of the work the film is for, its *split*. One split, the test, we lay aside
# unseen before anything else; why, you will see further down.

# %%
labelled = course.cohort.table.dropna(subset=["months"])
table = labelled[labelled["split"] != "test"]
print(f"{len(labelled):,} films have a label. We look at {len(table):,}; {table['sex'].eq('F').mean():.0%} are girls.")
table[["id", "months", "sex", "split"]].head()

# %% [markdown]
# Before you believe a table, ask *which* table it is. Two versions of the labels of RSNA's test films are in
# circulation; they differ by 2.8 months on average, and nobody would see it by looking. A hash tells them apart:
# change one character of the file, and it is another.

# %%
for name, digest in course.cohort.label_hashes.items():
    print(f"{name}: {digest[:16]}…")

# %% [markdown]
# Write the hash into your report, beside every number. (RSNA's training table begins with `9459296c0fca3e3c`.)
#
# ### What a program can refuse
#
# Five small tables, as they come in the mail. Which of them would you load?

# %%
import tempfile
from pathlib import Path

from bonexage_utils.errors import BoneXageError
from bonexage_utils.labels import read_labels

mails = {
    "720 months": "id,boneage,male\n1,96,True\n2,720,False\n", "sex unknown": "id,boneage,male\n1,96,True\n2,84,?\n",
    "one child twice": "id,boneage,male\n1,96,True\n1,84,True\n", "no age": "id,boneage,male\n1,96,True\n2,,False\n",
    "11 months": "id,boneage,male\n1,96,True\n2,11,False\n",
}


# %%
def answer_to(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.csv"
        path.write_text(text)
        try:
            return f"loads {len(read_labels(path))} films"
        except BoneXageError as error:
            return "refused: " + str(error).split(": ", 1)[1]


for name, text in mails.items():
    print(f"{name:16} {answer_to(text)}")

# %% [markdown]
# Four are refused, each with its reason, the line, and what to do. Nothing is guessed: a `?` does not quietly become a
# girl. The last one loads, and should: there are infants of 11 months. But what if somebody meant 11 *years*? No rule
# can know. For that you need to look at all labels together.
#
# ## The comb
#
# All these labels, counted in bins of half a year. Move the slider: wider bins, then narrower ones, down to a month.

# %%
from bonexage_utils.course.widgets import choose_bins, draw_bins

choose_bins(table)

# %% [markdown]
# The same at three widths. Girls go up in orange, boys down in blue.

# %%
draw_bins(table)

# %% [markdown]
# Age runs to the right, in months, and the number of films away from the middle line. With bins of two years it is a
# calm landscape: you see how many small and how many big children there are. With bins of half a year it becomes
# ragged. With bins of one month it is a **comb**: high teeth, and between them months that no child ever seems to
# have. Girls and boys need not share their teeth: each sex has an atlas of its own.
#
# It is one set of labels. The bin width decides what you see of it. Whoever only ever draws ten bins never meets the
# comb.
#
# ## Predict first
#
# Where does a comb come from? Readers compare with the plates of an atlas, and plates are half a year or a year apart.
# If readers said the month, one label in six would be a multiple of six: 17 %. **What share of the labels here is?**
# Commit to a number.

# %%
my_guess = ...  # per cent, such as 30

# %% [markdown]
# ### Exercise: count the teeth
#
# Write `my_share(months, step)`: the share, from 0 to 1, of the labels that are multiples of `step`. A film without a
# label has NaN there.

# %%
import numpy as np

from bonexage_utils.course.exercises import nb01

ex = nb01.build(course)  # takes some seconds: it draws the films of an exercise further down

# %% tags=["nbval-check-output"]
my_share = ...  # a function: def my_share(months, step): ...
ex.comb.check(my_share)

# %%
# ex.comb.hint()
# ex.comb.solution()

# %% [markdown]
# By hand, and with the course's function, on ten labels you can count on your fingers:

# %% tags=["nbval-check-output"]
from bonexage_utils.course.exploration import share_of_multiples

ten = np.array([6, 7, 12, 18, 21, 24, 25, 36, 38, 48.0])
by_hand = sum(label % 6 == 0 for label in ten) / len(ten)
print("by hand", by_hand, "| course", share_of_multiples(ten, 6))

# %% [markdown]
# The same, so from here on the course counts. Now the guess beside the answer, and beside RSNA:

# %%
import pandas as pd

pd.options.display.max_colwidth = 100  # whole sentences in tables
steps = (6, 12)
shares = pd.DataFrame({"if readers said the month": [1 / step for step in steps],
                       "these labels": [share_of_multiples(table["months"], step) for step in steps],
                       "RSNA's training labels": [0.81, 0.58]}, index=[f"multiples of {step}" for step in steps])
print("your guess for six:", "none" if my_guess is ... else f"{my_guess} %")
shares.map("{:.0%}".format)

# %% [markdown]
# The first column is chance, the second is the table in hand, the third was counted on RSNA's 12,611 training labels
# (Halabi et al. 2019), with 81 % multiples of six and 58 % of twelve. Both are far from chance, and
# close together: the readers of this cohort were made to heap as RSNA's did.
#
# So what is a label? Not an age but *the nearest plate*. A network that says 127 where the label says 126 may well be
# the more exact of the two. It also means that no model can be right to the month on such labels: some of what will be
# called its error is the comb.
#
# ### Exercise: a decision
#
# Four clinics send tables. Two of the four differ from yours without being wrong, one is yours, and one you send back.

# %%
from bonexage_utils.course.exploration import draw_four_tables

draw_four_tables(table["months"])

# %% [markdown]
# Which one? Answer `"A"`, `"B"`, `"C"` or `"D"`.

# %% tags=["nbval-check-output"]
my_table = ...
ex.table.check(my_table)

# %%
# ex.table.hint()
# ex.table.solution()

# %% [markdown]
# ## The pictures
#
# Labels alone are numbers. Here are two girls (rows 1 and 2) and two boys (rows 3 and 4) for each of five labels:

# %%
from bonexage_utils.images import read_gray
from bonexage_utils.plots import montage


def pick(sex, age, place):
    mine = table[table["sex"] == sex]
    return mine.loc[(mine["months"] - age).abs().sort_values(kind="stable").index[place]]


shown = [pick(sex, age, place) for sex in "FM" for place in (0, 1) for age in (36, 72, 108, 144, 180)]

# %%
titles = [f"{film['sex']}, {film['months']:.0f} months" for film in shown]
montage([read_gray(film["image"]) for film in shown], titles, f"""Twenty hand films in four rows, two of girls and two
of boys; the labels rise from left to right: {', '.join(titles)}. Two films under one label differ in size, turn,
brightness and pose more than in their bones.""", columns=5, side=1.3)

# %% [markdown]
# Go down a column first: one label, four children. How they lie, how bright the film is, how much forearm is on it:
# all of that differs, and none of it is bone age. Then go along a row: the gaps in the fingers close, the wrist fills.
# That is what a network has to find under all the rest. Compare girls and boys in one column, too: at the same *label*
# they look alike, because a label is a state of the bones. At the same *birthday* they would not (notebook 00).
#
# ### How large are they?
#
# Width and height of some of the films, coloured by age. If young were all on one side, a network could read the age
# off the size of the file, and never look at a bone.

# %%
sample = table.sample(min(len(table), 400), random_state=course.seed)
shapes = [read_gray(path).shape for path in sample["image"]]
sample = sample.assign(height=[height for height, _ in shapes], width=[width for _, width in shapes])
sample[["width", "height"]].describe().loc[["min", "50%", "max"]].astype(int)

# %%
from bonexage_utils.course.exploration import draw_sizes, rank_correlation

draw_sizes(sample)

# %%
for side in ("width", "height"):
    tied = rank_correlation(sample[side], sample["months"])
    print(f"{side}: rank correlation with the label {tied:+.2f} (0: none, 1: the same order)")

# %% [markdown]
# Each point is a film: its width on the horizontal axis, its height on the vertical one. *Are the colours mixed?*
# Where they are, the two correlations are near zero and size says nothing about age. Here dark points crowd at the
# lower left: growing hands need larger plates, so the size of the file knows something of the age. That is no bone
# age, and a network that lives on it fails where films are cut otherwise. Once all films are brought to one size,
# this clue is gone. *Do the points follow one of the thin lines?* Only then would all films have the same
# proportions. They do not: so a program that squashes each film to a square bends each hand differently. What to do
# about it is the subject of notebook 02. RSNA's films are larger and vary more: about 520 to 3,000 pixels a side,
# with a median of 1,277 × 1,624.
#
# ## Twelve bad films
#
# Now a folder as it might come from a hospital: 80 films, and twelve of them are bad. We know, because we made it,
# with `bonexage phantom … --faults 12`. Here are the films its table names, 79 for 80 films (keep that in mind), white
# where nothing can be opened. As in any hospital, a few more are unusual by nature, such as a right hand; they do not
# count among the twelve.

# %%
from bonexage_utils.cohort import load_cohort
from bonexage_utils.course.exploration import hospital
from bonexage_utils.images import letterbox

folder = hospital()
bad = load_cohort(folder)


# %%
def picture(path):
    try:
        return letterbox(read_gray(path), 84)
    except BoneXageError:
        return np.full((84, 84), 255, np.uint8)  # white: nothing to show


# %%
montage([picture(path) for path in bad.table["image"]], bad.table["id"].tolist(), f"""Contact sheet of {len(bad)} small
hand films under their ids. Some tiles are white because the file cannot be opened; among the others some are blank,
inverted, on their side or upside down.""", columns=10, side=0.85)

# %% [markdown]
# Give yourself two minutes, and write down the ids that look wrong to you. The eye is good at this, and quick.

# %%
my_eye = ...  # such as ["1004", "1017"]

# %% [markdown]
# ### And a program?
#
# Some things no eye finds: which two of eighty files are the *same* one. For that a program takes a hash of each file
# and looks which hash comes twice:

# %%
import hashlib
from collections import defaultdict

films_with = defaultdict(list)
for film in bad.table.itertuples():
    if Path(film.image).is_file():
        films_with[hashlib.sha256(Path(film.image).read_bytes()).hexdigest()].append(film.id)
twice_by_hand = sorted(film for films in films_with.values() if len(films) > 1 for film in films)

# %% [markdown]
# The package's `audit` does that and much more, reading each film once. The same two come out:

# %%
from bonexage_utils.audit import audit, summary

findings = audit(bad)

# %% tags=["nbval-check-output"]
twice_by_audit = sorted(findings.loc[findings["finding"] == "duplicate file", "id"])
print("the same two films:", twice_by_audit == twice_by_hand, "| how many:", len(twice_by_hand))

# %%
summary(findings)

# %% [markdown]
# Each row is a kind of finding. Of two equal films both are counted, because nobody knows which one is in its place.
#
# A **fault** stops a run or spoils its result. A **note** is worth a look and may be right as it is. A right hand
# among left ones is no fault, and the label fits it as well; only somebody has to decide whether it stays.
#
# The details, first three of each kind. Read a few and ask yourself each time: *could I have seen that?*

# %%
from bonexage_utils.audit import first_findings

first_findings(findings)

# %% [markdown]
# How can a program know what is upside down? It has seen the other films. It learns what a film of *this* folder looks
# like, compared with the same film turned, mirrored or inverted, and reports a film that fits better once it is
# turned. Nobody told it what a hand is; and in a folder where every film hangs upside down, it would find nothing at
# all.
#
# ### Exercise: the twelve
#
# Which films are bad? Your eye and the audit together; a list of ids, as text. Not every note is a bad film.

# %% tags=["nbval-check-output"]
my_twelve = ...
ex.twelve.check(my_twelve)

# %%
# ex.twelve.hint()
# ex.twelve.solution()

# %% [markdown]
# What was planted, against what was found:

# %%
planted = pd.read_csv(folder / "planted_faults.csv", dtype=str, keep_default_na=False)
told = findings.groupby("id")["finding"].agg(", ".join)
eye = set() if my_eye is ... else {str(film) for film in my_eye}
planted["the audit says"] = planted["id"].map(told).fillna("nothing")
planted["your eye"] = ["found" if film in eye else "" for film in planted["id"]]
planted[["id", "fault", "the audit says", "your eye"]]

# %%
from bonexage_utils.phantom.faults import unusual_films

found = [row.finding in told.get(row.id, "") for row in planted.itertuples()]
blamed = findings[~findings["id"].isin([*planted["id"], *planted["source"]])]
by_nature = blamed["id"].isin(unusual_films(folder)).sum()
print(f"found: {sum(found)} of {len(planted)}")
print(f"reported beside them: {len(blamed)}, of which right hands, turned or inverted by nature: {by_nature}")
assert sum(found) >= 9, "the audit misses more of the planted faults than it should"

# %% [markdown]
# The first line is how much of the bad was found, the **recall**. The second is what the finding cost: films somebody
# has to look at in vain. A right hand is no false alarm, nor is a film that the scanner turned; the rest is. A check
# with no false alarms is easily made, it never says anything; a check that misses nothing, too, it always does.
# Between the two you choose, and write down what you chose.
#
# One film may be on your list and in nobody's: dark, bent, an arm across. Trust that. An audit finds what it was
# written to find.
#
# ## Two films, one child
#
# Look again at the *near-duplicate*: one film, exported twice at different sizes, under two ids. Why is that worse
# than untidy? Because films are dealt out to training and test, and the two may land on different sides; if they did,
# the audit's line says so. Let us see what that does.
#
# Our reader is the laziest there is. It keeps all training films, and for a new film it says the label of the one that
# looks most alike. Now more and more films get a second export, and we judge the reader after two kinds of split:
# drawn film by film, or child by child, so that both exports stay together.

# %%
from bonexage_utils.course.exploration import draw_leak, leak

leaked = leak(course.cohort)
draw_leak(leaked)

# %%
leaked.set_index("twice").round(1)

# %% [markdown]
# Horizontal axis: the share of films with a second export. Vertical axis: the error in months; lower is better. Split
# by child, the line hardly moves: a second export of a known film teaches nothing new. Split by film, the error falls
# and falls. The reader has not become any better; more and more often it *recognises* the film.
#
# Mind the dotted line. It is the median, which looks at no film at all. Where the solid line lies above it, our lazy
# reader is worse than a guess; and yet enough twins carry the dashed line far below.
#
# ### Exercise: a decision
#
# A vendor shows you such a reader. 40 % of the films had been exported twice, and the split was drawn film by film.
# What error, in months, do you expect on children the reader has never met? Read it off the figure.

# %% tags=["nbval-check-output"]
my_error = ...  # months
ex.leak.check(my_error)

# %%
# ex.leak.hint()
# ex.leak.solution()

# %% [markdown]
# ## A split that stays
#
# There is a second way to lose a test set, and it needs no twins. You shuffle, and take every twelfth film for the
# test. Next month one more film arrives, and you run the same line again, with the same seed:

# %% tags=["nbval-check-output"]
from bonexage_utils.cohort import split_of


def random_test(ids, seed=0):
    return set(np.random.default_rng(seed).permutation(ids)[: len(ids) // 12])


ids = [str(film) for film in range(10_000)]
before, after = random_test(ids), random_test([*ids, "10000"])
print(f"still in the test set after one more film: {len(before & after) / len(before):.0%}")

# %% [markdown]
# Seven in ten of the former test films are training films now. Every model trained before has seen some of the new
# test, and no old number can be compared with a new one. The seed did not help: it fixes the shuffle of *this* list.
#
# So let each film's place depend on its own id and on nothing else. A hash turns an id into a number between 0 and 1
# that behaves like chance and never changes:

# %% tags=["nbval-check-output"]
def place_of(film):
    digest = hashlib.sha256(f"bonexage-1:{film}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    return ["test", "calibration", "selection", "train"][min(int(position / 0.08), 3)]


print("same as the package:", all(place_of(film) == split_of(film) for film in ids))
hashed, later = ({film for film in some if split_of(film) == "test"} for some in (ids, [*ids, "10000"]))
print(f"still in the test set after one more film: {len(hashed & later) / len(hashed):.0%}")

# %% [markdown]
# Eight per cent each for test, calibration and selection, the rest trains; and all stay where they are, whatever comes
# or goes. What the hash does *not* know is which films belong to one child. Where the data name the patient, hash the
# patient instead of the film. RSNA's do not; there, looking for near-duplicates is all one can do. (The audit reports
# none among RSNA's 12,611 training films, seen at 100 × 100 pixels.)
#
# Did chance deal fairly?

# %%
from bonexage_utils.cohort import balance

balance(course.cohort).round(2)

# %% [markdown]
# Compare the rows: share of boys, and the ages below which a quarter, half and three quarters of the films lie. Small
# splits differ more, that is chance at work. We report it and do not force it: who moves films until the table looks
# nice has chosen the test.
#
# **A promise.** The test films are locked. No figure so far has shown one, and none will: no choice, no curious look.
# They are opened once, in notebook 08, and what comes out then stands.
#
# ## The guess that needs no film
#
# Last, the bar. What does the **median by sex** reach, that looks at no film? Its error depends on how the ages are
# spread, so each cohort has its own.
#
# ### Exercise: the baseline
#
# Median of the training labels for each sex, then the mean absolute error of that guess on the selection films. Give
# the number, in months.

# %% tags=["nbval-check-output"]
train_films, selection = course.cohort.split("train"), course.cohort.split("selection")
my_baseline = ...  # months
ex.baseline.check(my_baseline)

# %%
# ex.baseline.hint()
# ex.baseline.solution()

# %%
from bonexage_utils.evaluation import median_by_sex, score

medians = median_by_sex(train_films)
by_hand = float((selection["months"] - selection["sex"].map(medians)).abs().mean())
baseline = score(selection["sex"].map(medians), selection["months"])
print(f"by hand {by_hand:.2f} | package {baseline.mae} months on {baseline.n} selection films")
assert not course.embedded or 30 < baseline.mae.value < 75, f"baseline {baseline.mae}, expected 30 to 75 months"

# %% [markdown]
# By hand and by the package alike; in brackets, where the number would likely fall with other films of the same kind.
# On RSNA the same guess is off by 31.9 months on the validation films and by 32.8 on the test films. Where it is
# larger here, the reason is the histogram: RSNA's children crowd near the middle ages, while these are spread more
# evenly from one year to eighteen.
#
# So never carry an error from one cohort to another. "12 months" is fine work in one and poor in the next.
#
# ## Self-check
#
# Answer aloud, then open.
#
# <details><summary>1. A vendor's model has an MAE of 4 months. What do you ask?</summary>
#
# How the labels came about, and what the median by sex has on the same films (notebook 00). And whether a child, or a
# second export of its film, was on both sides of the split. Readers themselves are some months apart.
# </details>
#
# <details><summary>2. The same film shows 28 ossification centres. Does it matter who it is?</summary>
#
# Yes: a girl with 28 centres is younger than a boy with 28 (notebook 00). A wrong sex in the table is a wrong label,
# and no audit of pixels can find it.
# </details>
#
# <details><summary>3. An audit reports 116 mirrored hands among 12,611. Drop them?</summary>
#
# They are notes. Most are right hands, as good as left ones. Look at a few, decide, and write the decision down; what
# you drop silently, nobody can check.
# </details>
#
# ## What you can now say

# %%
comb = share_of_multiples(table["months"], 6)
low, high = leaked.iloc[-1][["by film", "by child"]]
print(f"{comb:.0%} of the labels are multiples of six months; chance would be 17 %.")
print(f"In a folder of {len(bad)} films the audit found {sum(found)} of {len(planted)} planted faults,")
print(f"and reported {len(blamed)} more, {by_nature} of them unusual by nature.")
print(f"With half of the films exported twice, a split by film showed {low:.0f} months where {high:.0f} were true.")
print(f"The median by sex is off by {baseline.mae} months on {baseline.n} selection films (95 % interval).")

# %% [markdown]
# ## What we left out
#
# - **Wrong labels that look right.** A 9-year-old typed as 8 passes every check of today. Notebook 08 looks for labels
#   that a good model disagrees with.
# - **What the films become** before a network sees them: notebook 02.
# - **Who is missing.** RSNA's table has no birthday, no ethnicity, no patient. What depends on them cannot be checked
#   there, by anybody.
# - **Real hospital films** come as DICOM, with more to check: `bonexage check` reads them, this notebook did not.
#
# ## Sources
#
# - Halabi et al., *Radiology* 2019;290:498: the RSNA challenge. The shares of 81 % and 58 %, and the medians' errors,
#   were counted on its published label tables.
# - Greulich & Pyle, *Radiographic Atlas of Skeletal Development of the Hand and Wrist*, 1959: the plates between which
#   labels heap.
# - Rahimi & Recht, *Random Features for Large-Scale Kernel Machines*, NIPS 2007: how the audit learns what is upright.
# - Kapoor & Narayanan, *Patterns* 2023;4:100804: leakage in published machine learning, many fields, same mistakes.
