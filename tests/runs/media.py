"""Media that stand still, and what waits for them, for the tests of runs."""

import threading

import holdfast
from holdfast.storage.posix import Posix

CALLS = ["create", "open_append", "write", "pwrite", "fsync", "rename", "unlink", "fsync_folder"]


class HangingMedium(Posix):
    """A medium of which one call waits while it hangs.

    Attributes:
        waiting: Set once the call has been made.
    """

    def __init__(self):
        self.call = ""
        self.gate = threading.Event()
        self.waiting = threading.Event()
        for name in CALLS:
            setattr(self, name, self._held(getattr(self, name), name))

    def _held(self, call, name):
        def held(*arguments, **options):
            if name == self.call:
                self.waiting.set()
                assert self.gate.wait(60)
            return call(*arguments, **options)

        return held

    def hang_at(self, call):
        self.gate.clear()
        self.waiting.clear()
        self.call = call

    def wake_up(self):
        self.call = ""
        self.gate.set()


def in_thread(act, *, meanwhile=lambda: None):
    """Runs something that is going to wait; returns what gives its result or its error.

    Args:
        act: What is run.
        meanwhile: Called again and again until it is over.
    """
    results = []

    def work():
        try:
            results.append(act())
        except holdfast.HoldfastError as error:
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()

    def result():
        for _ in range(1200):
            meanwhile()
            thread.join(0.05)
            if not thread.is_alive():
                return results[0]
        raise AssertionError("it waits for ever")

    return result


def minutes_of(clock, seconds):
    """Returns what lets so many seconds pass: what still moves in between is given time to stop."""

    def pass_by():
        clock.now += seconds

    return pass_by
