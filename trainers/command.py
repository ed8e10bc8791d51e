"""The command `wmr`: `wmr train mnist --epochs=8` does what `python -m trainers.mnist --epochs=8` does."""

import difflib
import runpy
import sys

from trainers.cli import fail
from trainers.runs.folder import versions
from trainers.usage import HELP
from wmr_tf.engine.terminal import show

TRAIN = {
    "digits": ("trainers.digits", "the digits of scikit-learn, 8 x 8, without a download; seconds"),
    "mnist": ("trainers.mnist", "MNIST, digits of 28 x 28"),
    "cifar10": ("trainers.cifar10", "CIFAR-10, photos of 32 x 32"),
    "tiny_imagenet": ("trainers.tiny_imagenet", "Tiny ImageNet, photos of 64 x 64 in 200 classes"),
    "custom": ("trainers.custom", "images of your own, a folder or an .npz file"),
}
"""What `wmr train` runs for a data set, and which that is."""

COMMANDS = {
    "evaluate": ("trainers.evaluate", "measure how robust a saved classifier is"),
    "compare": ("trainers.compare", "print runs side by side, with a picture and a report"),
    "report": ("trainers.report", "make the report and pictures of runs again, from their numbers"),
    "matched": ("trainers.matched", "evaluate classifiers at equal confidence"),
    "resume": ("trainers.resume", "go on with a run that was stopped"),
    "search": ("tuning.search", "search alpha_train and other settings"),
    **{f"table{number}": (f"reproduce.table{number}", f"make the paper's Table {number}") for number in range(1, 6)},
    "completion": ("trainers.completion", "print what makes the shell complete commands, flags and choices"),
}
"""What another command runs, and what it does."""

_LISTS = {"wmr": "wmr --help", "train": "wmr train custom --data=FOLDER for images of your own"}
"""What to run instead of a word that is like none."""


def main() -> None:
    """Run the module that the first words of the command line name, with the flags after them."""
    words = sys.argv[1:]
    if not words or words[0] in ("help", "--helpfull", *HELP):
        _tell(usage())
    if words == ["--version"]:
        _tell(", ".join(f"{name} {version}" for name, version in versions().items()))
    if words[0] == "train":
        if not words[1:] or words[1] in HELP:
            _tell(data_sets())
        module, flags = _chosen("train", words[1], TRAIN), words[2:]
    else:
        module, flags = _chosen("wmr", words[0], {"train": ("", ""), **COMMANDS}), words[1:]
    sys.argv[1:] = flags
    sys.orig_argv[1:] = ["-m", module, *flags]  # what a run is gone on with, and its config.json says
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def modules() -> dict[str, str]:
    """Return the module behind each command, by what follows `wmr`, such as "train mnist"."""
    known = {**{f"train {name}": each for name, each in TRAIN.items()}, **COMMANDS}
    return {name: module for name, (module, _) in known.items()}


def usage() -> str:
    """Return the commands, one a line."""
    lines = [("train DATASET", "train a robust classifier; wmr train lists the data sets"), *_told(COMMANDS)]
    head = "usage: wmr COMMAND [--flag=value ...]; wmr COMMAND --help lists its flags, wmr --version all versions"
    return _listed(head, "wmr", lines)


def data_sets() -> str:
    """Return the data sets that `wmr train` knows, one a line."""
    head = "usage: wmr train DATASET [--flag=value ...]; wmr train DATASET --help lists its flags"
    return _listed(head, "wmr train", _told(TRAIN))


def _told(known: dict[str, tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, does) for name, (_, does) in known.items()]


def _listed(head: str, before: str, lines: list[tuple[str, str]]) -> str:
    return "\n".join([head, "", *(f"  {before} {name:<14} {does}" for name, does in lines)])


def _tell(text: str) -> None:
    show(text)
    sys.exit(0)


def _chosen(what: str, word: str, known: dict[str, tuple[str, str]]) -> str:
    """Return the module of a word; anything else ends the process in one line, with status 2."""
    if word in known:
        return known[word][0]
    alike = difflib.get_close_matches(word, known, n=1)
    mend = f"Did you mean {alike[0]}?" if alike else f"Run {_LISTS[what]}."
    fail(f"{what}: got {word}, expected one of {', '.join(known)}. {mend}")
