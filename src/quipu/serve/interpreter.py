"""Python itself, set up so that neither threads nor the search for garbage keep the event loop waiting for long."""

from __future__ import annotations

import gc
import sys

from quipu.engine.memory import return_freed_memory

SWITCH_SECONDS = 0.0001
"""How long a thread that computes in Python may keep the event loop waiting, each time that it wants to go on. Python's
own 5 ms add up: answering one request is a dozen such times, and several threads may be in the way."""
RARELY = 1000
"""Searches of middle-aged objects to one of the old ones, where Python has 10. Not never: a server that is never idle
must not keep its garbage."""
COLLECTIONS = 10
"""Of younger objects, after which the old ones are looked through as well."""


def prepare() -> None:
    """Call once, when what stays for ever is loaded: it is never again looked through for garbage.

    A search through all objects stops every thread for about 0.1 ms per thousand of them, and the requests of an
    attack are millions. So there is hardly one while requests are in progress; see ``tidy``. Young objects are
    searched as always, and what is in no cycle is freed at once, as always.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, RARELY)


def tidy() -> None:
    """Call when no request is in progress any more: then there is little to look through, and much to give back."""
    if gc.get_threshold()[2] == RARELY:  # prepared
        if gc.get_count()[2] >= COLLECTIONS:
            gc.collect()
        return_freed_memory()
