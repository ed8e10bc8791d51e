"""The guides of the site: each runs alone, leaves nothing behind, and uses only what the package offers."""

import ast
import functools
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.py"))
OFFERING = ("wmr_tf", "tuning")
PACKAGES = (*OFFERING, "trainers", "reproduce", "studies", "benchmarks", "tests")


def title_of(guide: ast.Module) -> str | None:
    """Return the title of a guide, None if its docstring does not begin with one that reStructuredText takes."""
    title, underline, *_ = [*(ast.get_docstring(guide) or "").splitlines(), "", ""]
    return title if title and underline == "=" * len(title) else None


def offered_by(module: ModuleType) -> set[str]:
    """Return the names that a module offers: its `__all__`, or what it defines; wmr_tf has modules beside its own."""
    if not hasattr(module, "__all__"):
        mine = {name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__}
        return {name for name in mine if not name.startswith("_")}
    return {*module.__all__, *getattr(module, "_MORE_MODULES", ())}


def private_in(path: list[str], value: object) -> str | None:
    """Return the first part of a dotted path that nobody offers, as far as it leads through modules from `value`."""
    for place, name in enumerate(path[1:], 2):
        if not isinstance(value, ModuleType):
            return None
        if name not in offered_by(value):
            return ".".join(path[:place])
        value = getattr(value, name)
    return None


def private_names(guide: ast.Module) -> list[str]:
    """Return what a guide imports or uses of this repository that no package offers."""
    found, known = [], {}
    for node in ast.walk(guide):
        if isinstance(node, ast.Import):
            paths = {alias.asname or alias.name: alias.name.split(".") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".")
            paths = {alias.asname or alias.name: [*parts, alias.name] for alias in node.names}
        else:
            continue
        for alias, path in paths.items():
            if path[0] in PACKAGES:
                value = importlib.import_module(path[0])
                found += filter(None, [private_in(path, value) if path[0] in OFFERING else ".".join(path)])
                known[alias] = functools.reduce(lambda of, name: getattr(of, name, None), path[1:], value)
    paths = [path for node in ast.walk(guide) if (path := dotted(node)) and path[0] in known]
    return [*found, *filter(None, (private_in(path, known[path[0]]) for path in paths))]


def dotted(node: ast.AST) -> list[str]:
    """Return `a.b.c` as its parts, nothing for another expression."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (path := dotted(node.value)):
        return [*path, node.attr]
    return []


def programs_in(guide: ast.Module) -> Iterator[ast.Module]:
    """Yield a guide, and the programs that it writes for other processes."""
    yield guide
    for node in guide.body:
        if isinstance(node, ast.Assign) and dotted(node.targets[0]) == ["PROGRAM"]:
            yield ast.parse(ast.literal_eval(node.value))


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_a_guide_has_a_title_and_uses_what_the_package_offers(path):
    guide = ast.parse(path.read_text(encoding="utf-8"))
    compile(guide, path.name, "exec")
    assert title_of(guide)
    assert [name for program in programs_in(guide) for name in private_names(program)] == []


def test_there_are_guides_and_their_names_tell_their_order():
    assert [path.name[:3] for path in GUIDES] == [f"{number:02}_" for number in range(1, len(GUIDES) + 1)]
    assert len(GUIDES) >= 10


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import wmr_tf as wmr\nwmr.attacks.PGD\nwmr.evaluation.dro", None),
        ("from wmr_tf.weights import Detached\nimport tuning\ntuning.RobustHyperModel", None),
        ("import wmr_tf as wmr\nwmr.attacks.warn_if_weak(1)", "wmr.attacks.warn_if_weak"),
        ("import wmr_tf as wmr\nwmr.nothing", "wmr.nothing"),
        ("import wmr_tf as wmr\nwmr.losses.tf.zeros", "wmr.losses.tf"),
        ("import wmr_tf as wmr\nwmr.temperature._checked", "wmr.temperature._checked"),
        ("from wmr_tf.methods import zero_logits", "wmr_tf.methods.zero_logits"),
        ("from wmr_tf.engine.frozen import freeze", "wmr_tf.engine"),
        ("import trainers.run", "trainers.run"),
    ],
)
def test_the_check_of_names_tells_them_apart(code, name):
    assert set(private_names(ast.parse(code))) == ({name} if name else set())


@pytest.mark.parametrize(("text", "title"), [("\nA\n=\n", "A"), ("\nAb\n=\n", None), ("Ab", None), ("", None)])
def test_the_check_of_titles_tells_them_apart(text, title):
    assert title_of(ast.parse(f"'''{text}'''")) == title


@pytest.mark.slow
@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_a_guide_runs_alone_and_leaves_nothing_behind(path, tmp_path):
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    for folder in (here, temporary):
        folder.mkdir()
    changed = {"MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, path], cwd=here, env={**os.environ, **changed}, capture_output=True, text=True, timeout=1200
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert done.stdout and "Traceback" not in done.stdout
    assert [*here.iterdir(), *temporary.iterdir()] == []
