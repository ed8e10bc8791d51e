"""Where a figure is from, as others can follow it: the command that made it, and the commit of the code."""

import shlex
import subprocess
from pathlib import Path


def without_places(command: str) -> str:
    """Return a command as others can give it: where its data and folders were is not theirs to know.

    RUN is the folder of a run, whose model is evaluated, FOLDER any other one.

    Example:
        >>> without_places("python -m trainers.digits --data_dir=/home/me/data --output_dir=runs/me --seed=1")
        'python -m trainers.digits --data_dir=FOLDER --seed=1'
    """
    words = []
    for word in shlex.split(command):
        name, is_flag, value = word.partition("=")
        if name == "--model":
            words.append(f"{name}=RUN/{Path(value).name}")
        elif name == "--data_dir" or (is_flag and value.startswith(("/", "~"))):
            words.append(f"{name}=FOLDER")
        else:
            words.append(word)
    return shlex.join(word for word in words if not word.startswith("--output_dir="))


def commit_of(root: Path) -> str | None:
    """Return the commit of a checkout, marked where code has changed since; None if it is none."""
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "--short=7", "HEAD")
        # Not `describe --dirty`: the page of the table itself changes while its rows are run.
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "*.py")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}-dirty" if changed else commit


def _git(root: Path, *asked: str) -> str:
    return subprocess.run(["git", "-C", str(root), *asked], capture_output=True, text=True, check=True).stdout.strip()
