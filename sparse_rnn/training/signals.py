"""Signals that stop a run after it has saved."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from sparse_rnn.training.trainer import Trainer

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)  # the last is SLURM's, before the time limit


@contextmanager
def stop_on_signals(trainer: Trainer) -> Iterator[Callable[[], bool]]:
    """Let SIGTERM, Ctrl-C and SIGUSR2 stop the trainer at its next step, and restore the handlers afterwards.

    A second Ctrl-C ends the process as usual. The other signals may arrive repeatedly: from SLURM, and again from the
    process that started this one. Outside of the main thread, Python allows no handlers and signals are left alone.

    Yields a function to call once the trainer has saved: it hands the signals over to the handlers that were installed
    before, and returns whether there were any. Training continues if they return.
    """
    # submitit requeues its job in a handler of its own: if that ran at once, the new job would start from an old
    # checkpoint. So a signal that already has a handler only stops the trainer here, and waits until all is saved.
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = {number: signal.getsignal(number) or signal.SIG_DFL for number in STOP_SIGNALS}
    handlers = {number: each for number, each in previous.items() if callable(each)}
    handlers = {number: each for number, each in handlers.items() if each != signal.default_int_handler}
    received: list[int] = []

    def request_stop(number: int, frame: FrameType | None) -> None:
        trainer.stop_requested = True
        if number in handlers:
            received.append(number)
            return
        trainer.stop_signal = trainer.stop_signal or number
        if number == signal.SIGINT:
            signal.signal(number, previous[signal.SIGINT])

    def hand_over() -> bool:
        if trainer.stop_signal or not received:
            return False
        trainer.stop_requested = False
        while received:
            number = received.pop(0)
            handlers[signal.Signals(number)](number, None)
        return True

    for number in STOP_SIGNALS:
        signal.signal(number, request_stop)
    try:
        yield hand_over
    finally:
        for number in STOP_SIGNALS:
            signal.signal(number, previous[number])
