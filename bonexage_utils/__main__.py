"""The command line: `bonexage …` or `python -m bonexage_utils …`."""

import math
import os
import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bonexage_utils import terminal
from bonexage_utils.errors import BoneXageError, printable
from bonexage_utils.files import check_outputs

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
    data: Annotated[Path, typer.Argument(help="A folder in the RSNA layout.")],
    out: Annotated[Path | None, typer.Option(help="Folder for findings.csv and findings.png.")] = None,
) -> None:
    """Load a cohort, look at every film, and list what is wrong or odd. Changes nothing.

    Exit status: 0 usable (there may be notes), 1 faults found, 2 not a cohort, or its labels are refused.

    Example: bonexage check data/rsna --out findings
    """
    from bonexage_utils.checks import audit
    from bonexage_utils.cohort import load_cohort
    from bonexage_utils.labels import KNOWN_LABELS

    try:
        cohort = load_cohort(data)
    except BoneXageError as error:
        typer.echo(f"bonexage: {error}", err=True)
        raise typer.Exit(2) from None
    if out:
        check_outputs(audit.outputs(out), cohort.files)
    typer.echo(repr(cohort))
    typer.echo(audit.balance(cohort).to_string(index=False, float_format=lambda x: f"{x:.2f}"))
    for name, digest in cohort.label_hashes.items():
        typer.echo(f"{name}: SHA-256 {digest}, {KNOWN_LABELS.get(digest, 'not a table known here')}")
    findings = audit.audit(cohort)
    if len(findings):
        typer.echo("\n" + audit.summary(findings).to_string(index=False))
        typer.echo("\n" + audit.first_findings(findings).to_string(index=False, header=False))
    if out:
        audit.write_findings(findings, out)
    faults = int((findings["severity"] == audit.FAULT).sum())
    typer.echo(f"\n{faults:,} faults, {len(findings) - faults:,} notes" + (f"; see {out}" if out else ""))
    if faults:
        raise typer.Exit(1)


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="A folder in the RSNA layout.")],
    out: Annotated[Path, typer.Option(help="Folder of the run: model, log, settings, resumable state.")],
    backbone: Annotated[str, typer.Option(help="Any convolutional timm model.")] = "convnext_tiny",
    image_size: Annotated[int, typer.Option(min=32, help="Side of the letterboxed film, px.")] = 512,
    epochs: Annotated[int, typer.Option(min=1)] = 35,
    batch_size: Annotated[int, typer.Option(min=1, help="Films per step, over all processes.")] = 16,
    grad_accum: Annotated[int, typer.Option(min=1, help="Steps per update.")] = 2,
    lr: Annotated[float, typer.Option(min=0, help="Peak learning rate.")] = 2e-4,
    max_age: Annotated[float, typer.Option(min=1, help="Upper bound of a bounded output, months.")] = 240.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    precision: Annotated[Precision, typer.Option(help="auto: bf16 where native, fp16 on older GPUs.")] = Precision.auto,
    weights: Annotated[Weights, typer.Option(help="phantom: shipped with the package.")] = Weights.imagenet,
    pooling: Annotated[Pooling, typer.Option()] = Pooling.gem,
    sex: Annotated[bool, typer.Option("--sex/--no-sex", help="Whether the sex is an input of the network.")] = True,
    output: Annotated[Output, typer.Option()] = Output.bounded,
    loss: Annotated[Loss, typer.Option()] = Loss.smoothl1,
    workers: Annotated[int, typer.Option(min=0, help="Loader processes; 0 is enough for cached films.")] = 0,
    drop_bad: Annotated[bool, typer.Option("--drop-bad", help="Go on without films that cannot be read.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in OUT stopped.")] = False,
) -> None:
    """Train on a cohort's train split; keep the model that is best on its selection split.

    Example: bonexage train data/rsna --out checkpoints/tiny --backbone convnext_tiny --image-size 512
    """
    from bonexage_utils.cohort import load_cohort
    from bonexage_utils.settings import TrainConfig
    from bonexage_utils.training import train as run

    config = TrainConfig(
        backbone=backbone, image_size=image_size, epochs=epochs, batch_size=batch_size, grad_accum=grad_accum, lr=lr,
        max_age=max_age, seed=seed, precision=precision.value, weights=weights.value, pooling=pooling.value, sex=sex,
        output=output.value, loss=loss.value, workers=workers,
    )

    def report(row: dict) -> None:
        typer.echo(f"epoch {row['epoch']:>3}/{epochs}  train {row['train_mae_months']:6.2f}  "
                   f"selection {row['selection_mae_months']:6.2f} months  {row['seconds']:5.0f} s")

    cohort = load_cohort(data)
    first = os.environ.get("RANK") in (None, "", "0")  # of several processes only one speaks
    if first:
        typer.echo(repr(cohort))
    best = run(cohort, out, config, resume=resume, drop_bad=drop_bad, on_epoch=report)
    if first:
        typer.echo(f"{best}")


@app.command()
def predict(
    checkpoint: Annotated[Path, typer.Argument(help="A model.safetensors written by train.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Images, folders, cohorts, lists.")],
    out: Annotated[Path, typer.Option(help="The table to write.")] = Path("predictions.csv"),
    sex: Annotated[str | None, typer.Option(help="M or F, for films whose sex is not given otherwise.")] = None,
    unknown_sex: Annotated[UnknownSex, typer.Option(help="error, or the mean over both sexes.")] = UnknownSex.error,
    split: Annotated[Split | None, typer.Option(help="Only this split of a cohort folder.")] = None,
    tta: Annotated[bool, typer.Option("--tta", help="Mean over nine slightly moved views; nine times slower.")] = False,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    strict: Annotated[bool, typer.Option("--strict", help="No age for a film with a note, such as: turned.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Leave out films that OUT has a prediction for.")] = False,
) -> None:
    """Estimate bone ages. Every film keeps its row; a film that fails says why in the column `error`. One that gets an
    age, though it is odd (inverted, turned, mirrored or a right hand, two hands, unlike the training films), has a
    `note`.

    Example: bonexage predict checkpoints/tiny/model.safetensors hand.png --sex F
    """
    from bonexage_utils.inputs import list_films
    from bonexage_utils.notes import count_notes
    from bonexage_utils.prediction import Predictor, outputs, predict_to_file

    table, description = outputs(out)
    check_outputs([table, description], [checkpoint, *inputs])
    predictor = Predictor(checkpoint, unknown_sex=unknown_sex.value, tta=tta, strict=strict)
    films = list_films(inputs, sex, split.value if split else None)
    predictions = predict_to_file(predictor, films, out, batch_size, resume,
                                  tell=lambda line: typer.echo(f"bonexage: {line}", err=True))
    good = predictions[predictions["error"] == ""]
    if len(predictions) <= 20:
        for row in good.itertuples():
            interval = "" if math.isnan(row.low_months) else (
                f", {predictor.calibration.coverage:.0%} interval {row.low_months:.0f}–{row.high_months:.0f}")
            note = f"; note: {row.note}" if row.note else ""
            typer.echo(f"{printable(row.image)}: {row.bone_age} ({row.bone_age_months:.1f} months){interval}{note}")
    typer.echo(f"{out}: {len(good):,} of {len(predictions):,} films", err=True)
    bare = int(good["low_months"].isna().sum())
    if bare and predictor.description["calibration"]:
        typer.echo(f"bonexage: {bare:,} predictions without an interval: {predictor.no_interval}", err=True)
    if counts := count_notes(predictions["note"]):
        kinds = ", ".join(f"{note} {count:,}" for note, count in counts.items())
        typer.echo(f"bonexage: {int(predictions['note'].ne('').sum()):,} films have a note: {kinds}", err=True)
    if len(good) < len(predictions):
        bad = predictions[predictions["error"] != ""]
        typer.echo(f"bonexage: {len(bad):,} films without a prediction, e.g. {bad['error'].iloc[0]}", err=True)
        raise typer.Exit(1)


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Argument(help="A predictions.csv.")],
    labels: Annotated[Path, typer.Argument(help="The cohort's folder, or its label table.")],
    out: Annotated[Path, typer.Option(help="Folder for the report; a stress.csv in it is shown.")],
    against: Annotated[Path | None, typer.Option(help="Another model's predictions.csv of the same films.")] = None,
    calibrate: Annotated[Path | None, typer.Option(help="Checkpoint to write prediction intervals into.")] = None,
    coverage: Annotated[float, typer.Option(help="Share of new films that an interval is to hold.")] = 0.9,
) -> None:
    """Compare predictions with labels: report.html, model_card.md, metrics.json, groups.csv and figures.

    With --calibrate, learn from these films how large the error of a prediction may be; `predict` then gives each
    an interval. It takes films that the network was neither trained nor selected on.

    Example: bonexage evaluate predictions.csv data/rsna --out report --calibrate checkpoints/tiny/model.safetensors
    """
    from bonexage_utils import calibration as intervals
    from bonexage_utils import evaluation
    from bonexage_utils.phantom.dataset import read_noise_floor
    from bonexage_utils.report import headline, outputs, write_report
    from bonexage_utils.statistics import SMALLEST_GROUP

    intervals.check_coverage(coverage)
    tables = [table for table in (predictions, against) if table]
    beside = [table.parent / f"{table.stem}.json" for table in tables]  # `with_suffix` takes no "" and no "."
    read = [*tables, *beside, *([calibrate] if calibrate else [])]
    check_outputs(outputs(out), read)
    (table, provenance), *others = map(evaluation.read_predicted, tables)
    truth = evaluation.read_truth(labels)
    check_outputs(outputs(out), truth.files)
    medians = provenance.get("training", {}).get("median_months_by_sex")
    result = evaluation.evaluate(table, truth.table, medians, read_noise_floor(labels))
    comparison = evaluation.compare(result, evaluation.evaluate(others[0][0], truth.table)) if others else None
    if calibrate:
        fitted = intervals.fit_checkpoint(calibrate, result.films, provenance, truth.label_hashes, coverage)
        held = intervals.cross_validated(result.films, fitted)
    else:
        fitted = intervals.Calibration.from_description(provenance)
        held = intervals.measured(result.films, fitted)
    page = write_report(result, out, provenance, held, fitted, comparison)
    if calibrate:  # last: a report that cannot be written leaves the checkpoint as it was
        intervals.calibrate_checkpoint(calibrate, fitted, provenance)
    typer.echo(headline(result))
    if result.of_another_sex:
        typer.echo(f"{result.of_another_sex:,} films were predicted with another sex than their label's")
    if comparison:
        typer.echo(f"MAE minus that of {against}: {comparison.difference} months on {comparison.n:,} films")
    if held and held.table["n"].iloc[-1] >= SMALLEST_GROUP:
        share = held.table["coverage"].iloc[-1]
        typer.echo(f"{share:.1%} of labels inside their {held.wanted:.0%} interval ({held.films})")
    typer.echo(f"{page}")


@app.command()
def stress(
    checkpoint: Annotated[Path, typer.Argument(help="A model.safetensors written by train.")],
    data: Annotated[Path, typer.Argument(help="A folder in the RSNA layout.")],
    out: Annotated[Path, typer.Option(help="Folder for the table and the figure.")],
    split: Annotated[Split | None, typer.Option(help="test, or calibration where that has no labels.")] = None,
    tta: Annotated[bool, typer.Option("--tta", help="As predict does; nine times slower.")] = False,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
) -> None:
    """Turn, flip, brighten, invert, mark and coarsen every film: stress.csv, stress.png, stress.json.

    Example: bonexage stress checkpoints/tiny/model.safetensors data/rsna --out report
    """
    from bonexage_utils.checks.stress import outputs
    from bonexage_utils.checks.stress import stress as run
    from bonexage_utils.cohort import load_cohort
    from bonexage_utils.prediction import Predictor

    cohort = load_cohort(data)
    check_outputs(outputs(out), [checkpoint, *cohort.files])
    table, summary = run(Predictor(checkpoint, tta=tta), cohort, out, split.value if split else None, batch_size)
    typer.echo(table.drop(columns="unit").to_string(index=False, float_format=lambda x: f"{x:.2f}"))
    typer.echo(f"{summary}\n{out / 'stress.png'}")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A model.safetensors written by train.")],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")] = Path("model.onnx"),
) -> None:
    """Write a checkpoint as ONNX, compared with PyTorch first. The preprocessing it needs is in its metadata.

    Example: bonexage export checkpoints/tiny/model.safetensors --out model.onnx
    """
    from bonexage_utils.export import export_onnx

    check_outputs([out], [checkpoint])
    difference = export_onnx(checkpoint, out)
    typer.echo(f"{out}: at most {difference:.4f} months from PyTorch")


def main() -> None:
    """Run a command; what a user can put right ends in one line and status 1 (a wrong call: 2), never a traceback.

    Anything else ends in one line too, and status 70 (see `terminal.unforeseen`).
    """
    terminal.prepare()
    status = 0
    try:
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
