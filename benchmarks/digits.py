"""What the weights do on the digits over several seeds, as trained and with equal confidence.

python -m benchmarks.digits --seeds=5 --output=results/digits.md

Trains natural, TRADES and weighted TRADES for each seed (a finished run of the same settings is not repeated, any other
in its folder is replaced), then evaluates the two TRADES models again at one mean top probability on clean validation
images, since smaller logits alone raise A_sa.
"""

import datetime
import json
import shlex
import shutil
import statistics
import sys
from pathlib import Path

from absl import app, flags

from benchmarks.matched import confidence, with_confidence
from trainers import run
from trainers.config import Experiment
from wmr_tf import data, report
from wmr_tf.evaluation import Robustness, evaluate_robustness

ALPHA_TEST = 2.0
DEFENCES = {"natural": ("natural", 0.0), "TRADES": ("trades", 0.0), "TRADES+ours": ("trades", 2.0)}

_SEEDS = flags.DEFINE_integer("seeds", 5, "How many seeds, from 0.", lower_bound=2)
_RUNS = flags.DEFINE_string("runs", "runs/digits_seeds", "Folder of the runs.")
_OUTPUT = flags.DEFINE_string("output", "results/digits.md", "The table, as Markdown.")


def measure(seed: int, splits: data.Splits) -> dict[str, dict[str, float]]:
    """Returns for each defence its numbers as trained, and for the TRADES models at equal confidence."""
    measured = {}
    classifiers = {}
    for defence, (method, alpha) in DEFENCES.items():
        folder = Path(_RUNS.value) / f"{defence}-{seed}"
        experiment = Experiment.of("digits", method, alpha_train=alpha, seed=seed, output_dir=str(folder))
        if not run.is_finished(experiment, folder):
            shutil.rmtree(folder, ignore_errors=True)
            run.train(experiment)
        metrics = json.loads((folder / "metrics.json").read_text())
        classifiers[defence] = run.load_classifier(folder / run.BEST)
        at_alpha = next(row for row in metrics["non_uniform"] if row["alpha_test"] == ALPHA_TEST)
        measured[defence] = {
            "top": confidence(classifiers[defence], splits),
            **{name: metrics[name] for name in ("A_nat", "A_rob")},
            **{name: at_alpha[name] for name in ("A_sa", "A_tr")},
        }
    result = evaluate_robustness(
        with_confidence(classifiers["TRADES+ours"], splits, measured["TRADES"]["top"]),
        splits.test,
        Experiment.of("digits").test_attack(),
        alpha_test=[ALPHA_TEST],
        seed=seed,
    )
    measured["TRADES+ours, confidence of TRADES"] = {"top": measured["TRADES"]["top"], **numbers(result)}
    return measured


def numbers(result: Robustness) -> dict[str, float]:
    """Returns the four accuracies at ALPHA_TEST."""
    accuracies = {
        "A_nat": result.A_nat,
        "A_rob": result.A_rob,
        "A_sa": result.A_sa(ALPHA_TEST),
        "A_tr": result.A_tr(ALPHA_TEST),
    }
    return {name: accuracy.value for name, accuracy in accuracies.items()}


def spread(values: list[float]) -> str:
    """Returns mean and standard deviation over seeds, in percent."""
    return f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f}"


def tables(measured: list[dict[str, dict[str, float]]]) -> str:
    """Returns the table of the defences, and that of the differences to TRADES, seed by seed."""
    names = ["A_nat", "A_rob", "A_sa", "A_tr"]
    header = ["Defense", *(f"{name} (%)" for name in names), "mean top probability (%)"]
    rows = [
        [defence, *(spread([of[defence][name] for of in measured]) for name in [*names, "top"])]
        for defence in measured[0]
    ]
    gains = [
        [f"{ours} - TRADES", *(spread([of[ours][name] - of["TRADES"][name] for of in measured]) for name in names)]
        for ours in measured[0]
        if ours.startswith("TRADES+ours")
    ]
    return (
        report.format_table(header, rows, markdown=True)
        + "\n\nDifferences, taken seed by seed:\n\n"
        + report.format_table(header[:-1], gains, markdown=True)
    )


def main(argv: list[str]) -> None:
    """Trains, evaluates and writes the table."""
    del argv
    splits = data.load("digits")
    measured = [measure(seed, splits) for seed in range(_SEEDS.value)]
    command = shlex.join(["python", "-m", "benchmarks.digits", *sys.argv[1:]])
    attack = Experiment.of("digits").test_attack()
    text = (
        f"# The digits over {_SEEDS.value} seeds\n\n"
        f"`{command}`, seeds 0 to {_SEEDS.value - 1}, {datetime.date.today()}. All 599 test images, {attack}, "
        f"alpha_test {ALPHA_TEST:g}; mean ± standard deviation over seeds.\n\n{tables(measured)}\n"
    )
    Path(_OUTPUT.value).write_text(text)
    print(text)


if __name__ == "__main__":
    app.run(main)
