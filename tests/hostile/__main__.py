"""Read hostile files one after the other in this process and print, a line of JSON each, what that did.

python -m tests.hostile NAME ...
"""

import contextlib
import json
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.hostile import traces
from tests.hostile.table import HOSTILE

SECONDS = 60
"""After which a file has hung."""


def memory(of: str) -> int:
    """Return the resident memory of this process in MB, now ("VmRSS") or at most so far ("VmHWM")."""
    return int(re.search(rf"{of}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) >> 10


def outcome(name: str) -> dict[str, object]:
    """Make a hostile file, read it, and return what happened."""
    hostile = HOSTILE[name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "here")
        folder.mkdir()
        with contextlib.chdir(folder):
            path = hostile.build(folder)
            before, started = traces(folder), time.monotonic()
            Path("/proc/self/clear_refs").write_text("5")  # the largest memory so far counts from now on
            resident = memory("VmRSS")
            signal.alarm(SECONDS)
            try:
                kind, message = "", repr(hostile.read(path))[:200]
            except BaseException as error:
                kind, message = type(error).__name__, str(error)
            finally:
                signal.alarm(0)
            return {
                "name": name,
                "kind": kind,
                "message": message,
                "left_traces": traces(folder) != before,
                "seconds": time.monotonic() - started,
                "megabytes": memory("VmHWM") - resident,
            }


def _out_of_time(*_: object) -> None:
    raise TimeoutError


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, _out_of_time)
    sys.path.insert(0, "")  # the working folder, as for every command
    for each in sys.argv[1:] or HOSTILE:
        print(json.dumps(outcome(each)), flush=True)
