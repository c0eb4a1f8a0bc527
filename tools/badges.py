"""Dated badges of what the throw-away environments gave, on a branch of their own that README shows.

    python -m tools.badges

Reads build/environments/*.json (`tools.environments` leaves them), draws a picture of each, and pushes them to the
branch `badges` of `origin`, which holds nothing else. A badge that was not made this time stays as it is, with its
older date. Standard library only.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

from tools.environments import HOMES, ROOT

BRANCH = "badges"
LABELS = {"colab": "Colab", "newest": "newest releases", "oldest": "oldest releases"}
GOOD, BAD = "#1a7f37", "#b35900"  # told by the words, too
LETTER = 6.6  # px, about the width of a letter of 11 px


def badge(label: str, message: str, good: bool) -> str:
    """A small SVG picture: the label on grey, the message on green or orange, and both as its title."""
    left, right = (round(len(text) * LETTER) + 12 for text in (label, message))
    title = escape(f"{label}: {message}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" aria-label="{title}">'
        f"<title>{title}</title>"
        f'<rect width="{left}" height="20" fill="#444"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{GOOD if good else BAD}"/>'
        f'<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">'
        f'<text x="{left / 2}" y="14" textLength="{left - 12}">{escape(label)}</text>'
        f'<text x="{left + right / 2}" y="14" textLength="{right - 12}">{escape(message)}</text></g></svg>\n')


def draw(results: Path, into: Path) -> list[str]:
    """Draw a badge of each result in `results`; the names of the files."""
    names = []
    for path in sorted(results.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["name"] in LABELS:
            good = result["good"] == result["of"]
            message = f"{result['date']}, Python {result['python']}: {result['good']} of {result['of']} passed"
            (into / f"{path.stem}.svg").write_text(badge(LABELS[result["name"]], message, good), encoding="utf-8")
            names.append(f"{path.stem}.svg")
    return names


def push(results: Path = HOMES, checkout: Path = ROOT) -> int:
    """Put the badges on the branch and push it; the exit status."""
    def git(*arguments: str, where: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *arguments], cwd=where, capture_output=True, text=True, check=False)

    with tempfile.TemporaryDirectory(prefix="bonexage-badges-") as folder:
        branch = Path(folder) / "branch"
        there = git("fetch", "origin", f"+{BRANCH}:refs/badges", where=checkout).returncode == 0
        git("worktree", "add", "--detach", str(branch), *(["refs/badges"] if there else []), where=checkout)
        try:
            if not there:
                git("checkout", "--orphan", BRANCH, where=branch)
                git("rm", "-rfq", ".", where=branch)
            names = draw(results, branch)
            if not names:
                print(f"error: no result in {results}; run `make colab`, `make oldest` or `make newest` first",
                      file=sys.stderr)
                return 2
            git("add", *names, where=branch)
            author = ("-c", "user.name=BoneXage", "-c", "user.email=badges@localhost")
            done = git(*author, "commit", "--quiet", "-m", "Badges", where=branch)
            if done.returncode == 0:
                done = git("push", "origin", f"HEAD:refs/heads/{BRANCH}", where=branch)
            elif "nothing to commit" in done.stdout:
                print("badges: as they were")
                return 0
            if done.returncode:
                print(f"error: the badges were not pushed: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                return 1
            print(f"badges: {', '.join(names)} on branch {BRANCH}")
            return 0
        finally:
            git("worktree", "remove", "--force", str(branch), where=checkout)
            shutil.rmtree(branch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(push())
