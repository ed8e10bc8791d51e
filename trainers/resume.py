"""Go on with a training run that was stopped.

python -m trainers.resume runs/NAME

All settings are those in the folder's config.json; the only flag is --trust, which a folder cannot say for you. The
result is that of a run that was never stopped, with --deterministic to the last bit.
"""

import dataclasses
import sys
from pathlib import Path

from trainers.cli import ends_reported
from trainers.quiet import late
from trainers.runs.folder import check_has_not_diverged, experiment_of, is_unfinished
from wmr_tf.checks import require


def resume(arguments: list[str]) -> None:
    """Go on with the run in a folder.

    Args:
        arguments: The folder, and --trust if a model that the run reads holds code.

    Raises:
        InvalidInput: If it is anything but the folder of an unfinished run.
    """
    fix = "Write: python -m trainers.resume runs/NAME."
    named = [argument for argument in arguments if argument != "--trust"]
    is_one = len(named) == 1 and not named[0].startswith("-")
    got = " ".join(arguments) or "nothing"
    expected = "a folder and no flags but --trust, since it has its settings"
    require(is_one, "command line", got=got, expected=expected, fix=fix)
    folder = Path(named[0]).expanduser()
    check_has_not_diverged(folder, "folder")
    expected = "the folder of a run that has not come to its end"
    require(is_unfinished(folder), "folder", got=repr(str(folder)), expected=expected, fix=fix)
    experiment = dataclasses.replace(experiment_of(folder), trust="--trust" in arguments)
    experiment.check_place()
    experiment.use_threads()
    late("trainers.runs.run:train")(experiment)


if __name__ == "__main__":
    if sys.argv[1:] in (["--help"], ["-h"]):
        print(__doc__)
        sys.exit(0)
    with ends_reported():
        resume(sys.argv[1:])
