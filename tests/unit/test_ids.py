"""
Command ids: never the same twice.
"""

import os
import re
import warnings
from concurrent.futures import ThreadPoolExecutor

from holdfast.runtime.ids import new_id


def test_ids_are_short_text_without_surprises() -> None:
    """
    They fit in any key, header and URL.
    """
    assert re.fullmatch(r"[A-Za-z0-9_-]{12}\.[0-9a-f]{1,16}", new_id())


def test_ids_of_many_threads_differ() -> None:
    """
    No lock is needed and no id is given twice.
    """
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: [new_id() for _ in range(5_000)], range(8)))

    assert 40_000 == len({one for some in found for one in some})


def test_a_forked_process_makes_ids_of_its_own() -> None:
    """
    dramatiq's master forks its workers: what they inherit is not what they go on with.
    """
    new_id()
    found = []
    for _ in range(3):
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            # Python warns of threads that other tests left; the child only writes and ends.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            os.write(writing, "\n".join(new_id() for _ in range(10)).encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            found += pipe.read().splitlines()
    found += [new_id() for _ in range(10)]

    assert 40 == len(set(found))
    assert 4 == len({one.partition(".")[0] for one in found})
