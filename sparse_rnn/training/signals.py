"""Signals that stop a run after it has saved."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from sparse_rnn.training.trainer import Trainer

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)  # the last is SLURM's, before the time limit


@contextmanager
def stopping_on_signals(trainer: Trainer) -> Iterator[Callable[[], bool]]:
    """SIGTERM, Ctrl-C and SIGUSR2 stop the trainer at the next step; a second Ctrl-C ends the process as usual, the
    others may come several times: from SLURM, and from what started this process.

    A signal that somebody else handled before, as submitit does, is to be handed on once the trainer has saved: what is
    yielded does so, and returns whether training goes on, because their handler has returned.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    old = {number: signal.getsignal(number) or signal.SIG_DFL for number in STOP_SIGNALS}
    others = {number: each for number, each in old.items() if callable(each) and each != signal.default_int_handler}
    waiting: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        trainer.stop_requested = True
        if number in others:
            waiting.append(number)
            return
        trainer.stop_signal = trainer.stop_signal or number
        if number == signal.SIGINT:
            signal.signal(number, old[signal.SIGINT])

    def hand_on() -> bool:
        if trainer.stop_signal or not waiting:
            return False
        trainer.stop_requested = False
        while waiting:
            number = waiting.pop(0)
            others[signal.Signals(number)](number, None)
        return True

    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    try:
        yield hand_on
    finally:
        for number in STOP_SIGNALS:
            signal.signal(number, old[number])
