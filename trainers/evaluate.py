"""Evaluate a saved classifier on test images under uniform and non-uniform attackers.

python -m trainers.evaluate --model=runs/NAME/best.keras --dataset=mnist
"""

import json
from pathlib import Path
from typing import Any

from trainers import run
from trainers.cli import main
from trainers.config import ModelEvaluation
from wmr_tf import data


def evaluate(settings: ModelEvaluation) -> None:
    """Evaluates `settings.model`, prints the table, and writes metrics.json and robustness.png."""
    path = Path(settings.model).expanduser()
    classifier = run.load_classifier(path)
    test = data.load(settings.dataset, data_dir=settings.data_dir).test
    run.check_fits(classifier, test)
    folder = run.make_folder(settings, f"evaluation-{settings.dataset}-{path.stem}")
    run.evaluate(settings, test, classifier, folder, {"checkpoint": str(path), **training_facts(path)})
    print(f"Written into {folder}")


def training_facts(path: Path) -> dict[str, Any]:
    """Returns what config.json beside the model says of its training, None for what is not known."""
    names = ("method", "alpha_train", "beta", "seed", "precision")
    config = path.parent / "config.json"
    known = json.loads(config.read_text()) if config.is_file() else {}
    return {name: known.get(name) for name in names}


if __name__ == "__main__":
    main(ModelEvaluation, evaluate)
