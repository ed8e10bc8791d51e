"""The command `wmr`: `wmr train mnist --epochs=8` does what `python -m trainers.mnist --epochs=8` does."""

import difflib
import runpy
import sys

from trainers.cli import fail
from trainers.runs.folder import versions
from wmr_tf.names import DATASETS

TRAIN = {name: f"trainers.{name}" for name in (*DATASETS, "custom")}

COMMANDS = {
    "evaluate": ("trainers.evaluate", "measure how robust a saved classifier is"),
    "compare": ("trainers.compare", "print runs side by side, with a picture and a report"),
    "matched": ("trainers.matched", "evaluate classifiers at equal confidence"),
    "resume": ("trainers.resume", "go on with a run that was stopped"),
    "search": ("tuning.search", "search alpha_train and other settings"),
    **{f"table{number}": (f"reproduce.table{number}", f"make the paper's Table {number}") for number in range(1, 6)},
}
"""What a command runs, and what it does."""


def main() -> None:
    """Run the module that the first words of the command line name, with the flags after them."""
    words = sys.argv[1:]
    if not words or words[0] in ("help", "-h", "--help", "-help", "--helpfull"):
        print(usage())
        sys.exit(0)
    if words == ["--version"]:
        print(", ".join(f"{name} {version}" for name, version in versions().items()))
        sys.exit(0)
    if words[0] == "train":
        module, flags = _chosen("train", words[1:2], TRAIN), words[2:]
    else:
        known = {"train": "", **{name: module for name, (module, _) in COMMANDS.items()}}
        module, flags = _chosen("wmr", words[:1], known), words[1:]
    flags = ["--help" if flag == "-h" else flag for flag in flags]
    sys.argv[1:] = flags
    sys.orig_argv[1:] = ["-m", module, *flags]  # what a run is gone on with, and its config.json says
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def usage() -> str:
    """Return the commands, one a line."""
    lines = [
        *((f"train {name}", f"train a classifier on {name}") for name in DATASETS),
        ("train custom", "train a classifier on images of your own"),
        *((name, does) for name, (_, does) in COMMANDS.items()),
    ]
    return "\n".join(
        [
            "usage: wmr COMMAND [--flag=value ...]; wmr COMMAND --help lists its flags, wmr --version all versions",
            "",
            *(f"  wmr {name:<20} {does}" for name, does in lines),
        ]
    )


def _chosen(what: str, words: list[str], known: dict[str, str]) -> str:
    """Return the module of a word; anything else ends the process in one line, with status 2."""
    word = words[0] if words else "nothing"
    if word in known:
        return known[word]
    alike = difflib.get_close_matches(word, known, n=1)
    mend = f"Did you mean {alike[0]}?" if alike else "Run wmr --help."
    fail(f"{what}: got {word}, expected one of {', '.join(known)}. {mend}")
