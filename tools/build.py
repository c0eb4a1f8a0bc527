"""The notebook chain: sources → executed notebooks → checks → site.

    python -m tools.build execute --profile cpu --out build/course/notebooks
    python -m tools.build execute --profile cpu --save 03
    python -m tools.build check
    python -m tools.build pages --ledger build/notebooks
    python -m tools.build site --out build/course
    python -m tools.build workshop --out build/workshop
    python -m tools.build browser --site build/course --out build/browser
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from bonexage_utils.errors import BoneXageError
from tools import ledger
from tools.command import run_command
from tools.sources import find_sources


def execute(options: argparse.Namespace) -> int:
    """Run the notebooks from top to bottom, each in a fresh kernel."""
    from tools.execution import local_traces, run, save

    folder: Path = options.notebooks.resolve()
    sources = find_sources(folder, options.wanted)
    target = folder if options.save else options.out
    if not options.save and not options.wanted:
        for stale in target.glob("*.ipynb"):  # of a notebook that was renamed
            stale.unlink()
    rows = []
    for number, source in enumerate(sources, 1):
        print(f"[{number}/{len(sources)}] {source.stem} ({options.profile}) …", end=" ", flush=True)
        notebook, row = run(source, folder, options.profile, options.cell_timeout, options.strict)
        traces = local_traces(notebook)
        if traces and options.save and row.ok:
            row.result, row.error, row.cell = "failed", "\n".join(traces), "outputs tied to this machine"
        if row.ok or not options.save:  # the saved notebooks stay those that ran
            save(notebook, target / f"{source.stem}.ipynb")
        print(f"{row.result}, {row.seconds:.1f} s, {row.peak_mb} MB", flush=True)
        if not row.ok:
            print(f"    {row.cell}\n    " + row.error.replace("\n", "\n    "), file=sys.stderr)
        rows.append(row)
    ledger.write(rows, options.ledger)
    print("\n" + ledger.table(rows))
    return 0 if all(row.ok for row in rows) else 1


def check(options: argparse.Namespace) -> int:
    """Look at sources and saved notebooks, run nothing."""
    from tools.lint import lint_folder

    findings = lint_folder(options.notebooks)
    for finding in findings:
        print(finding)
    broken = sum(not finding.advice for finding in findings)
    print(f"{broken} to mend, {len(findings) - broken} to consider")
    return 1 if broken else 0


def pages(options: argparse.Namespace) -> int:
    """Write the tables of README.md and INSTRUCTORS.md anew."""
    from tools.pages import record_times, write_pages

    folder = options.notebooks.resolve().parent
    if options.ledger:
        rows = ledger.read(options.ledger)
        if not rows:
            raise BoneXageError(f"{options.ledger}: no ledger.json there; name the folder that a run has written into")
        record_times(rows, folder)
    for path in write_pages(folder):
        print(f"{path.name}: tables written anew")
    return 0


def site(options: argparse.Namespace) -> int:
    """Build the pages."""
    from tools.site import build_site

    executed = options.executed or options.out / "notebooks"
    if not options.executed and not any(executed.glob("*.ipynb")):
        executed = options.notebooks
    for line in build_site(executed, options.out, options.notebooks / "README.md", game=True):
        print(line, file=sys.stderr)
    print(f"site: {options.out / 'index.html'}")
    return 0


def workshop(options: argparse.Namespace) -> int:
    """Write copies of the core notebooks for a workshop."""
    from tools.workshop import make_copies, small_course

    for path in make_copies(options.notebooks, options.out, small_course()):
        print(path)
    return 0


def browser(options: argparse.Namespace) -> int:
    """Look at the pages as a reader's browser does."""
    from tools.browser import visit_site

    problems = visit_site(options.site, options.out)
    for line in problems:
        print(line, file=sys.stderr)
    print(f"{len(problems)} problems; screenshots in {options.out}")
    return 1 if problems else 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m tools.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(run: Callable[[argparse.Namespace], int], help_text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(run.__name__, help=help_text, description=run.__doc__)
        command.set_defaults(run=run)
        return command

    command = add(execute, "run notebooks, measure time and memory")
    command.add_argument("wanted", nargs="*", metavar="NN", help="numbers or names; all without")
    command.add_argument("--profile", choices=("fast", "cpu", "gpu"), default="cpu")
    command.add_argument("--save", action="store_true", help="write into the notebooks folder, if they ran")
    command.add_argument("--out", type=Path, default=Path("build/course/notebooks"), help="where else")
    command.add_argument("--ledger", type=Path, default=Path("build/course"), help="where the table goes")
    command.add_argument("--cell-timeout", type=int, metavar="SECONDS", help="give up on a cell")
    command.add_argument("--strict", action="store_true", help="what the course calls and is deprecated is an error")
    checking = add(check, "look at sources and saved notebooks, run nothing")
    tables = add(pages, "write the tables of README.md and INSTRUCTORS.md from what was recorded")
    tables.add_argument("--ledger", type=Path, help="take over the times that a run has left there")
    building = add(site, "build the browsable site")
    building.add_argument("--out", type=Path, default=Path("build/course"))
    building.add_argument("--executed", type=Path, help="OUT/notebooks, else the saved ones")
    copying = add(workshop, "copies of the core notebooks to learn from: no outputs, code filled in, decisions open")
    copying.add_argument("--out", type=Path, default=Path("build/workshop"))
    for each in (command, checking, tables, building, copying):
        each.add_argument("--notebooks", type=Path, default=Path("notebooks"), help="the notebooks folder")
    looking = add(browser, "open the site in Chromium, take screenshots, fail on errors")
    looking.add_argument("--site", type=Path, default=Path("build/course"))
    looking.add_argument("--out", type=Path, default=Path("build/browser"))
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; what the user can mend is one line, not a traceback."""
    return run_command(parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
