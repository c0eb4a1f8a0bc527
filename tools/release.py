"""Stamp a version, or a fork's address, wherever it stands.

    python -m tools.release --version 0.2.0
    python -m tools.release --address https://github.com/YOU/FORK

No notebook has to be executed again: only first cells change. Commit, tag and push are left to you, and printed.
"""

from __future__ import annotations

import argparse
import re
import runpy
import subprocess
import sys
from pathlib import Path

from bonexage_utils.errors import BoneXageError
from tools.command import run_command

ROOT = Path(__file__).resolve().parent.parent
HOST = "https://github.com"
TEXTS = {".cff", ".ipynb", ".md", ".py", ".toml"}


def stamped(root: Path) -> tuple[str, str]:
    """OWNER/NAME and the version that the checkout `root` carries now."""
    cell = runpy.run_path(str(root / "bonexage_utils" / "course" / "bootstrap.py"))
    return cell["ADDRESS"].removeprefix(f"{HOST}/"), cell["TAG"].removeprefix("v")


def stamp(root: Path, version: str = "", address: str = "") -> list[str]:
    """Write `version` (as 0.2.0) and `address` into the files of the checkout `root` that git knows, an empty one stays
    as it is; the names of the files that changed.

    Raises BoneXageError for a version or an address that is none, and if CHANGELOG.md does not tell of the version.
    """
    (home, number), new_home = stamped(root), address.rstrip("/").removeprefix(f"{HOST}/")
    version, new_home = version or number, new_home or home
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", new_home):
        raise BoneXageError(f"ADDRESS={address}: give a repository's, as {HOST}/YOU/FORK")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise BoneXageError(f"VERSION={version}: give three numbers, as 0.2.0")
    if f"\n## {version}\n" not in (root / "CHANGELOG.md").read_text(encoding="utf-8"):
        raise BoneXageError(f"CHANGELOG.md: no heading '## {version}'; say below it what is new, then run this again")
    changes = (
        (rf"/{re.escape(home)}(?![\w-])", f"/{new_home}"),  # also in the addresses of Colab and of the badges
        (rf"\bv{re.escape(number)}\b", f"v{version}"),
        (rf'^((?:__)?version(?:__)?(?: =|:) "?){re.escape(number)}\b', rf"\g<1>{version}"),
    )
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, encoding="utf-8", check=True).stdout
    changed = []
    for name in listed.splitlines():
        if Path(name).suffix not in TEXTS or name == "CHANGELOG.md":
            continue
        text = before = (root / name).read_text(encoding="utf-8")
        for pattern, replacement in changes:
            text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
        if text != before:
            (root / name).write_text(text, encoding="utf-8", newline="\n")
            changed.append(name)
    return changed


def release(options: argparse.Namespace) -> int:
    """Stamp, and say what is left to do."""
    changed = stamp(ROOT, options.version, options.address)
    tag = f"v{stamped(ROOT)[1]}"
    print(f"{len(changed)} files stamped; look at them with `git diff`, run `make check`, and then:")
    print(f"    git commit --all -m 'Release {tag}' && git tag {tag} && git push origin main {tag}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command; what the user can mend is one line, not a traceback."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", default="", help="as 0.2.0; the present one without")
    parser.add_argument("--address", default="", help=f"as {HOST}/YOU/FORK; the present one without")
    parser.set_defaults(run=release)
    return run_command(parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
