"""Evaluate a saved classifier on test images under uniform and non-uniform attackers.

python -m trainers.evaluate --model=runs/NAME/best.keras --dataset=mnist
"""

from pathlib import Path
from typing import Any

from trainers import run
from trainers.cli import main
from trainers.config import ModelEvaluation
from wmr_tf import data


def evaluate(settings: ModelEvaluation) -> None:
    """Evaluate `settings.model`, print the table, and write metrics.json and robustness.png."""
    path = Path(settings.model).expanduser()
    classifier = run.load_classifier(path)
    facts = {"checkpoint": str(path), **run.training_facts(config_beside(path))}
    test = run.first_images(data.load(settings.dataset, data_dir=settings.data_dir).test, settings.eval_examples)
    run.check_fits(classifier, test)
    folder = run.make_folder(settings, f"evaluation-{settings.dataset}-{path.stem}")
    run.evaluate(settings, test, classifier, folder, facts)
    print(f"Written into {folder}")


def config_beside(path: Path) -> dict[str, Any]:
    """Return the config.json of the run that a model is from, nothing if there is none beside it.

    Raises:
        InvalidInput: If it is not a JSON object.
    """
    config = path.parent / "config.json"
    fix = "Fix it, or move it away from the model to evaluate without it."
    return run.read_json(config, "config.json", fix=fix) if config.exists() else {}


if __name__ == "__main__":
    main(ModelEvaluation, evaluate)
