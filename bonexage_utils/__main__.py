"""The command line: `bonexage …` or `python -m bonexage_utils …`."""

import math
import os
import re
import sys
from collections.abc import Iterable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bonexage_utils import __version__, terminal
from bonexage_utils.errors import BoneXageError, decoders_wanted, printable
from bonexage_utils.files import check_outputs
from bonexage_utils.settings import DEVICES

if TYPE_CHECKING:
    from bonexage_utils.cohort import Cohort

# Each command imports what it needs: `--help` should not wait for torch.
app = typer.Typer(
    help="Bone age from hand radiographs: train, predict, evaluate. Not a medical device.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
)

# Lower-case names are their own values.
Precision = StrEnum("Precision", ["auto", "fp32", "bf16", "fp16"])
Weights = StrEnum("Weights", ["imagenet", "phantom", "none"])
Pooling = StrEnum("Pooling", ["gem", "avg", "max"])
Output = StrEnum("Output", ["bounded", "linear"])
Loss = StrEnum("Loss", ["smoothl1", "l1", "mse"])
UnknownSex = StrEnum("UnknownSex", ["error", "mean"])
Site = StrEnum("Site", {"A": "A", "B": "B"})
Split = StrEnum("Split", ["train", "selection", "calibration", "test"])
Workers = Annotated[int | None, typer.Option(min=1, max=256, help="Threads that read films; one per core if left out.")]


# What a split is for, told where it is empty.
PURPOSES = {"calibration": "no intervals can be learned", "test": "nothing is left to judge the network and them on"}


def _warn_of_empty(cohort: "Cohort", *splits: str) -> None:
    for name in cohort.without_labels(*splits):
        typer.echo(f"bonexage: no labelled film in split {name} of {cohort.name}: {PURPOSES[name]}", err=True)


def _known_device(name: str) -> str:
    if not DEVICES.fullmatch(name):
        raise typer.BadParameter(f"'{name}' is none; give auto, cpu, cuda, cuda:N, mps …")
    return name


Device = Annotated[str, typer.Option(callback=_known_device, help="auto (the first GPU, else cpu), cpu, cuda:N …")]


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bonexage {__version__}")
        raise typer.Exit


@app.callback()
def _program(version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version.")] = False,
) -> None:
    pass

# What a user says of her tables, alike in every command that reads labels.
Labels = Annotated[str | None, typer.Option(metavar="FILE", help="Label table of the films in the folder: CSV, .xlsx.")]
Columns = Annotated[str | None, typer.Option(
    metavar="KIND=NAME,...", help="What your columns are called; KIND is id, months, years, sex, in lists image.")]
SexCodes = Annotated[str | None, typer.Option(
    metavar="CODE=SEX,...", help="What codes of the sex mean, as in 0=F,1=M; U is unknown.")]


@app.command()
def download(out: Annotated[Path, typer.Option(help="Folder for the data set.")] = Path("data")) -> None:
    """Get the RSNA data set (10 GB) from Kaggle with kagglehub and check it, or print how to get it by hand.

    Example: bonexage download --out data
    """
    from bonexage_utils import download as kaggle

    try:
        cohort = kaggle.download(out)
    except BoneXageError:
        typer.echo(kaggle.BY_HAND.format(out=out))
        raise
    typer.echo(repr(cohort))


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to make; it must not exist or be empty.")],
    n: Annotated[int, typer.Option("--n", min=1, help="How many films.")] = 2400,
    seed: Annotated[int, typer.Option(min=0, help="Film k depends on the seed and k alone.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core if left out.")] = None,
    site: Annotated[Site, typer.Option(help="A: like the RSNA films. B: another scanner, another reader.")] = Site.A,
    faults: Annotated[int, typer.Option(min=0, help="Films to spoil, listed in planted_faults.csv.")] = 0,
    shortcut: Annotated[bool, typer.Option("--shortcut", help="Plant a marker that gives the age away.")] = False,
    masks: Annotated[bool, typer.Option("--masks", help="Also write where every bone and centre lies.")] = False,
) -> None:
    """Make a cohort of simulated hand radiographs.

    Example: bonexage phantom data/phantom-2400 --n 2400 --seed 0
    """
    from bonexage_utils.phantom import write_cohort
    from bonexage_utils.phantom.dataset import read_noise_floor
    from bonexage_utils.phantom.faults import plant_faults

    if faults > n // 3:  # before drawing them: the rest has to serve as copies, and some films cannot be spoiled
        raise BoneXageError(f"--faults {faults}: at most every third of the {n} films")
    spoil = partial(plant_faults, n=faults, seed=seed) if faults else None
    write_cohort(out, n, seed, workers, site.value, shortcut, masks, finish=spoil)
    typer.echo(f"{out}: {n:,} films; what is known of each bone is in ground_truth.csv")
    typer.echo(f"noise floor {read_noise_floor(out):.2f} months: the MAE of the true bone age against the labels")


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="A folder in the RSNA layout, or with a label table.")],
    out: Annotated[Path | None, typer.Option(help="Folder for findings.csv and findings.png.")] = None,
    labels: Labels = None, columns: Columns = None, sex_codes: SexCodes = None,
    workers: Workers = None,
) -> None:
    """Load a cohort, look at every film, and list what is wrong or odd. Changes nothing.

    Exit status: 0 usable (there may be notes), 1 faults found, 2 not a cohort, or its labels are refused.

    Example: bonexage check data/rsna --out findings
    Or: bonexage check films --labels ages.xlsx --columns id=Film,months=Age,sex=Gender --sex-codes 1=M,2=F
    """
    from bonexage_utils.checks import audit
    from bonexage_utils.cohort import load_cohort
    from bonexage_utils.labels import KNOWN_LABELS, TableFormat

    try:
        cohort = load_cohort(data, labels, TableFormat.parse(columns, sex_codes), _tell)
    except BoneXageError as error:
        typer.echo(f"bonexage: {error}", err=True)
        raise typer.Exit(2) from None
    if out:
        check_outputs(audit.outputs(out), cohort.files)
    typer.echo(repr(cohort))
    typer.echo(audit.balance(cohort).to_string(index=False, float_format=lambda x: f"{x:.2f}"))
    for name, digest in cohort.label_hashes.items():
        typer.echo(f"{name}: SHA-256 {digest}, {KNOWN_LABELS.get(digest, 'not a table known here')}")
    findings = audit.audit(cohort, workers)
    if len(findings):
        typer.echo("\n" + audit.summary(findings).to_string(index=False))
        typer.echo("\n" + audit.first_findings(findings).to_string(index=False, header=False))
    _tell_decoders(findings["detail"])
    if out:
        audit.write_findings(findings, out)
    faults = int((findings["severity"] == audit.FAULT).sum())
    typer.echo(f"\n{faults:,} faults, {len(findings) - faults:,} notes" + (f"; see {out}" if out else ""))
    if faults:
        raise typer.Exit(1)


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="A folder in the RSNA layout, or with a label table.")],
    out: Annotated[Path, typer.Option(help="Folder of the run: model, log, settings, resumable state.")],
    backbone: Annotated[str, typer.Option(help="Any convolutional timm model.")] = "convnext_tiny",
    image_size: Annotated[int, typer.Option(min=32, help="Side of the letterboxed film, px.")] = 512,
    epochs: Annotated[int, typer.Option(min=1)] = 35,
    batch_size: Annotated[int, typer.Option(min=1, help="Films per step, over all processes.")] = 16,
    grad_accum: Annotated[int, typer.Option(min=1, help="Steps per update.")] = 2,
    lr: Annotated[float, typer.Option(min=0, help="Peak learning rate.")] = 2e-4,
    max_age: Annotated[float, typer.Option(min=1, help="Upper bound of a bounded output, months.")] = 240.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    precision: Annotated[Precision, typer.Option(help="auto: fp32; on GPUs bf16, or fp16.")] = Precision.auto,
    tf32: Annotated[bool, typer.Option("--tf32", help="On a GPU, multiply fp32 at 10 bits: faster.")] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Let torch compile the network first.")] = False,
    weights: Annotated[Weights, typer.Option(help="phantom: shipped with the package.")] = Weights.imagenet,
    pooling: Annotated[Pooling, typer.Option()] = Pooling.gem,
    sex: Annotated[bool, typer.Option("--sex/--no-sex", help="Whether the sex is an input of the network.")] = True,
    output: Annotated[Output, typer.Option()] = Output.bounded,
    loss: Annotated[Loss, typer.Option()] = Loss.smoothl1,
    device: Device = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes, and threads that read films anew.")] = 0,
    drop_bad: Annotated[bool, typer.Option("--drop-bad", help="Go on without films that cannot be read.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in OUT stopped.")] = False,
    labels: Labels = None, columns: Columns = None, sex_codes: SexCodes = None,
) -> None:
    """Train on a cohort's train split; keep the model that is best on its selection split.

    Example: bonexage train data/rsna --out checkpoints/tiny --backbone convnext_tiny --image-size 512
    """
    from bonexage_utils.cohort import load_cohort
    from bonexage_utils.devices import choose_device
    from bonexage_utils.evaluation import median_by_sex
    from bonexage_utils.figures import SEX_NAME
    from bonexage_utils.labels import TableFormat
    from bonexage_utils.settings import TrainConfig
    from bonexage_utils.tables import read_table
    from bonexage_utils.training import train as run

    if device != "auto":
        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise BoneXageError(f"--device {device}: for one process; several get a device each, so leave it out")
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(choose_device(device))  # Accelerate's word for it
    config = TrainConfig(
        backbone=backbone, image_size=image_size, epochs=epochs, batch_size=batch_size, grad_accum=grad_accum, lr=lr,
        max_age=max_age, seed=seed, precision=precision.value, tf32=tf32, compile=compile, weights=weights.value,
        pooling=pooling.value, sex=sex, output=output.value, loss=loss.value, workers=workers,
    )

    def report(row: dict) -> None:
        if row["epoch"] == 1:  # not before: a cohort that is refused is refused in one line
            _warn_of_empty(cohort, "calibration", "test")
        typer.echo(f"epoch {row['epoch']:>3}/{epochs}  train {row['train_mae_months']:6.2f}  "
                   f"selection {row['selection_mae_months']:6.2f} months  {row['seconds']:5.0f} s")

    first = os.environ.get("RANK") in (None, "", "0")  # of several processes only one speaks
    cohort = load_cohort(data, labels, TableFormat.parse(columns, sex_codes), _tell if first else lambda line: None)
    if first:
        medians = median_by_sex(cohort.split("train").dropna(subset="months"))
        told = ", ".join(f"{SEX_NAME[sex]} {months:.0f}" for sex, months in medians.items())
        typer.echo(f"{cohort!r}; median label of the training films, months: {told or 'none'}")
    best = run(cohort, out, config, resume=resume, drop_bad=drop_bad, on_epoch=report)
    if first:
        typer.echo(f"{best}")
        if drop_bad and (out / "dropped.csv").is_file():
            reasons = read_table(out / "dropped.csv")["reason"]
            _tell(f"{len(reasons):,} films left out; {out / 'dropped.csv'} says why")
            _tell_decoders(reasons)


@app.command()
def predict(
    checkpoint: Annotated[Path, typer.Argument(help="A model.safetensors written by train.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Images, folders, cohorts, lists.")],
    out: Annotated[Path, typer.Option(help="The table to write.")] = Path("predictions.csv"),
    sex: Annotated[str | None, typer.Option(help="M or F, where neither a table nor a DICOM says it.")] = None,
    unknown_sex: Annotated[UnknownSex, typer.Option(help="error, or the mean over both sexes.")] = UnknownSex.error,
    split: Annotated[Split | None, typer.Option(help="Only this split of a cohort folder.")] = None,
    tta: Annotated[bool, typer.Option("--tta", help="Mean over nine slightly moved views; nine times slower.")] = False,
    header: Annotated[bool, typer.Option("--header", help="Add what DICOM tags say: sex, side, age, view.")] = False,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    workers: Workers = None,
    device: Device = "auto",
    strict: Annotated[bool, typer.Option("--strict", help="No age for a film with a note, such as: turned.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Leave out films that OUT has a prediction for.")] = False,
    labels: Labels = None, columns: Columns = None, sex_codes: SexCodes = None,
) -> None:
    """Estimate bone ages. Every film keeps its row; a film that fails says why in the column `error`. One that gets an
    age, though it is odd (inverted, turned, mirrored or a right hand, two hands, unlike the training films), has a
    `note`.

    Example: bonexage predict checkpoints/tiny/model.safetensors hand.png --sex F
    """
    from bonexage_utils.inputs import list_films
    from bonexage_utils.labels import TableFormat
    from bonexage_utils.notes import count_notes
    from bonexage_utils.prediction_table import HANDFUL, all_fail, outputs, save_failures
    from bonexage_utils.tensor_files import read_contents

    # First all that can be refused without torch, whose import takes seconds.
    tables = TableFormat.parse(columns, sex_codes)
    check_outputs(outputs(out), [checkpoint, *inputs, *filter(None, [labels])])
    model = read_contents(checkpoint)[0].get("model")
    films = list_films(inputs, sex, split.value if split else None, labels, tables, header, _tell)
    needs_sex = isinstance(model, dict) and model.get("use_sex") is True and unknown_sex == UnknownSex.error
    predictions = None if resume else all_fail(films, needs_sex)
    if predictions is not None:
        save_failures(predictions, out)
    else:
        from bonexage_utils.prediction import Predictor, predict_to_file

        predictor = Predictor(checkpoint, device, unknown_sex.value, tta, strict)
        predictions = predict_to_file(predictor, films, out, batch_size, resume, _tell, workers)
    good = predictions[predictions["error"] == ""]
    if len(predictions) <= HANDFUL:
        for row in good.itertuples():
            interval = "" if math.isnan(row.low_months) else (
                f", {predictor.calibration.coverage:.0%} interval {row.low_months:.0f}–{row.high_months:.0f}")
            note = f"; note: {row.note}" if row.note else ""
            typer.echo(f"{printable(row.image)}: {row.bone_age} ({row.bone_age_months:.1f} months){interval}{note}")
    typer.echo(f"{out}: {len(good):,} of {len(predictions):,} films", err=True)
    bare = int(good["low_months"].isna().sum())
    if bare and predictor.description["calibration"]:
        typer.echo(f"bonexage: {bare:,} predictions without an interval: {predictor.no_interval}", err=True)
    if len(good) and not predictor.model.familiarity:
        _tell("this checkpoint cannot tell films that are unlike those it knows; 'bonexage evaluate --calibrate' on 99 "
              "films or more teaches it")
    if counts := count_notes(predictions["note"]):
        kinds = ", ".join(f"{note} {count:,}" for note, count in counts.items())
        _tell(f"{int(predictions['note'].ne('').sum()):,} films have a note: {kinds}")
    if len(good) < len(predictions):
        bad = predictions[predictions["error"] != ""]
        _tell(f"{len(bad):,} films without a prediction, e.g. {bad['error'].iloc[0]}")
        _tell_decoders(bad["error"])
        raise typer.Exit(1)


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Argument(help="A predictions.csv.")],
    truth: Annotated[Path, typer.Argument(metavar="LABELS", help="The cohort's folder, or its label table.")],
    out: Annotated[Path, typer.Option(help="Folder for the report; a stress.csv in it is shown.")],
    against: Annotated[Path | None, typer.Option(help="Another model's predictions.csv of the same films.")] = None,
    calibrate: Annotated[Path | None, typer.Option(help="Checkpoint to write prediction intervals into.")] = None,
    coverage: Annotated[float, typer.Option(help="Share of new films that an interval is to hold.")] = 0.9,
    labels: Labels = None, columns: Columns = None, sex_codes: SexCodes = None,
    films: Annotated[bool, typer.Option("--films/--no-films", help="Show the films with the largest errors.")] = True,
    workers: Workers = None,
) -> None:
    """Compare predictions with labels: report.html, model_card.md, metrics.json, groups.csv and figures.

    With --calibrate, learn from these films how large the error of a prediction may be, and what the network usually
    sees; `predict` then gives each an interval, and a note to films that are unlike these. It takes films that the
    network was neither trained nor selected on.

    Example: bonexage evaluate predictions.csv data/rsna --out report --calibrate checkpoints/tiny/model.safetensors
    """
    from bonexage_utils import calibration as intervals
    from bonexage_utils import evaluation
    from bonexage_utils.labels import TableFormat
    from bonexage_utils.phantom.dataset import read_noise_floor
    from bonexage_utils.report import headline, outputs, write_report
    from bonexage_utils.statistics import SMALLEST_GROUP

    intervals.check_coverage(coverage)
    tables = [table for table in (predictions, against) if table]
    beside = [table.parent / f"{table.stem}.json" for table in tables]  # `with_suffix` takes no "" and no "."
    read = [*tables, *beside, *([calibrate] if calibrate else [])]
    check_outputs(outputs(out), read)
    (table, provenance), *others = map(evaluation.read_predicted, tables)
    cohort = evaluation.read_truth(truth, labels, TableFormat.parse(columns, sex_codes), _tell)
    check_outputs(outputs(out), cohort.files)
    medians = provenance.get("training", {}).get("median_months_by_sex")
    result = evaluation.evaluate(table, cohort.table, medians, read_noise_floor(truth), _tell, workers)
    for other, _ in others:
        evaluation.check_same_films(table, other)
    others = [evaluation.evaluate(other, cohort.table, tell=_tell, workers=workers) for other, _ in others]
    comparison = evaluation.compare(result, others[0]) if others else None
    if calibrate:
        fitted = intervals.fit_checkpoint(calibrate, result.films, provenance, cohort.label_hashes, coverage, workers)
        held = intervals.cross_validated(result.films, fitted)
        familiarity = intervals.learn_familiarity(calibrate, result.films)
    else:
        fitted = intervals.Calibration.from_description(provenance)
        held = intervals.measured(result.films, fitted)
    page = write_report(result, out, provenance, held, fitted, comparison, films)
    if calibrate:  # last: a report that cannot be written leaves the checkpoint as it was
        intervals.calibrate_checkpoint(calibrate, fitted, familiarity, provenance)
        if not familiarity:
            typer.echo("too few films to tell later ones that are unlike them; it takes 99", err=True)
    typer.echo(headline(result))
    if result.of_unknown_sex and provenance.get("model", {}).get("use_sex", True):
        typer.echo(f"{result.of_unknown_sex:,} films were predicted without their sex being known")
    if calibrate:
        _warn_of_empty(cohort, "calibration", "test")
    if comparison:
        typer.echo(f"MAE minus that of {against}: {comparison.difference} months on {comparison.n:,} films")
    if held and held.table["n"].iloc[-1] >= SMALLEST_GROUP:
        share = held.table["coverage"].iloc[-1]
        typer.echo(f"{share:.1%} of labels inside their {held.wanted:.0%} interval ({held.films})")
    typer.echo(f"{page}")


@app.command()
def stress(
    checkpoint: Annotated[Path, typer.Argument(help="A model.safetensors written by train.")],
    data: Annotated[Path, typer.Argument(help="A folder in the RSNA layout, or with a label table.")],
    out: Annotated[Path, typer.Option(help="Folder for the table and the figure.")],
    split: Annotated[Split | None, typer.Option(help="test, or calibration where that has no labels.")] = None,
    tta: Annotated[bool, typer.Option("--tta", help="As predict does; nine times slower.")] = False,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    labels: Labels = None, columns: Columns = None, sex_codes: SexCodes = None,
    workers: Workers = None,
    device: Device = "auto",
) -> None:
    """Turn, flip, brighten, invert, mark and coarsen every film: stress.csv, stress.png, stress.json.

    Example: bonexage stress checkpoints/tiny/model.safetensors data/rsna --out report
    """
    from bonexage_utils.cohort import load_cohort
    from bonexage_utils.labels import TableFormat
    from bonexage_utils.tensor_files import read_contents

    read_contents(checkpoint)
    cohort = load_cohort(data, labels, TableFormat.parse(columns, sex_codes), _tell)

    from bonexage_utils.checks.stress import outputs
    from bonexage_utils.checks.stress import stress as run
    from bonexage_utils.prediction import Predictor

    check_outputs(outputs(out), [checkpoint, *cohort.files])
    predictor = Predictor(checkpoint, device, tta=tta)
    table, summary = run(predictor, cohort, out, split.value if split else None, batch_size, workers)
    typer.echo(table.drop(columns="unit").to_string(index=False, float_format=lambda x: f"{x:.2f}"))
    typer.echo(f"{summary}\n{out / 'stress.png'}")
    if split is None:
        _warn_of_empty(cohort, "test")


@app.command()
def card(
    checkpoint: Annotated[Path, typer.Argument(help="A model.safetensors written by train.")],
    out: Annotated[Path, typer.Option(help="Folder to make; it must not exist or be empty.")],
    report: Annotated[Path | None, typer.Option(help="Folder of an evaluation of this network, for its card.")] = None,
    license: Annotated[str | None, typer.Option(help="As hubs name it: mit, apache-2.0, cc-by-nc-4.0, other …")] = None,
) -> None:
    """Make a checkpoint ready to publish: weights, README.md (the model card), config.json and SHA256SUMS.

    Example: bonexage card checkpoints/tiny/model.safetensors --report report --license cc-by-nc-4.0 --out published
    """
    from bonexage_utils.tensor_files import read_contents

    read_contents(checkpoint)

    from bonexage_utils.report.publish import publish

    typer.echo(f"{publish(checkpoint, out, report, license)}: checked; see its README.md before you share it")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A model.safetensors written by train.")],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")] = Path("model.onnx"),
) -> None:
    """Write a checkpoint as ONNX, compared with PyTorch first. The preprocessing it needs is in its metadata.

    Example: bonexage export checkpoints/tiny/model.safetensors --out model.onnx
    """
    from bonexage_utils.tensor_files import read_contents

    check_outputs([out], [checkpoint])
    read_contents(checkpoint)

    from bonexage_utils.export import export_onnx

    difference = export_onnx(checkpoint, out)
    typer.echo(f"{out}: at most {difference:.4f} months from PyTorch")


def _tell(line: str) -> None:
    typer.echo(f"bonexage: {line}", err=True)


def _tell_decoders(reasons: Iterable[str]) -> None:
    """Of how many films the extra `dicom` would decode, if there are any."""
    if line := decoders_wanted(reasons):
        _tell(line)


def main() -> None:
    """Run a command; what a user can put right ends in one line and status 1 (a wrong call: 2), never a traceback.

    Anything else ends in one line too, and status 70 (see `terminal.unforeseen`).
    """
    terminal.prepare()
    status = 0
    try:
        # Of a shell variable that is not set. As a path it would be the working directory.
        if any(re.fullmatch("(--[a-z-]+=)?", argument) for argument in sys.argv[1:]):
            raise BoneXageError("an argument is empty; give a value, or leave the option out")
        app(prog_name="bonexage")
    except SystemExit as end:  # of a command that came to its end, well or not
        status = end.code if isinstance(end.code, int) else 1
    except BoneXageError as error:
        status = _complain(str(error))
    except OSError as error:  # no space, no permission, a folder where a file should be
        place = f"{error.filename}: " if error.filename else ""
        status = _complain(f"{place}{error.strerror or error}; free it or name another place")
    except Exception as error:
        status = _complain(terminal.unforeseen(sys.argv[1], error), terminal.UNFORESEEN)
    sys.stdout.flush()
    if sys.stdout.lost and not status:
        status = _complain(f"the terminal's output could not be written ({sys.stdout.failure}); files are whole")
    sys.exit(status)


def _complain(message: str, status: int = 1) -> int:
    typer.echo("bonexage: " + " ".join(message.splitlines()), err=True)
    return status


if __name__ == "__main__":
    main()
