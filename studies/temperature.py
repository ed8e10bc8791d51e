"""Does confidence alone make a classifier look more robust? One model, its logits divided by several temperatures.

python -m studies.temperature --model=runs/demo/trades_alpha_2/best.keras --output=results/temperature.md
"""

import dataclasses
from pathlib import Path

from studies.runs import made_by, publish
from studies.settings import Study
from trainers.cli import Command
from trainers.settings.base import setting
from trainers.settings.config import Experiment
from wmr_tf import data, report
from wmr_tf.checks import require
from wmr_tf.evaluation import evaluate_robustness
from wmr_tf.evaluation.temperature import at_temperature
from wmr_tf.saving import load_classifier

TEMPERATURES = (1.0, 0.3, 0.1, 0.03, 0.01)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Temperatures(Study):
    """What is evaluated."""

    model: str = setting("The .keras file of a classifier of the digits.", "")
    output: str = setting("The table, as Markdown.", "results/temperature.md")

    def check_place(self) -> None:
        """Check that the model is there; see `Settings.check_place`."""
        fix = "Pass --model=FILE."
        require(Path(self.model).is_file(), "model", got=repr(self.model), expected="a .keras file", fix=fix)


def evaluate(study: Temperatures) -> None:
    """Evaluate the model at every temperature and write the table."""
    classifier, test = load_classifier(study.model), data.load("digits").test
    attack = Experiment.of("digits").test_attack()
    rows = []
    for temperature in TEMPERATURES:
        scaled = at_temperature(classifier, temperature)
        found = evaluate_robustness(scaled, test, attack, alpha_test=(), verbose=0)
        strong = found.A_strong
        assert strong is not None  # there is a suite
        accuracies = [f"{100 * accuracy.value:.1f}" for accuracy in (found.A_nat, found.A_rob, strong)]
        rows.append([f"{temperature:g}", *accuracies, str(found.zero_gradients)])
    header = ["temperature", "A_nat (%)", "A_rob (%)", "A_strong (%)", "images without a gradient"]
    head = f"# Logits divided by a temperature\n\n{made_by('studies.temperature')}, seed 0, all 599 test images."
    publish([head, report.format_table(header, rows, markdown=True)], study.page)


if __name__ == "__main__":
    Command(Temperatures, evaluate)()
