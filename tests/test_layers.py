"""The house of ARCHITECTURE.md: imports go down or sideways, never up and never in a circle."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Files and rooms of wmr_tf by layer, lowest first. A new one gets its place here.
LIBRARY = {
    "L0": {
        "architectures",
        "attacks",
        "checks",
        "data",
        "engine",
        "extras",
        "foreign",
        "inputs",
        "lazy",
        "losses",
        "names",
        "saving",
        "untrusted",
        "weights",
    },
    "L1": {"evaluation", "methods", "report", "zoo"},
    "L2": {
        "alarms",
        "callbacks",
        "divergence",
        "events",
        "fit",
        "logs",
        "model",
    },
}
FACE = "the face wmr_tf/__init__.py"
ABOVE = {"trainers": "L3 trainers", "tuning": "L4 tuning", "reproduce": "L5 reproduce", "studies": "L6 studies"}
ORDER = [*LIBRARY, FACE, *ABOVE.values()]
TRAINERS = ("trainers.settings", "trainers.runs", "trainers.comparison")  # the rooms there, lowest first
PLAIN_HELPERS = {"wmr_tf.lazy", "wmr_tf.saving"}  # of the library, all that a report may use
NOBODY_IMPORTS = {"benchmarks", "tests"}


def modules_of(root: Path) -> dict[str, Path]:
    """Return the files of the library and of all that is above it by dotted name; a package is its `__init__`."""
    modules = {}
    for package in ("wmr_tf", *ABOVE):
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def layer_of(module: str) -> str | None:
    """Return the layer's name, or None for a part of wmr_tf that nobody has placed yet."""
    package, _, rest = module.partition(".")
    if package != "wmr_tf":
        return ABOVE[package]
    part = rest.partition(".")[0]
    return next((layer for layer, parts in LIBRARY.items() if part in parts), None) if part else FACE


def room_of_trainers(module: str) -> int | None:
    """Return the place of a module's room among those of the trainers, or None if it is in none."""
    return next((place for place, room in enumerate(TRAINERS) if f"{module}.".startswith(f"{room}.")), None)


def imported_names(module: str, path: Path) -> Iterator[str]:
    """Yield the full dotted name of all that a file imports, wherever in the file it does."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*parents, *filter(None, [node.module])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def imports_of(module: str, modules: dict[str, Path]) -> set[str]:
    """Return the files that a file imports: `from wmr_tf.weights import margin` stands for wmr_tf.weights."""
    found = set()
    for name in imported_names(module, modules[module]):
        while name and name not in modules:
            name = name.rpartition(".")[0]
        found |= {name} - {""}
    return found


def violations(root: Path) -> list[str]:
    """Return one sentence for each breach of the layers in the tree under `root`."""
    modules = modules_of(root)
    graph = {module: imports_of(module, modules) for module in modules}
    found = []
    for module, path in modules.items():
        if layer_of(module) is None:
            found.append(f"{path.relative_to(root)} has no layer: give it one in LIBRARY of tests/test_layers.py")
        top_names = {name.partition(".")[0] for name in imported_names(module, path)}
        found += [f"{module} imports {name}, which nothing may" for name in sorted(top_names & NOBODY_IMPORTS)]
    for module, targets in graph.items():
        for target in sorted(targets):
            here, there = layer_of(module), layer_of(target)
            if here and there and ORDER.index(there) > ORDER.index(here):
                found.append(f"{module} ({here}) imports {target} ({there}): imports go down")
            room, other = room_of_trainers(module), room_of_trainers(target)
            if room is not None and other is not None and other > room:
                found.append(f"{module} imports {target}, of a room above its own")
    for module in (name for name in graph if f"{name}.".startswith("wmr_tf.report.")):
        others = sorted(name for name in graph[module] - PLAIN_HELPERS if not name.startswith("wmr_tf.report"))
        if others:
            found.append(f"{module} takes plain values, but imports {', '.join(others)}")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"circle of imports: {' <- '.join(error.args[1])}")
    return found


def test_this_repository_keeps_its_layers():
    assert "wmr_tf.weights" in modules_of(ROOT)
    assert violations(ROOT) == []


LAWFUL = {
    "wmr_tf/__init__.py": "from wmr_tf import attacks, model\nfrom wmr_tf.weights import margin",
    "wmr_tf/weights.py": "import numpy as np\nmargin = np.inf",
    "wmr_tf/attacks/__init__.py": "from wmr_tf.attacks.pgd import PGD",
    "wmr_tf/attacks/pgd.py": "from ..weights import margin\nclass PGD: ...",
    "wmr_tf/methods/__init__.py": "from wmr_tf.methods.trades import TRADES",
    "wmr_tf/methods/trades.py": "from wmr_tf.attacks import PGD\nTRADES = PGD",
    "wmr_tf/report/__init__.py": "from wmr_tf.report.tables import line",
    "wmr_tf/report/tables.py": "import math\nline = math.inf",
    "wmr_tf/report/html.py": "from wmr_tf.saving import written_whole",
    "wmr_tf/saving.py": "written_whole = open",
    "wmr_tf/model.py": "from wmr_tf.methods import TRADES",
    "trainers/digits.py": "import wmr_tf as wmr",
    "trainers/runs/run.py": "",
    "trainers/comparison/images.py": "from trainers.runs import run",
    "tuning/search.py": "from trainers import digits",
    "reproduce/rows.py": "from tuning import search",
    "studies/runs.py": "from reproduce import rows",
}


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_the_checker_accepts_a_lawful_tree(tmp_path):
    assert violations(write_tree(tmp_path, LAWFUL)) == []


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("wmr_tf/weights.py", "from wmr_tf import model", "wmr_tf.weights (L0) imports wmr_tf.model (L2)"),
        ("wmr_tf/weights.py", "def late():\n    from .methods import trades", "imports wmr_tf.methods.trades (L1)"),
        ("wmr_tf/attacks/pgd.py", "from ..methods.trades import TRADES", "imports wmr_tf.methods.trades (L1)"),
        ("wmr_tf/attacks/pgd.py", "from wmr_tf import PGD", f"(L0) imports wmr_tf ({FACE})"),
        ("wmr_tf/model.py", "import trainers.digits", "wmr_tf.model (L2) imports trainers.digits (L3 trainers)"),
        ("trainers/digits.py", "from tuning.search import x", "imports tuning.search (L4 tuning)"),
        ("tuning/search.py", "from studies.runs import x", "imports studies.runs (L6 studies)"),
        ("trainers/runs/folder.py", "from trainers.comparison import images", "images, of a room above its own"),
        ("trainers/digits.py", "import reproduce.rows", "imports reproduce.rows (L5 reproduce)"),
        ("reproduce/rows.py", "import studies.runs", "imports studies.runs (L6 studies)"),
        ("wmr_tf/attacks/pgd.py", "from . import PGD", "circle of imports: "),
        ("wmr_tf/weights.py", "import wmr_tf.losses", "circle of imports: "),
        ("trainers/digits.py", "from tests.conftest import tfds_dir", "trainers.digits imports tests"),
        (
            "wmr_tf/report/tables.py",
            "from wmr_tf.weights import margin",
            "report.tables takes plain values, but imports wmr_tf.weights",
        ),
        ("wmr_tf/magic.py", "", "wmr_tf/magic.py has no layer: give it one in LIBRARY"),
    ],
)
def test_the_checker_names_the_breach(tmp_path, name, text, complaint):
    tree = {**LAWFUL, "wmr_tf/losses.py": "from wmr_tf.weights import margin", name: text}
    assert complaint in "\n".join(violations(write_tree(tmp_path, tree)))
