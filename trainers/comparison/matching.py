"""Two models under attack at equal confidence: what `python -m trainers.matched` does."""

from collections.abc import Iterable

import keras

from trainers.matched import Pair
from trainers.runs.classifiers import check_fits
from trainers.runs.testing import first_images
from trainers.settings.evaluation import Evaluation
from wmr_tf import data, report
from wmr_tf.evaluation import Robustness, evaluate_robustness
from wmr_tf.evaluation.temperature import at_temperature, mean_top_probability, temperature_for
from wmr_tf.report.words import MASKED
from wmr_tf.saving import load_classifier


def confidence(classifier: keras.Model, splits: data.Splits) -> float:
    """Return the mean top probability on clean validation images."""
    return mean_top_probability(classifier.predict(splits.validation, verbose=0))


def with_confidence(classifier: keras.Model, splits: data.Splits, top_probability: float) -> keras.Model:
    """Return the classifier with its logits divided so that its mean top probability is `top_probability`."""
    logits = classifier.predict(splits.validation, verbose=0)
    return at_temperature(classifier, temperature_for(logits, top_probability))


def table(rows: Iterable[tuple[str, float, Robustness]]) -> str:
    """Return the Markdown table of `(label, mean top probability, result)` rows, by alpha_test, with who is masked."""
    header = ["Model", "mean top probability (%)", "alpha_test"]
    header += [f"{name} (%)" for name in ("A_rob", "A_strong", "A_sa", "A_tr")]
    cells = []
    for label, top, result in rows:
        for alpha in result.weighted_margins:
            accuracies = result.A_rob, result.A_strong, result.A_sa(alpha), result.A_tr(alpha)
            shown = [str(each).removesuffix(" %") if each else "-" for each in accuracies]
            cells.append([label + MASKED * result.is_masked, f"{100 * top:.2f}", f"{alpha:g}", *shown])
    return report.format_table(header, cells, markdown=True)


def evaluate(settings: Evaluation, baseline: str, other: str) -> str:
    """Return the table of the baseline, the other model, and the other at the baseline's confidence.

    Args:
        settings: The data and the test attack.
        baseline: The `.keras` file of the model whose confidence both get.
        other: That of the model which is brought to it.

    Raises:
        InvalidInput: If data or models are not what they should be.
    """
    source = settings.source()
    splits = data.load(source, data_dir=settings.data_dir)
    test = first_images(splits.test, settings.eval_examples)
    files = {"baseline": baseline, "other": other}
    models = {label: load_classifier(file, trust=settings.trust) for label, file in files.items()}
    for model in models.values():
        check_fits(model, test, source.num_classes)
    top = confidence(models["baseline"], splits)
    models["other, confidence of the baseline"] = with_confidence(models["other"], splits, top)
    rows = []
    for label, model in models.items():
        result = evaluate_robustness(model, test, settings.test_attack(), alpha_test=settings.alpha_test)
        rows.append((label, confidence(model, splits), result))
    return table(rows)


def compare(pair: Pair) -> None:
    """Evaluate two models and print the table.

    Raises:
        InvalidInput: If data or models are not what they should be.
    """
    print(evaluate(pair.evaluation(), *pair.models))
