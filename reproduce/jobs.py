"""One model with one seed: the trainers' commands that make it, its folder, and the result that tables need of it."""

import dataclasses
import datetime
import functools
import json
import os
import platform
from pathlib import Path
from typing import Any

from reproduce import processes
from reproduce.origins import commit_of, without_places
from reproduce.passes import minutes_of, passes_of
from reproduce.results import file_of, kept_metrics, read, trained_seconds
from reproduce.rows import Model, alphas_of
from reproduce.settings import Reproduction
from trainers.cli import as_flag
from trainers.runs.folder import BEST, METRICS, is_finished, metrics_of
from trainers.settings.config import Experiment
from wmr_tf.checks import require
from wmr_tf.engine import machine
from wmr_tf.saving import write_json

_OF_A_MACHINE = ("data_dir", "output_dir", "precision")
"""Settings that may be others on another machine."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A model that is trained and evaluated with one seed.

    Attributes:
        model: What is trained.
        seed: Of its weights, order and attacks.
        settings: Those of the command.
    """

    model: Model
    seed: int
    settings: Reproduction

    @property
    def name(self) -> str:
        """What its folder is called, and its result."""
        return self.result.stem

    @property
    def folder(self) -> Path:
        """The run's own folder."""
        return self.settings.folders["output_dir"] / self.name

    @property
    def log(self) -> Path:
        """What its processes print, beside the folder."""
        return self.folder.with_name(f"{self.name}.log")

    @property
    def result(self) -> Path:
        """The file of its result."""
        return file_of(self.settings.folders["results"], self.model, self.settings.budget, self.seed)

    @functools.cached_property
    def training(self) -> dict[str, Any]:
        """The settings of the training that are not the recipe's, as flags of the trainer."""
        changes = self.settings.of_budget.settings_of(self.model, train_examples=self.settings.train_examples)
        examples = {} if self.settings.eval_examples is None else {"eval_examples": self.settings.eval_examples}
        # All images are attacked by the shortest suite, which an evaluation cannot do without.
        evaluation = {"alpha_test": alphas_of(self.model), "suite": "short", "radii": "none", **examples}
        given = {"method": self.model.method, "alpha_train": self.model.alpha_train, "seed": self.seed}
        return {**given, **changes, **evaluation}

    @property
    def attack(self) -> dict[str, Any]:
        """The settings of the evaluation by the suite; of the attackers who pick it takes one, as it has to."""
        examples = {"suite": self.settings.suite, "eval_examples": self.suite_examples}
        return {**examples, "alpha_test": alphas_of(self.model)[:1], "radii": "none", "seed": self.seed}

    @property
    def suite_examples(self) -> int:
        """How many test images the suite attacks, no more than are evaluated."""
        return min(self.settings.suite_examples, self.experiment.eval_examples or self.settings.suite_examples)

    @property
    def attacked(self) -> Path:
        """The folder of that evaluation."""
        return self.folder / f"suite-{self.settings.suite}-{self.suite_examples}"

    @functools.cached_property
    def experiment(self) -> Experiment:
        """All settings of the run."""
        return Experiment.of(self.model.dataset, **self.training, data_dir=self.settings.data_dir)

    def commands(self) -> list[list[str]]:
        """Return what is left to run, module and flags of each, as after `python -m`."""
        data = {} if self.settings.data_dir is None else {"data_dir": self.settings.data_dir}
        train = {**self.training, **data, "output_dir": self.folder}
        attack = {"dataset": self.model.dataset, "model": self.folder / BEST, **self.attack, **data}
        found = []
        if not is_finished(self.experiment, self.folder):
            found.append([f"trainers.{self.model.dataset}", *(as_flag(*pair) for pair in train.items())])
        if not (self.attacked / METRICS).is_file():
            attack["output_dir"] = self.attacked
            found.append(["trainers.evaluate", *(as_flag(*pair) for pair in attack.items())])
        return found

    def is_done(self) -> bool:
        """Return whether the result is there.

        Raises:
            InvalidInput: If it is that of other settings.
        """
        if not self.result.exists():
            return False
        defaults = {field.name: field.default for field in dataclasses.fields(Experiment)}
        found, wanted = {**defaults, **read(self.result)["settings"]}, self._identity()
        names = [name for name in wanted if found.get(name) != wanted[name]]
        differing = ", ".join(f"{name} {found.get(name)} (now {wanted[name]})" for name in names)
        fix = "Pass the settings of the result, or name other folders with --results and --output_dir to run all anew."
        got = f"{str(self.result)!r}, a result with {differing}"
        require(not names, "results", got=got, expected="one of the settings of this command", fix=fix)
        return True

    def run(self) -> None:
        """Train and evaluate, as far as that has not been done, and write the result.

        Raises:
            Failed: If a process fails.
            Stopped: If a signal comes.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.result.parent.mkdir(parents=True, exist_ok=True)
        for command in self.commands():
            processes.run(command, self.log)
        write_json(self.result, self._found())

    def _identity(self) -> dict[str, Any]:
        """Return all settings that a result depends on, the recipe's too, as JSON has them."""
        attack = {"suite": self.settings.suite, "suite_examples": self.suite_examples}
        settings = {**dataclasses.asdict(self.experiment), **attack}
        return json.loads(json.dumps({name: value for name, value in settings.items() if name not in _OF_A_MACHINE}))

    def _found(self) -> dict[str, Any]:
        metrics, attacked = metrics_of(str(self.folder)), metrics_of(str(self.attacked))
        return {
            "dataset": self.model.dataset,
            "model": self.model.name,
            "budget": self.settings.budget,
            "seed": self.seed,
            "settings": self._identity(),
            "epochs": self.experiment.epochs,
            "architecture": self.experiment.architecture,
            "passes": passes_of(self.experiment),
            "minutes_by_calculation": round(minutes_of(self.experiment), 1),
            "seconds": trained_seconds(self.log.read_text(errors="replace")) if self.log.exists() else None,
            "metrics": kept_metrics(metrics),
            "suite": {name: attacked["suite"][name] for name in ("version", "examples", "accuracy")},
            "commands": [without_places(each["command"]) for each in (metrics, attacked)],
            "processor": machine.processor_facts().get("model name", platform.processor()),
            "cores": os.cpu_count(),
            "precision": self.experiment.precision,
            "date": datetime.date.today().isoformat(),
            "versions": metrics["versions"],
            "commit": commit_of(Path(__file__).resolve().parents[1]),
        }
