"""The end of a maintainers' command: its exit status, and one line for what the user can mend."""

from __future__ import annotations

import argparse
import sys

from bonexage_utils.errors import BoneXageError


def run_command(parser: argparse.ArgumentParser, arguments: list[str] | None = None) -> int:
    """Call `run` of the command that `arguments` name; 2 for a BoneXageError, 130 when stopped, else its own status."""
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except BoneXageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
