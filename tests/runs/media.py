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


def in_thread(act):
    """Runs something that is going to wait; returns what gives its result or its error."""
    results = []

    def work():
        try:
            results.append(act())
        except holdfast.HoldfastError as error:
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()

    def result():
        thread.join(60)
        assert not thread.is_alive()
        return results[0]

    return result
