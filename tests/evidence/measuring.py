"""A measurement in a process of its own, to be killed: ``python measuring.py ADDRESS``.

Prints the number of probes that are known to be kept, whenever it learns of one.
"""

import sys
import time

from adding import Adding, added
from oracle import Oracle

from quipu.evidence.measure import measure
from quipu.evidence.store import Store


def slowly(messages):
    time.sleep(0.004)
    return added(messages)


if __name__ == "__main__":
    with Store(sys.argv[1]) as store:
        print("opened", flush=True)
        measure(Oracle(slowly), [Adding()], store, together=3, report=lambda done, *_: print(done, flush=True))
