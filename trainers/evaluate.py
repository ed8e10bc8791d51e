"""Evaluate a saved classifier on test images under uniform and non-uniform attackers.

python -m trainers.evaluate --model=runs/NAME/best.keras --dataset=mnist
"""

from pathlib import Path
from typing import Any

from trainers import run
from trainers.cli import main
from trainers.config import ModelEvaluation
from trainers.folder import CONFIG, make_folder
from trainers.naming import training_facts
from wmr_tf import data
from wmr_tf.saving import load_classifier, read_json


def evaluate(settings: ModelEvaluation) -> None:
    """Evaluate `settings.model`, print the table, and write metrics.json and robustness.png."""
    path = Path(settings.model).expanduser()
    classifier = load_classifier(path)
    facts = {"checkpoint": str(path), **training_facts(config_beside(path))}
    test = run.first_images(data.load(settings.dataset, data_dir=settings.data_dir).test, settings.eval_examples)
    run.check_fits(classifier, test)
    folder = make_folder(settings, f"evaluation-{settings.dataset}-{path.stem}")
    run.evaluate(settings, test, classifier, folder, facts)
    print(f"Written into {folder}")


def config_beside(path: Path) -> dict[str, Any]:
    """Return the config.json of the run that a model is from, nothing if there is none beside it.

    Raises:
        InvalidInput: If it is not a JSON object.
    """
    config = path.parent / CONFIG
    fix = "Fix it, or move it away from the model to evaluate without it."
    return read_json(config, CONFIG, fix=fix) if config.exists() else {}


if __name__ == "__main__":
    main(ModelEvaluation, evaluate)
