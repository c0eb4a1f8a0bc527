"""Being asked to stop: Ctrl-C, the stop button of a notebook, or a machine that is about to go down."""

import signal
import threading
from types import TracebackType


class StopRequest:
    """Inside its `with` block, the first SIGINT or SIGTERM only sets `asked`; a second does what it always did.

    Outside the main thread, where Python lets nobody catch signals, it changes nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}

    def _ask(self, number: int, frame: object) -> None:
        self.asked = True
        signal.signal(number, self._before[number])

    def __enter__(self) -> "StopRequest":
        self.asked = False
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
