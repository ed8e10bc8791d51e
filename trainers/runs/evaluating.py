"""The evaluation of a saved classifier: what `python -m trainers.evaluate` does."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

from trainers.runs import testing
from trainers.runs.classifiers import check_fits
from trainers.runs.folder import CONFIG, FILES, OUTCOMES, make_folder
from trainers.runs.naming import defence, training_facts
from trainers.runs.strategy import make_strategy, only_the_chief_writes
from trainers.runs.testing import prepare, tell_of_missing_report
from trainers.settings.config import ModelEvaluation
from wmr_tf import data, diagnose
from wmr_tf.data.own import short_name
from wmr_tf.fit.interrupts import own_command, stoppable
from wmr_tf.saving import forget_unfinished, load_classifier, read_json
from wmr_tf.untrusted import well_formed


def evaluate(settings: ModelEvaluation) -> None:
    """Evaluate `settings.model`, print the tables, and write metrics.json, report.html and what belongs to them."""
    strategy = make_strategy(settings.strategy)
    path = Path(settings.model).expanduser()
    with strategy.scope():
        classifier = load_classifier(path, trust=settings.trust)
    facts = facts_beside(path, settings.dataset)
    source = settings.source()
    test = prepare(settings, data.load(source, data_dir=settings.data_dir))
    check_fits(classifier, test.images, source.num_classes)
    with only_the_chief_writes(strategy) as elsewhere:
        own = dataclasses.replace(settings, output_dir=elsewhere or settings.output_dir)
        tell_of_missing_report()
        folder = make_folder(own, f"evaluation-{short_name(settings.dataset)}-{path.stem}")
        forget_unfinished(folder, FILES)
        # All workers go on from the chief's file.
        outcomes = (Path(settings.output_dir).expanduser() if settings.output_dir else folder) / OUTCOMES
        flag = shlex.quote(f"--output_dir={folder}")
        print(f"Writing into {folder}; the same command with {flag} goes on if it is stopped", flush=True)
        command = own_command() + ("" if settings.output_dir else f" {flag}")
        with stoppable(f"{folder} keeps what the evaluation has found", command):
            if settings.diagnose:
                diagnosis = diagnose(
                    classifier,
                    test.images,
                    epsilon=settings.eval_epsilon,
                    norm=settings.eval_norm,
                    batch_size=settings.eval_batch_size,
                    seed=settings.seed,
                )
                print(diagnosis)
                facts["diagnosis"] = diagnosis.metrics()
            testing.evaluate(settings, test, classifier, folder, facts, outcomes)
            testing.tell_files(folder)


def facts_beside(path: Path, dataset: str) -> dict[str, Any]:
    """Return what metrics.json says of a model and its training, as far as a config.json beside it tells.

    Raises:
        InvalidInput: If that is not of a run.
    """
    config = path.parent / CONFIG
    fix = "Fix it, or move it away from the model to evaluate without it."
    with well_formed(CONFIG, got=config, expected="settings of a run", fix=fix):
        found = read_json(config, CONFIG, fix=fix) if config.exists() else {}
        facts = {"checkpoint": str(path), **training_facts(found)}
        defence({"dataset": dataset, **facts})  # now rather than after the evaluation
    return facts
