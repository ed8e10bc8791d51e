"""What is built installs elsewhere: the wheel in environments of its own, with and without the extras.

Nothing is downloaded. Such an environment sees the packages of this one, but only those that the wheel asks for.
"""

import email.parser
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import wmr_tf
from wmr_tf.extras import EXTRAS, mend

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("wmr_tf", "trainers", "tuning", "reproduce")
FEW = ["--train_examples=64", "--validation_examples=16", "--eval_examples=16"]
FAST = ["--suite=short", "--radii=none"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with the source distribution and the wheel, which is built from it."""
    folder = tmp_path_factory.mktemp("built")
    source = shutil.copytree(ROOT, folder / "source", ignore=left_by_commands)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source]
    done = subprocess.run(command, cwd=folder, env=outside(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def everything(wheel, tmp_path_factory):
    """The commands of an environment with the wheel and all extras."""
    return environment(tmp_path_factory.mktemp("everything"), wheel, extra="all")


@pytest.fixture(scope="module")
def base(wheel, tmp_path_factory):
    """The commands of an environment with the wheel and no extra."""
    return environment(tmp_path_factory.mktemp("base"), wheel, extra="")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with images.npz and photos/, three classes each of which has a brightness of its own."""
    folder = tmp_path_factory.mktemp("images")
    labels = np.arange(120) % 3
    noise = np.random.default_rng(0).integers(0, 40, [len(labels), 16, 16, 1])
    pixels = (40 + 70 * labels[:, None, None, None] + noise).astype(np.uint8)
    arrays = {"x_train": pixels[:90], "y_train": labels[:90], "x_test": pixels[90:], "y_test": labels[90:]}
    np.savez(folder / "images.npz", **arrays)
    for number, label in enumerate(labels):
        path = folder / "photos" / f"class{label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[number, :, :, 0]).save(path)
    return folder


def left_by_commands(folder, names):
    """Return what is in a folder of the repository and not part of it."""
    left = {"runs", "build", "dist"} if Path(folder) == ROOT else {"__pycache__"}
    return [name for name in names if name in left or name.startswith(".") or name.endswith(".egg-info")]


def outside():
    """Return the environment variables of a shell that knows nothing of this repository."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "TF_", "PIP_"))
    }
    return {**kept, "TF_CPP_MIN_LOG_LEVEL": "2"}


def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.parser.Parser().parsestr(archive.read(name).decode())


def installed_with(wheel, extra):
    """Return the names of all packages that pip would install with the wheel."""
    done, todo = set(), [("wmr-tf", extra)]
    while todo:
        name, extra = one = todo.pop()
        if one in done:
            continue
        done.add(one)
        own = name == "wmr-tf"
        for line in (metadata(wheel).get_all("Requires-Dist") if own else importlib.metadata.requires(name)) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(requirement.name), each) for each in ("", *requirement.extras)]
    return sorted({name for name, _ in done} - {"wmr-tf"})


def environment(folder, wheel, *, extra):
    """Make an environment and return the folder of its commands."""
    venv.create(folder, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    for name in installed_with(wheel, extra):
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    commands = Path(sysconfig.get_path("scripts", "venv", {"base": str(folder)}))
    pip = [sys.executable, "-m", "pip", "--python", commands / "python", "--isolated"]
    for command in (["install", "--no-index", "--no-deps", "--quiet", wheel], ["check"]):
        done = subprocess.run([*pip, *command], cwd=folder, env=outside(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return commands


def run(commands, *words, cwd, status=0):
    """Run a command of an environment and return what it printed."""
    done = subprocess.run(
        [commands / words[0], *words[1:]], cwd=cwd, env=outside(), capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def test_the_wheel_has_all_files_of_the_packages_and_no_others(wheel):
    with zipfile.ZipFile(wheel) as archive:
        there = {name for name in archive.namelist() if ".dist-info/" not in name}
        information = {name.partition(".dist-info/")[2] for name in archive.namelist()} - {""}
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    assert there == {path.relative_to(ROOT).as_posix() for path in files if path.parent.name != "__pycache__"}
    assert {"wmr_tf/py.typed", "wmr_tf/report/templates/report.html", "wmr_tf/zoo/digits-trades.keras"} <= there
    assert information >= {"licenses/LICENSE", "entry_points.txt", "METADATA"}


def test_the_source_distribution_has_no_half_of_the_tests(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        top = {Path(name).parts[1] for name in archive.getnames() if len(Path(name).parts) > 1}
    assert top >= {*PACKAGES, "CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "pyproject.toml"}
    assert not top & {"tests", "studies", "benchmarks"}


def test_the_metadata_say_what_an_index_shows(wheel):
    said = metadata(wheel)
    assert (said["Name"], said["Version"]) == ("wmr-tf", wmr_tf.__version__)
    assert (said["License-Expression"], said["Requires-Python"]) == ("Apache-2.0", ">=3.11")
    assert {*EXTRAS, "all", "dev"} <= set(said.get_all("Provides-Extra"))
    assert "Typing :: Typed" in said.get_all("Classifier")
    assert said["Description-Content-Type"] == "text/markdown" and said.get_payload().startswith("# wmr_tf")


def test_what_runs_is_the_wheel(everything, tmp_path):
    script = f"import json, {', '.join(PACKAGES)}; print(json.dumps([{'.__file__, '.join(PACKAGES)}.__file__]))"
    found = json.loads(run(everything, "python", "-c", script, cwd=tmp_path).stdout)
    assert len(found) == len(PACKAGES)
    assert all(Path(path).is_relative_to(everything.parent) for path in found)


def test_the_commands_are_listed_and_say_their_version(everything, tmp_path):
    listed = run(everything, "wmr", cwd=tmp_path).stdout
    assert "wmr train DATASET" in listed
    assert run(everything, "python", "-m", "trainers", cwd=tmp_path).stdout == listed
    assert run(everything, "wmr", "--version", cwd=tmp_path).stdout.startswith(f"wmr_tf {wmr_tf.__version__}, ")
    assert names_in(tmp_path) == set()


def test_the_demo_runs_in_an_empty_folder(everything, tmp_path):
    train = ["wmr", "train", "digits", "--epochs=1", *FEW, *FAST]
    run(everything, *train, "--method=natural", "--output_dir=natural", cwd=tmp_path)
    told = run(everything, *train, "--alpha_train=2", "--attack_steps=1", "--output_dir=weighted", cwd=tmp_path).stdout
    assert "Neither pictures" not in told
    pictures = {"training.png", "robustness.png", "report.html"}
    assert names_in(tmp_path / "weighted") >= {*pictures, "best.keras", "metrics.json", "history.csv", "logs"}
    run(everything, "wmr", "compare", "natural", "weighted", "--output=all.png", cwd=tmp_path)
    assert names_in(tmp_path) == {"natural", "weighted", "all.png", "all.pdf", "all.svg", "all.html"}

    zoo = "from wmr_tf import zoo; print(zoo.FOLDER / 'digits-trades.keras')"
    model = run(everything, "python", "-c", zoo, cwd=tmp_path).stdout.strip()
    for number, path in enumerate([model, "weighted/best.keras"]):
        evaluate = ["wmr", "evaluate", f"--model={path}", "--dataset=digits", "--eval_examples=64", *FAST]
        run(everything, *evaluate, f"--output_dir=evaluation{number}", cwd=tmp_path)
    assert json.loads((tmp_path / "evaluation0" / "metrics.json").read_text())["A_nat"] > 0.9


def test_a_search_runs(everything, tmp_path):
    search = ["wmr", "search", "--dataset=digits", "--method=natural", "--search=learning_rate:0.01:0.1"]
    search += ["--tuner=random", "--max_trials=1", "--epochs=1", *FEW, *FAST]
    told = run(everything, *search, "--output_dir=search", cwd=tmp_path).stdout
    assert "Best: trial 0" in told
    assert names_in(tmp_path / "search") >= {"best", "search.json", "trials.md", "tradeoff.png"}


def test_types_are_those_of_the_wheel(everything, tmp_path):
    pytest.importorskip("mypy")
    lines = [
        "import wmr_tf",
        "steps: int = wmr_tf.attacks.PGD(epsilon=0.3, step_size=0.1, steps=5).steps",
        "wrong: int = wmr_tf.zoo.names()",
    ]
    (tmp_path / "mine.py").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", everything / "python", "mine.py"]
    done = subprocess.run(command, cwd=tmp_path, env=outside(), capture_output=True, text=True, check=False)
    assert "mine.py:3: error: Incompatible types" in done.stdout
    assert "Found 1 error in 1 file" in done.stdout, done.stdout


def test_a_folder_called_trainers_hides_ours_from_python_m_alone(everything, tmp_path):
    """As docs/stability.md says."""
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "__init__.py").touch()
    module = ["-m", "trainers.digits", "--help"]
    told = run(everything, "python", *module, cwd=tmp_path, status=1).stderr
    assert told.endswith("No module named trainers.digits\n")
    assert "--alpha_train" in run(everything, "python", "-P", *module, cwd=tmp_path).stdout
    assert "--alpha_train" in run(everything, "wmr", "train", "digits", "--help", cwd=tmp_path).stdout
    script = "import sys, trainers, wmr_tf; print(trainers.__file__, 'wmr_tf.model' in sys.modules)"
    mine = tmp_path / "trainers" / "__init__.py"
    assert run(everything, "python", "-c", script, cwd=tmp_path).stdout == f"{mine} True\n"


def test_the_base_has_no_extra(base, tmp_path):
    names = sum(EXTRAS.values(), ())
    script = f"import importlib.util; print([name for name in {names} if importlib.util.find_spec(name)])"
    assert run(base, "python", "-c", script, cwd=tmp_path).stdout == "[]\n"
    run(base, "python", "-c", f"import {', '.join(PACKAGES)}", cwd=tmp_path)


def test_the_base_trains_evaluates_and_compares(base, images, tmp_path):
    few = ["--epochs=1", "--attack_steps=1", *FAST]
    told = run(base, "wmr", "train", "digits", *few, *FEW, "--output_dir=digits", cwd=tmp_path).stdout
    assert told.count("Neither pictures nor report.html") == 1 and mend("report") in told
    for data, flags in (("images.npz", []), ("photos", ["--color=grayscale"])):
        custom = ["wmr", "train", "custom", f"--data={images / data}", *flags, *few]
        run(base, *custom, f"--output_dir={data}", cwd=tmp_path)
    evaluate = ["wmr", "evaluate", "--model=digits/best.keras", "--dataset=digits", "--eval_examples=16", *FAST]
    run(base, *evaluate, "--output_dir=evaluation", cwd=tmp_path)
    told = run(base, "wmr", "compare", "digits", "evaluation", cwd=tmp_path).stdout
    assert "A_strong (%)" in told and mend("report") in told
    assert names_in(tmp_path) == {"digits", "evaluation", "images.npz", "photos"}
    assert all((folder / "metrics.json").is_file() for folder in tmp_path.iterdir())
    assert not [*tmp_path.rglob("*.png"), *tmp_path.rglob("*.html")]

    refused = ["wmr", "compare", "digits", "--output=all.png"]
    check_refused(run(base, *refused, cwd=tmp_path, status=2), "report")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("data", ["train", "mnist", "--epochs=1"]),
        ("data", ["evaluate", "--model=model.keras", "--dataset=cifar10"]),
        ("tuner", ["search", "--dataset=digits"]),
        ("report", ["table1"]),
    ],
)
def test_the_base_refuses_what_needs_an_extra(extra, words, base, tmp_path):
    shutil.copy(wmr_tf.zoo.FOLDER / "digits-natural.keras", tmp_path / "model.keras")
    check_refused(run(base, "wmr", *words, cwd=tmp_path, status=2), extra)
    assert names_in(tmp_path) == {"model.keras"}


def check_refused(done, extra):
    assert done.stdout == "" and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert done.stderr.endswith(f"Run {mend(extra)}.\n")


@pytest.mark.parametrize(
    ("extra", "call"),
    [("data", "wmr_tf.data.load('mnist')"), ("tuner", "tuning.Objective"), ("report", "wmr_tf.report.write_report")],
)
def test_a_call_that_needs_an_extra_says_so(extra, call, base, tmp_path):
    told = run(base, "python", "-c", f"import tuning, wmr_tf; {call}", cwd=tmp_path, status=1).stderr
    assert told.splitlines()[-1].startswith("wmr_tf.checks.InvalidInput: ")
    assert told.endswith(f"Run {mend(extra)}.\n")
