"""Everything that the notebooks quote and do not measure themselves, in order of worth, into data/reference_runs.

    python -m tools.benchmarks.recorded_runs --list
    python -m tools.benchmarks.recorded_runs --budget 100                    what needs no films but the phantom's
    python -m tools.benchmarks.recorded_runs --budget 100 --real REAL        and what is said of real films
    python -m tools.benchmarks.recorded_runs --budget 20 --gpu --real REAL   on a GPU, at full size

REAL is a folder in the RSNA layout; --name says how the tables call its films. Each job is a script of its own beside
this one, and goes on where it was stopped: what stands in its table is not done again. Phantoms that a job needs and
that are not there are drawn first. When the budget is spent the job at hand is stopped, and the next call goes on.
"""

import argparse
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bonexage_utils.phantom.dataset import VERSION

ROOT = Path(__file__).resolve().parents[2]
PHANTOMS = Path("data") / f"phantom-2400-v{VERSION}"
MANY = Path("build") / "phantoms-4000"  # of another seed, to train on and then read real films
GRACE = 30  # seconds to write down what is done
# From random weights as at small size: it runs where no hub is reached.
FULL_SIZE = ("--size", 320, "--seconds", 20, "--backbones", "convnext_tiny", "resnet50", "tf_efficientnetv2_s")


@dataclass(frozen=True)
class Job:
    """One script with its words. `minutes`: for planning, on two quiet cores, or on a GPU where `gpu`."""

    name: str
    words: tuple[str, ...]
    minutes: float
    quoted_in: str
    real: bool = False
    gpu: bool = False
    one_core: bool = False  # two of these in a row run at the same time
    makes: Path | None = None  # what it leaves, if that is not a table: where it is there, the job is done

    def command(self, real: Path | None, name: str, out: Path) -> list[str]:
        """The command line, with REAL, NAME and OUT filled in."""
        words = list(self.words)
        for mark, value in (("REAL", real), ("NAME", name), ("OUT", out)):
            words = [word.replace(mark, str(value)) if word.startswith(mark) else word for word in words]
        return [sys.executable, *words]


def script(name: str, *words: object) -> tuple[str, ...]:
    return ("-m", f"tools.benchmarks.{name}", *map(str, words))


def phantoms(folder: Path, films: int, seed: int, minutes: float) -> Job:
    words = ("-m", "bonexage_utils", "phantom", str(folder), "--n", str(films), "--seed", str(seed))
    return Job(f"phantoms {folder.name}", words, minutes, "all", makes=folder)


JOBS = (
    phantoms(PHANTOMS, 2400, 0, 1),
    Job("claims, phantom", script("claims", PHANTOMS, "--name", "phantom", "--out", "OUT"), 8, "04, 05, 06"),
    Job("claims, real", script("claims", "REAL", "--name", "NAME", "--out", "OUT"), 8, "04, 05, 06", real=True),
    Job("bake-off, phantom", script("bakeoff", PHANTOMS, "--name", "phantom", "--out", "OUT"), 18, "10", one_core=True),
    Job("bake-off, real", script("bakeoff", "REAL", "--name", "NAME", "--out", "OUT"), 18, "10", real=True,
        one_core=True),
    Job("attribution by pooling", script("attribution_by_pooling", PHANTOMS, "--out", "OUT"), 10, "04, 08"),
    Job("precision", script("precision", PHANTOMS, "--out", "OUT"), 10, "07"),
    Job("transfer, few real films", script("transfer", "few", "REAL", "--films", 500, "--out", "OUT"), 20, "10",
        real=True),
    Job("transfer, own", script("transfer", "own", PHANTOMS, "--epochs", 8, "--seeds", 3, "--out", "OUT"), 20, "10"),
    phantoms(MANY, 4000, 2000, 2),
    Job("transfer, zero", script("transfer", "zero", MANY, "REAL", "--out", "OUT"), 12, "10", real=True),
    Job("precision, full size", script(
        "precision", PHANTOMS, "--size", 256, "--batch", 64, "--epochs", 20, "--seeds", 5, "--out", "OUT"), 5, "07",
        gpu=True),
    Job("bake-off, full size, phantom", script(
        "bakeoff", PHANTOMS, "--name", "phantom, full size", *FULL_SIZE, "--out", "OUT"), 7, "10", gpu=True),
    Job("bake-off, full size, real", script(
        "bakeoff", "REAL", "--name", "NAME, full size", *FULL_SIZE, "--out", "OUT"), 7, "10", real=True, gpu=True),
)


def chosen(real: bool, gpu: bool) -> list[Job]:
    """The jobs that can run with what is given, most worth first; those of a GPU before the others where there is."""
    able = [job for job in JOBS if (real or not job.real) and (gpu or not job.gpu)]
    wanted = [job for job in able if real or job.makes != MANY]  # drawn for real films alone
    first = [job for job in wanted if job.makes == PHANTOMS or job.gpu]
    return first + [job for job in wanted if job not in first] if gpu else wanted


def in_turns(jobs: list[Job]) -> list[list[Job]]:
    """The jobs in their order, two neighbours that take one core each together."""
    turns: list[list[Job]] = []
    for job in jobs:
        if turns and len(turns[-1]) == 1 and turns[-1][0].one_core and job.one_core:
            turns[-1].append(job)
        else:
            turns.append([job])
    return turns


def run(commands: list[list[str]], seconds: float) -> list[int | None]:
    """Run them at the same time: each one's exit status, None if it was stopped when `seconds` were over."""
    until = time.monotonic() + seconds
    processes = [subprocess.Popen(command, cwd=ROOT) for command in commands]
    try:
        return [_wait(process, until) for process in processes]
    except KeyboardInterrupt:  # the processes have got it, too
        for process in processes:
            process.wait()
        raise


def _wait(process: subprocess.Popen, until: float) -> int | None:
    try:
        return process.wait(timeout=max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # as Ctrl-C: what is done is in the table, the run at hand is lost
        try:
            process.wait(timeout=GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, help="a folder of real films in the RSNA layout")
    parser.add_argument("--name", default="rsna100", help="how the tables call them")
    parser.add_argument("--gpu", action="store_true", help="also the jobs at full size, first")
    parser.add_argument("--out", type=Path, default=Path("data/reference_runs"))
    parser.add_argument("--budget", type=float, default=100, help="minutes, of all together")
    parser.add_argument("--list", action="store_true", help="show the jobs in order, and run none")
    args = parser.parse_args()

    real = args.real.resolve() if args.real else None
    jobs = chosen(real is not None or args.list, args.gpu or args.list)
    if args.list:
        for job in jobs:
            needs = ", ".join(word for word, needed in (("real films", job.real), ("a GPU", job.gpu)) if needed)
            print(f"{job.minutes:4.0f} min  {job.name:29} notebooks {job.quoted_in:12} {needs}")
        return 0
    until, failed = time.monotonic() + 60 * args.budget, []
    turns = in_turns([job for job in jobs if not (job.makes and (ROOT / job.makes).is_dir())])
    for place, turn in enumerate(turns):
        left, names = until - time.monotonic(), " and ".join(job.name for job in turn)
        if left <= 0:
            print(f"budget spent; not begun: {', '.join(job.name for later in turns[place:] for job in later)}")
            break
        print(f"== {names}, about {max(job.minutes for job in turn):g} min, {left / 60:.0f} min left", flush=True)
        found = run([job.command(real, args.name, args.out.resolve()) for job in turn], left)
        failed += [job.name for job, status in zip(turn, found, strict=True) if status]
        if None in found:
            print(f"budget spent within {names}; call it again to go on")
            break
    if failed:
        print(f"failed: {', '.join(failed)}; see above")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
