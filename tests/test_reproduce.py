"""The paper's tables as rows, budgets as numbers of passes, and the settings that follow from both."""

import dataclasses
import re
from pathlib import Path

import pytest

from reproduce.budgets import BUDGETS, Minutes
from reproduce.jobs import Job
from reproduce.passes import DATA, minutes_of, passes_of
from reproduce.rows import TABLES, Model, alphas_of
from reproduce.settings import Reproduction
from trainers.settings.config import Experiment
from trainers.settings.recipes import recipe
from wmr_tf.names import ARCHITECTURES

PAPER = Path(__file__).resolve().parents[2] / "shared" / "paper.txt"
HAVE_THIN = pytest.mark.skipif("thin_resnet" not in ARCHITECTURES, reason="no thin ResNet yet")


def rows_as_printed(table):
    """Return the cells of a table's rows, as the paper's text has them."""
    cells = []
    for row in table.rows:
        alpha = str(row.model.alpha_train) if row.model.alpha_train else "-"
        before = [alpha, str(row.alpha_test)] if row.alpha_test else [f"{row.beta:g}" if row.beta else "-", alpha]
        name = row.defence.replace("+weights", "+ours")  # the paper's own name
        cells.append([name, *before, *(f"{figure:.2f}" for figure in row.figures.values())])
    return cells


def test_every_row_is_as_the_paper_prints_it():
    if not PAPER.is_file():
        pytest.skip(f"no text of the paper in {PAPER}")
    blocks = re.split(r"^Table (\d): .*$", PAPER.read_text(), flags=re.MULTILINE)
    for before, number in zip(blocks[::2], blocks[1::2], strict=False):
        lines = before[before.rindex("Defense\t") :].splitlines()[1:]
        printed = [line.split("\t") for line in lines if "\t" in line]
        assert rows_as_printed(TABLES[int(number)]) == printed, number
    assert sorted(blocks[1::2]) == list("12345")


@pytest.mark.parametrize(("number", "rows", "models", "total"), [
    (1, 12, 4, 2721.59), (2, 12, 4, 1149.31), (3, 16, 4, 931.17), (4, 12, 12, 1596.07), (5, 13, 13, 857.96),
])  # fmt: skip
def test_the_tables_add_up(number, rows, models, total):
    table = TABLES[number]
    assert (len(table.rows), len(table.models)) == (rows, models)
    assert sum(sum(row.figures.values()) for row in table.rows) == pytest.approx(total)


def test_a_model_of_two_tables_is_one():
    names = [{model.name for model in TABLES[number].models} for number in (2, 4)]
    assert names[0] & names[1] == {"pgd", "trades", "trades-alpha2"} and "pgd-alpha2" not in names[1]
    assert set(TABLES[3].models) < set(TABLES[5].models)
    assert alphas_of(Model("tiny_imagenet", "pgd", 0.3)) == (0.5, 1.0, 1.5, 2.0)
    assert alphas_of(Model("cifar10", "iaat")) == (1.0,)


def test_the_recipes_train_with_the_beta_that_the_paper_prints():
    printed = {(row.model.dataset, row.beta) for table in TABLES.values() for row in table.rows if row.beta}
    assert printed == {(data, recipe(data, "trades")["beta"]) for data in ("cifar10", "tiny_imagenet")}


@pytest.mark.parametrize(("method", "settings", "passes"), [
    ("natural", {}, 2),
    ("trades", {"attack_steps": 8, "coarse": 0.5}, 9),  # half of the epochs with 2 steps
    ("pgd", {"attack_steps": 7}, 9),
    ("trades", {"attack_steps": 7}, 11),
    ("pgd", {"attack_steps": 7, "warm_start": 8}, 13),  # eight replays before, of two passes, over four rounds
    ("trades", {"attack_steps": 7, "awp": 0.005}, 15),
    ("natural", {"awp": 0.005}, 4),
    ("free", {"replays": 8}, 16),
    ("yopo", {"passes": 5}, 10),
    ("iaat", {"attack_steps": 10, "radius_warmup": 0.0}, 32),
    ("iaat", {"attack_steps": 10, "radius_warmup": 0.5}, 22),
])  # fmt: skip
def test_what_a_round_costs(method, settings, passes):
    rounds = 4 * settings.get("replays", 1)
    run = Experiment.of("digits", method, alpha_train=0.0, epochs=rounds, train_examples=100, **settings)
    assert passes_of(run) == 400 * passes


@pytest.fixture
def _recipe_of_the_paper(monkeypatch):
    """Have budgets change nothing of the recipe but the epochs, whatever the recipe fast is today."""
    monkeypatch.setattr("reproduce.budgets.FAST", "paper")


@pytest.mark.usefixtures("_recipe_of_the_paper")
def test_a_budget_pays_for_whole_epochs():
    # 60 s at 90,000 a second are 5.4 million passes; an epoch of TRADES-10 on 1,000 digits takes 14,000.
    minute = Minutes("one", 1.0)
    for_digits = minute.settings_of(Model("digits", "trades", 2.0), train_examples=1000)
    settings = {"recipe": "paper", "architecture": "digits_cnn", "train_examples": 1000, "epochs": 385}
    assert for_digits == {**settings, "eval_every": 97}  # epochs 97, 194, 291 and 385
    # Free with 4 replays: 8,000 passes a round, 675 rounds, which are four epochs each.
    assert minute.settings_of(Model("digits", "free"), train_examples=1000)["epochs"] == 2700
    # Where it does not pay for an epoch, 12,000 passes of PGD-10, there are fewer images.
    seconds = Minutes("few", 6_000 / 90_000 / 60).settings_of(Model("digits", "pgd"), train_examples=1000)
    assert (seconds["epochs"], seconds["train_examples"]) == (1, 500)
    of_free = Minutes("few", 4_000 / 90_000 / 60).settings_of(Model("digits", "free"), train_examples=1000)
    assert (of_free["epochs"], of_free["train_examples"]) == (4, 500)
    assert Minutes("none", 1e-6).settings_of(Model("digits", "pgd"))["train_examples"] == 1


@pytest.mark.usefixtures("_recipe_of_the_paper")
def test_the_budgets_of_mnist():
    # TRADES-40: 44 passes on 55,000 images, 2.42 million an epoch; 900,000 passes a minute.
    epochs = [BUDGETS[name].settings_of(Model("mnist", "trades", 2.0))["epochs"] for name in list(BUDGETS)[:4]]
    assert epochs == [1, 5, 22, 89]
    assert BUDGETS["paper"].settings_of(Model("mnist", "trades", 2.0)) == {}
    paper = Experiment.of("mnist", "trades")
    assert passes_of(paper) == 100 * 44 * 55_000
    assert minutes_of(paper) == pytest.approx(242e6 / 900_000)


def test_a_tenth_of_an_epoch_is_the_papers_recipe_on_fewer_images():
    tenth = BUDGETS["tenth"]
    changes = {"epochs": 1, "train_examples": 4_500, "validation_examples": 100, "eval_examples": 100}
    assert tenth.settings_of(Model("cifar10", "trades", 2.0)) == changes
    assert tenth.settings_of(Model("cifar10", "free")) == {**changes, "epochs": 8}  # one round
    of_fewer = tenth.settings_of(Model("tiny_imagenet", "trades"), train_examples=9_000)
    assert of_fewer == {**changes, "train_examples": 900}
    run = Experiment.of("cifar10", "trades", alpha_train=2.0, **tenth.settings_of(Model("cifar10", "trades", 2.0)))
    assert run.architecture == "resnet18"
    assert "10 % of the training images, evaluated on 100 test images" in tenth.told(TABLES[2])


def test_who_evaluates_few_images_has_the_suite_attack_no_more():
    cifar10 = Model("cifar10", "trades", 2.0)
    for given, evaluated, attacked in [
        (Reproduction(table=2), None, 1000),
        (Reproduction(table=2, budget="tenth"), 100, 100),
        (Reproduction(table=2, budget="tenth", eval_examples=50, suite_examples=20), 50, 20),
    ]:
        job = Job(cifar10, 0, given)
        assert (job.experiment.eval_examples, job.attack["eval_examples"]) == (evaluated, attacked)


def test_a_budget_tells_all_that_it_changes():
    told = BUDGETS["minutes"].told(TABLES[4])
    shown = "attack_steps (2 for 10), attack_step_size (0.031, 0.0186 for 0.007)"  # free steps by epsilon
    for part in (shown, "architecture (thin_resnet for resnet18)", "averaging (0.99 for none)", "comes on top"):
        assert part in told
    assert "precision" not in told and "train_examples" not in told


def test_free_is_charged_for_its_rounds():
    run = Experiment.of("digits", "free", alpha_train=0.0, epochs=6, replays=4)  # two rounds of four replays
    assert passes_of(run) == 2 * 8 * 1_078


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("number", [1, *(pytest.param(number, marks=HAVE_THIN) for number in (2, 3, 4, 5))])
def test_every_row_has_settings(number, budget):
    for model in TABLES[number].models:
        changes = BUDGETS[budget].settings_of(model)
        run = Experiment.of(model.dataset, model.method, alpha_train=model.alpha_train, **changes)
        assert run.architecture in DATA[model.dataset].rates
        if isinstance(BUDGETS[budget], Minutes):
            paid = 60 * BUDGETS[budget].minutes * DATA[model.dataset].rates[run.architecture]
            longer = dataclasses.replace(run, epochs=run.epochs + (run.replays or 1))
            assert run.rounds == 1 or passes_of(run) <= paid
            assert passes_of(longer) > paid


@pytest.mark.slow
def test_the_numbers_of_images_are_those_of_the_data(tfds_dir):
    from wmr_tf import data

    splits = data.load("mnist", data_dir=tfds_dir)
    assert splits.train_examples == DATA["mnist"].train_examples
    assert sum(len(labels) for _, labels in splits.test) == DATA["mnist"].test_examples
    assert data.load("digits").train_examples == DATA["digits"].train_examples
