"""Compare two models under attack at equal confidence, since smaller logits alone raise A_sa.

python -m trainers.matched runs/BASELINE/best.keras runs/OTHER/best.keras --dataset=mnist --eval_examples=2000

Divides the other model's logits by the temperature at which its mean top probability on clean validation images is the
baseline's, and evaluates both models, and the other one also as it is.
"""

from collections.abc import Iterable

import keras
from absl import app, flags

from trainers.classifiers import check_fits
from trainers.cli import fail, parse
from trainers.config import Evaluation
from trainers.testing import first_images
from wmr_tf import data, report
from wmr_tf.checks import InvalidInput, require
from wmr_tf.evaluation import Robustness, evaluate_robustness
from wmr_tf.evaluation.temperature import at_temperature, mean_top_probability, temperature_for
from wmr_tf.saving import load_classifier

_DATASET = flags.DEFINE_string("dataset", "mnist", "Data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where tensorflow-datasets keeps prepared data.")
_EXAMPLES = flags.DEFINE_integer("eval_examples", None, "How many test images to evaluate, the first ones.")
_TRUST = flags.DEFINE_bool("trust", False, "Load models that hold code; only files whose author you trust.")


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
            cells.append([label + " MASKED" * result.is_masked, f"{100 * top:.2f}", f"{alpha:g}", *shown])
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
    splits = data.load(settings.dataset, data_dir=settings.data_dir)
    test = first_images(splits.test, settings.eval_examples)
    files = {"baseline": baseline, "other": other}
    models = {label: load_classifier(file, trust=settings.trust) for label, file in files.items()}
    for model in models.values():
        check_fits(model, test)
    top = confidence(models["baseline"], splits)
    models["other, confidence of the baseline"] = with_confidence(models["other"], splits, top)
    rows = []
    for label, model in models.items():
        result = evaluate_robustness(model, test, settings.test_attack(), alpha_test=settings.alpha_test)
        rows.append((label, confidence(model, splits), result))
    return table(rows)


def matched(argv: list[str]) -> None:
    """Evaluate the two models named on the command line and print the table."""
    try:
        fix = "Write python -m trainers.matched BASELINE.keras OTHER.keras."
        require(len(argv) == 3, "command line", got=f"{len(argv) - 1} models", expected="two", fix=fix)
        settings = Evaluation.of(
            _DATASET.value, data_dir=_DATA_DIR.value, eval_examples=_EXAMPLES.value, trust=_TRUST.value
        )
        print(evaluate(settings, *argv[1:]))
    except InvalidInput as mistake:
        fail(str(mistake))


if __name__ == "__main__":
    app.run(matched, flags_parser=parse)
