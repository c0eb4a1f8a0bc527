"""Calls made up from good and bad words for every command: what is good is done, what is bad is refused in a line.

`BONEXAGE_CALLS` sets how many calls are made (`make audit`: 3,000); call k depends on k alone, so that a failing one
can be made again by its number.
"""

import faulthandler
import json
import math
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from commands import bonexage
from hospital_export import directory
from made_up_films import dicom

from bonexage_utils.checkpoints import load_model
from bonexage_utils.files import file_hash
from bonexage_utils.phantom import write_cohort

pytestmark = pytest.mark.slow
CALLS = int(os.environ.get("BONEXAGE_CALLS", "60"))
FIRST = int(os.environ.get("BONEXAGE_FIRST_CALL", "0"))
PORTION = 30
SECONDS = 120  # no call here takes a tenth of it

# For each option: words to be accepted | words to be refused. Nobody can have a path of the last kind.
NOWHERE = ["absent", "", "x" * 5000, "a\nb", "absent\udcff", "~"]
WHOLE = ["0", "-1", "x", "1.5", "nan", "", "1e3", "١x"]
CHECKPOINTS = ["cut.safetensors", "film.png", "data", "words.safetensors", *NOWHERE]
COHORTS = ["films", "film.png", "empty", "years", "twice", *NOWHERE]
WORKERS = {"--workers": (["1", "3"], [*WHOLE, "257"])}
DEVICE = {"--device": (["cpu", "auto"], ["cuda:999", "cuda:x", "meta", "gpu", "CPU", "cpu\n", ""])}
COMMON = {"--batch-size": (["1", "7"], WHOLE), **WORKERS, **DEVICE}
# What a user says of her tables; the good words fit the cohort's own.
TABLES = {
    "--labels": (["data/boneage-training-dataset.csv", "link to labels", "labels.xlsx"],
                 ["years.csv", "film.png", "cut.xlsx", "data", *NOWHERE]),
    "--columns": (["id=id,months=boneage,sex=male", " sex = Male"],
                  ["id", "", "film=a", "id=id,id=id", "sex=male,years=boneage,months=boneage"]),
    "--sex-codes": (["M=M,F=F,True=M,False=F", "9=U"], ["1=X", "", "M", "1=M,1=F", "=F"]),
}


@dataclass
class Command:
    """`places` are its arguments and `options` what may follow, as (good, bad) words; an option without words is a
    flag. `always` are options it cannot do without."""

    weight: int
    places: list[tuple[list[str], list[str]]]
    options: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)
    always: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)


COMMANDS = {
    "phantom": Command(2, [(["drawn"], ["data", "film.png", "film.png/x", ""])], {
        "--seed": (["0", "7", str(2**40)], ["-1", "x", "1.5"]), "--workers": (["1"], WHOLE),
        "--site": (["A", "B"], ["C", ""]), "--shortcut": ([], []), "--masks": ([], []),
        "--faults": (["0"], ["-1", "9"]),
    }, always={"--n": (["1", "3"], WHOLE)}),
    "check": Command(3, [(["data"], COHORTS)], {
        "--out": (["new", "sub/new"], ["film.png", "film.png/x"]), **WORKERS, **TABLES}),
    "train": Command(8, [(["data"], COHORTS)], {
        "--lr": (["1e-3", "0.1"], ["nan", "inf", "-1", "0", "x", ""]),
        "--max-age": (["240", "239.5"], ["nan", "inf", "0", "-5", "100"]),
        "--seed": (["0", "7", str(2**32)], ["-1", "x", str(2**64)]),
        "--precision": (["fp32", "bf16", "auto"], ["fp8", ""]),
        "--pooling": (["gem", "avg", "max"], ["mean"]), "--output": (["bounded", "linear"], ["x"]),
        "--loss": (["l1", "mse"], ["x"]), "--no-sex": ([], []), "--drop-bad": ([], []), "--resume": ([], []),
        "--workers": (["0"], ["-1", "x"]), **DEVICE, **TABLES,
    }, always={
        "--out": (["new", "sub/new"], ["film.png", "film.png/x", "run"]), "--epochs": (["1"], WHOLE),
        "--backbone": (["test_convnext", "test_resnet", "test_efficientnet"],
                       ["nonsense", "", "hf-hub:a/b", "vit_tiny_patch16_224", "../x", "test_convnext\n"]),
        "--image-size": (["32", "64"], [*WHOLE, "31", "1000000", "999999999999"]),
        "--batch-size": (["4", "8"], [*WHOLE, "100000"]), "--grad-accum": (["1", "2"], [*WHOLE, "99999"]),
        "--weights": (["none"], ["imagenet", "phantom", "x"]),
    }),
    "predict": Command(8, [(["model.safetensors", "calibrated.safetensors"], CHECKPOINTS), (
        ["film.png", "films", "data", "list.csv", "list.txt", "deep.png", "colour.jpg", "./films/../film.png",
         "export"],
        ["empty", "no_column.csv", "cut.csv"])], {
        "--sex": (["M", "F", "female"], ["x", "1", "nan", ""]), "--tta": ([], []), "--resume": ([], []),
        "--strict": ([], []),
        "--unknown-sex": (["mean"], ["x", ""]), "--header": ([], []), **COMMON, **TABLES,
    }, always={"--out": (["new.csv", "sub/new", "new"], [
        "p.json", "p.JSON", "folder", "link.csv", "/dev/null", "film.png/x", "cohort.csv"])}),
    "evaluate": Command(8, [
        (["calibration.csv", "test.csv"],
         ["letters.csv", "infinite.csv", "comma.csv", "absurd.csv", "twice.csv", "film.png", "list.txt", *NOWHERE]),
        (["data", "data/boneage-training-dataset.csv"], [*COHORTS, "years.csv"])], {
        "--against": (["test.csv", "calibration.csv"], ["letters.csv", *NOWHERE]),
        "--coverage": (["0.5", "0.8"], ["0", "1", "2", "-1", "nan", "inf", "x"]), "--no-films": ([], []), **WORKERS,
        **TABLES,
    }, always={"--out": (["new", "sub/new"], ["film.png", "film.png/x"])}),
    "stress": Command(2, [(["model.safetensors", "calibrated.safetensors"], CHECKPOINTS), (["data"], COHORTS)], {
        "--split": (["test"], ["x", ""]), **COMMON, **TABLES,
    }, always={"--out": (["new", "sub/new"], ["film.png", "film.png/x"])}),
    "card": Command(2, [(["model.safetensors", "calibrated.safetensors"], CHECKPOINTS)], {
        "--report": (["report"], ["empty", "data", "film.png", *NOWHERE]),
        "--license": (["mit", "cc-by-nc-4.0"], ["MIT", "a b", "mit\n- x", ""]),
    }, always={"--out": (["new", "sub/new"], ["film.png", "film.png/x", "data"])}),
    "export": Command(1, [(["model.safetensors"], CHECKPOINTS)],
                      always={"--out": (["new.onnx"], ["folder", "link.csv", "/dev/null", "model.safetensors"])}),
}
FLAW = ["--unheard-of", "one too many", "--help=x"]


@pytest.fixture(scope="module")
def sandbox(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the words above name, good and bad."""
    folder = tmp_path_factory.mktemp("sandbox")
    write_cohort(folder / "data", 60, seed=2, workers=1)
    shutil.copytree(folder / "data" / "boneage-training-dataset", folder / "films")
    film = folder / "films" / "1000.png"
    for name in list((folder / "films").iterdir())[8:]:
        name.unlink()
    shutil.copy(folder / "data" / "boneage-training-dataset" / "1000.png", folder / "film.png")
    pixels = cv2.imread(str(folder / "film.png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(folder / "deep.png"), pixels.astype(np.uint16) * 16)
    cv2.imwrite(str(folder / "colour.jpg"), cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR))
    shutil.copytree(run, folder / "run")
    for name in ("model", "calibrated"):
        shutil.copy(run / "model.safetensors", folder / f"{name}.safetensors")
    whole = (run / "model.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "words.safetensors").write_text("no network")
    for name in ("empty", "folder", "export"):
        (folder / name).mkdir()
    for name in ("IM000001", "IM000002"):
        (folder / "export" / name).write_bytes(dicom(pixels, PatientSex="M", Modality="DX"))
    (folder / "export" / "DICOMDIR").write_bytes(directory([Path("IM000001"), Path("IM000002")]))
    (folder / "link.csv").symlink_to(folder / "film.png")
    (folder / "link to labels").symlink_to(folder / "data" / "boneage-training-dataset.csv")
    pd.read_csv(folder / "link to labels").to_excel(folder / "labels.xlsx", index=False)
    (folder / "cut.xlsx").write_bytes((folder / "labels.xlsx").read_bytes()[:-300])
    (folder / "list.csv").write_text("image,sex\nfilm.png,F\ndeep.png,M\n")
    (folder / "list.txt").write_text("film.png\ndeep.png\n")
    (folder / "cohort.csv").write_text("mine\n")
    (folder / "cohort.json").write_text('{"mine": 1}\n')
    (folder / "no_column.csv").write_text("name,sex\na,F\n")
    (folder / "cut.csv").write_text('image,sex\n"film.png,F\n')
    labels = (folder / "data" / "boneage-training-dataset.csv").read_text().splitlines()
    years = [f"{k},{k % 18}.5,True" for k in range(12)]
    for name, rows in (("years", [labels[0], *years]), ("twice", [*labels, labels[1].replace(",", ",1", 1)])):
        (folder / name / "boneage-training-dataset").mkdir(parents=True)
        (folder / name / "boneage-training-dataset.csv").write_text("\n".join(rows) + "\n")
    shutil.copy(folder / "years" / "boneage-training-dataset.csv", folder / "years.csv")
    assert film.exists() or any((folder / "films").iterdir())
    for split in ("calibration", "test"):
        status, *_ = call(["predict", "model.safetensors", "data", "--split", split, "--out", f"{split}.csv"], folder)
        assert status == 0
    status, *_ = call(["evaluate", "calibration.csv", "data", "--out", "report", "--coverage", "0.5",
                       "--calibrate", "calibrated.safetensors"], folder)
    assert status == 0
    table = (folder / "calibration.csv").read_text().splitlines()
    first = table[1].split(",")
    for name, word in (("letters", "abc"), ("infinite", "inf"), ("comma", '"1,5"'), ("absurd", "-700")):
        row = ",".join([*first[:3], word, *first[4:]])
        (folder / f"{name}.csv").write_text("\n".join([table[0], row, *table[2:]]) + "\n")
    (folder / "twice.csv").write_text("\n".join([*table, table[1]]) + "\n")
    return folder


def call(words: list[str], folder: Path) -> tuple[int, str, str]:
    """Status, output and errors of a command, which ends the tests if it hangs."""
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    try:
        done = bonexage(*words, cwd=folder)
    finally:
        faulthandler.cancel_dump_traceback_later()
    return done.returncode, done.stdout, done.stderr


def made_up(number: int) -> tuple[list[str], bool]:
    """Call `number`, and whether all of its words are good."""
    dice = random.Random(number)
    name = dice.choices(list(COMMANDS), [command.weight for command in COMMANDS.values()])[0]
    command = COMMANDS[name]
    slots: list[tuple[str | None, tuple[list[str], list[str]]]] = [(None, place) for place in command.places]
    chosen = [item for item in command.options.items() if dice.random() < 0.3]
    slots += [*command.always.items(), *chosen]
    spoilt = dice.choice([slot for slot in slots if slot[1][1]]) if dice.random() < 0.5 else None
    words = [name]
    for option, (good, bad) in slots:
        words += [option] if option else []
        if good or bad:
            words.append(dice.choice(bad if spoilt and spoilt == (option, (good, bad)) else good))
    if not spoilt and dice.random() < 0.1:
        return [*words, dice.choice(FLAW)], False
    return words, spoilt is None


def expected(words: list[str], good: bool) -> set[int]:
    """The statuses that may be: what several good words make of each other is looked at here."""
    if not good:
        if words[0] == "evaluate" and "--labels" in words and words[2] in ("films", "twice", "empty", "years"):
            return expected([*words[:2], "data", *words[3:]], True)  # a folder's own labels do not count then
        some = {"films", "--labels"} <= set(words)  # of the films that the table names, some are there
        return {0, 1, 2} if some and (words[0] == "stress" or "--drop-bad" in words) else {1, 2}
    if words[0] == "predict":
        if words[2] == "export" and "--sex" in words and words[words.index("--sex") + 1] in ("F", "female"):
            return {1}  # its films are of boys
        table = words[2] in ("data", "list.csv")  # with films of both sexes, of which --sex contradicts one
        brings_sex = table or words[2] == "export" or "--sex" in words or "--unknown-sex" in words
        named = words[2] == "data" if "--labels" in words else not (words[2] == "list.csv" and "--columns" in words)
        noted = {1} if "--strict" in words else set()  # a film may have a note
        return {0} | noted if brings_sex and named and not (table and "--sex" in words) else {1}
    if words[0] == "evaluate" and "--labels" in words and words[2] != "data":
        return {1}  # a table is its own
    if words[0] == "card" and "--report" in words and words[1] != "calibrated.safetensors":
        return {1}  # the report tells of intervals, which the other has not
    if words[0] == "evaluate" and "--against" in words:
        same = words[1] == words[words.index("--against") + 1]
        return {0} if same else {1}  # two splits have no film in common
    return {0}


def stamps(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What every file that is there must still be afterwards."""
    return {str(path): (about.st_size, about.st_mtime_ns, about.st_mode)
            for path in folder.rglob("*") for about in [path.lstat()]}


def outcome(words: list[str], folder: Path) -> str:
    """What is wrong with the files of a call that was done, or nothing."""
    out = folder / (words[words.index("--out") + 1] if "--out" in words else words[1])
    right = True
    if words[0] == "train":
        load_model(out / "model.safetensors")
    elif words[0] == "phantom":
        right = len(pd.read_csv(out / "ground_truth.csv")) == len(list((out / "boneage-training-dataset").iterdir()))
    elif words[0] == "card":
        sums = dict(line.split("  ")[::-1] for line in (out / "SHA256SUMS").read_text().splitlines())
        right = len(sums) == 3 and all(file_hash(out / name) == digest for name, digest in sums.items())
    elif words[0] == "evaluate":
        right = math.isfinite(json.loads((out / "metrics.json").read_text())["scores"]["mae"]["value"])
    elif words[0] == "stress":
        right = np.isfinite(pd.read_csv(out / "stress.csv")["mae"]).all()
    elif words[0] == "predict":
        table = pd.read_csv(out)
        age, given = table["bone_age_months"], table["low_months"].notna()
        right = (table["error"].notna() == age.isna()).all() and age.dropna().between(0, 240).all() and (
            (table["low_months"] <= age) & (age <= table["high_months"]))[given].all()
    return "" if right else f"done, but {out} is wrong"


def calls() -> Iterator[int]:
    """In portions, so that a long run shows where it is."""
    yield from range(FIRST, FIRST + CALLS, PORTION)


def wrong(words: list[str], good: bool, sandbox: Path) -> str:
    """What is wrong with how a call ended, or nothing; what it made is removed."""
    before = stamps(sandbox)
    status, said, complained = call(words, sandbox)
    after = stamps(sandbox)
    made = [Path(name) for name in after if name not in before]
    try:
        if status not in expected(words, good):
            return f"status {status}: {said}{complained}"
        if lost := [name for name, stamp in before.items() if after.get(name) != stamp and not Path(name).is_dir()]:
            return f"status {status}, but changed {lost}"
        if left := [path for path in made if path.name.endswith((".part", ".lock"))]:
            return f"status {status}, but left {left}"
        refused = status == 1 and words[0] != "check" and "films without a prediction" not in complained
        if refused and not (complained.startswith("bonexage: ") and complained.count("\n") == 1):
            return f"more than a line: {complained}"
        if refused and (left := [path for path in made if path.is_file() and path.parent.name != "last"]):
            return f"refused, but wrote {left}"
        return "" if status else outcome(words, sandbox)
    finally:
        for path in sorted(made, key=lambda path: -len(path.parts)):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.mark.parametrize("first", calls())
def test_any_call_is_done_or_refused_in_a_line(first: int, sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    wrongs = {}
    for number in range(first, min(first + PORTION, FIRST + CALLS)):
        words, good = made_up(number)
        if what := wrong(words, good, sandbox):
            wrongs[f"call {number}: {' '.join(words)!r}"[:300]] = what
    assert not wrongs, "\n".join(f"{words}\n    {what}" for words, what in wrongs.items())
