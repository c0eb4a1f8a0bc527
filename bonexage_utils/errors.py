"""The one exception a user is meant to read."""


class BoneXageError(Exception):
    """Something the user can put right.

    The message is one line: what is wrong, where, and what to do next. The command line prints it without a
    traceback and ends with a non-zero exit status.
    """
