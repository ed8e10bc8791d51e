"""The recipes against a table, the settings' checks, and the command lines that are made from them."""

import dataclasses
import math
import sys
from pathlib import Path
from unittest import mock

import pytest
from absl import flags

from trainers import cli
from trainers.settings import recipes
from trainers.settings.config import Experiment, ModelEvaluation
from trainers.settings.evaluation import Evaluation
from trainers.settings.method import METHOD_SETTINGS
from wmr_tf import attacks, data, methods
from wmr_tf.checks import InvalidInput
from wmr_tf.weights import Exponential

# The recipes of PGD and TRADES, row by row (see ARCHITECTURE.md): alpha_train, beta, epsilon, training attack, start,
# learning rate, weight decay, drop, milestones, test attack.
TABLE = {
    ("mnist", "trades"): (2.0, 6, 0.3, (40, 0.01), "gaussian", 0.01, 0, 0.1, (0.55, 0.75, 0.90), (40, 0.01)),
    ("mnist", "pgd"): (0.5, None, 0.3, (40, 0.01), "uniform", 0.01, 5e-4, 0.2, (0.60,), (40, 0.01)),
    ("cifar10", "trades"): (2.0, 5, 0.031, (10, 0.007), "gaussian", 0.2, 2e-4, 0.1, (0.75, 0.90), (20, 0.003)),
    ("cifar10", "pgd"): (2.0, None, 0.031, (10, 0.007), "uniform", 0.2, 5e-4, 0.2, (0.60,), (20, 0.003)),
    ("tiny_imagenet", "trades"): (5.0, 6, 0.016, (10, 0.004), "gaussian", 0.1, 2e-4, 0.1, (0.75, 0.90), (10, 0.004)),
    ("tiny_imagenet", "pgd"): (0.3, None, 0.016, (10, 0.004), "uniform", 0.1, 5e-4, 0.1, (0.75, 0.90), (10, 0.004)),
}


@pytest.mark.parametrize(("dataset", "method"), TABLE)
def test_recipes_are_those_of_the_table(dataset, method):
    alpha, beta, epsilon, (steps, size), start, rate, decay, drop, milestones, test = TABLE[dataset, method]
    experiment = Experiment.of(dataset, method)
    assert (
        dataclasses.asdict(experiment).items()
        >= {
            "alpha_train": alpha,
            "beta": beta,
            "learning_rate": rate,
            "weight_decay": decay,
            "learning_rate_drop": drop,
            "milestones": milestones,
            "epochs": 100,
            "batch_size": 128,
            "architecture": {"mnist": "small_cnn"}.get(dataset, "resnet18"),
            "validation_examples": 1000,
        }.items()
    )
    trained = experiment.make_method()
    assert type(trained) is {"pgd": methods.PGD, "trades": methods.TRADES}[method]
    assert trained.attack == attacks.PGD(epsilon=epsilon, step_size=size, steps=steps, start=start)
    assert (trained.weighting, getattr(trained, "beta", None)) == (Exponential(alpha), beta)
    tested = attacks.PGD(epsilon=epsilon, step_size=test[1], steps=test[0], start="uniform")
    assert experiment.test_attack() == tested


@pytest.mark.parametrize("dataset", data.SOURCES)
def test_every_data_set_has_a_recipe_for_every_method(dataset):
    for method in methods.BY_NAME:
        assert type(Experiment.of(dataset, method).make_method(examples=1)) is methods.BY_NAME[method]
    natural, pgd = Experiment.of(dataset, "natural"), Experiment.of(dataset, "pgd")
    assert natural.alpha_train == 0
    assert natural.test_attack() == pgd.test_attack()
    assert (natural.learning_rate, natural.weight_decay) == (pgd.learning_rate, pgd.weight_decay)


def rates(experiment: Experiment) -> list[float]:
    return [experiment.learning_rate_at(epoch) for epoch in range(experiment.epochs)]


@pytest.mark.parametrize(
    ("dataset", "method", "by_epoch"),
    [
        ("mnist", "trades", [0.01] * 55 + [0.001] * 20 + [0.0001] * 15 + [0.00001] * 10),
        ("mnist", "pgd", [0.01] * 60 + [0.002] * 40),
        ("cifar10", "trades", [0.2] * 75 + [0.02] * 15 + [0.002] * 10),
        ("cifar10", "pgd", [0.2] * 60 + [0.04] * 40),
    ],
)
def test_the_learning_rate_falls_at_the_milestones(dataset, method, by_epoch):
    assert rates(Experiment.of(dataset, method)) == pytest.approx(by_epoch)
    # A run of a fifth of the length has the same shape.
    assert rates(Experiment.of(dataset, method, epochs=20)) == pytest.approx(by_epoch[::5])


def test_a_milestone_within_an_epoch_rounds_half_upwards():
    # 0.75 * 30 = 22.5 and 0.25 * 30 = 7.5; Python's round would give 22 and 8, one down and one up.
    experiment = Experiment.of("digits", epochs=30, learning_rate=1.0, learning_rate_drop=0.5, milestones=(0.25, 0.75))
    assert rates(experiment) == [1.0] * 8 + [0.5] * 15 + [0.25] * 7


def test_without_milestones_the_learning_rate_stays():
    experiment = settings_of(Experiment, "--milestones=", "--learning_rate=0.5", dataset="digits")
    assert experiment.milestones == () and set(rates(experiment)) == {0.5}


def test_training_and_evaluation_have_settings_of_their_own():
    training = {
        "epsilon": 0.1,
        "attack_steps": 3,
        "attack_step_size": 0.05,
        "attack_start": "uniform",
        "alpha_train": 1,
    }
    evaluation = {"eval_epsilon": 0.2, "eval_attack_steps": 7, "eval_attack_step_size": 0.06, "alpha_test": (3.0,)}
    recipe = Experiment.of("mnist")
    assert Experiment.of("mnist", **training).test_attack() == recipe.test_attack()
    assert Experiment.of("mnist", **training).alpha_test == recipe.alpha_test
    assert Experiment.of("mnist", **evaluation).make_method().attack == recipe.make_method().attack
    assert Experiment.of("mnist", **evaluation).alpha_train == recipe.alpha_train


def test_norms_of_training_and_evaluation_are_their_own():
    training = {"norm": "l1", "epsilon": 5.0, "attack_step_size": 1.0}
    evaluation = {"eval_norm": "l2", "eval_epsilon": 1.5, "eval_attack_step_size": 0.2}
    recipe, changed = Experiment.of("mnist", "pgd"), Experiment.of("mnist", "pgd", **training, **evaluation)
    trained, tested = changed.make_method().attack, changed.test_attack()
    assert (trained.norm, trained.epsilon, trained.step_size) == ("l1", 5.0, 1.0)
    assert (tested.norm, tested.epsilon, tested.step_size) == ("l2", 1.5, 0.2)
    assert recipe.make_method().attack.norm == recipe.test_attack().norm == "linf"


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"norm": "l2"}, "--epsilon"),
        ({"norm": "l2", "attack_step_size": 0.2}, "--epsilon"),
        ({"eval_norm": "l1", "eval_attack_step_size": 1.0}, "--eval_epsilon"),
    ],
)
def test_who_changes_the_norm_gives_a_radius(changes, missing):
    (norm, value), *_ = changes.items()
    with pytest.raises(InvalidInput, match=rf"^{norm}: got {value} without {missing}, .+Pass {missing} too"):
        Experiment.of("digits", **changes)


def test_the_attack_with_an_average_budget_has_a_step_size_of_its_own():
    settings = {"eval_wasserstein_p": 2.0, "eval_epsilon": 0.3, "eval_attack_steps": 40}
    attack = Experiment.of("mnist", **settings).wasserstein_attack()
    assert (attack.epsilon, attack.steps, attack.p) == (0.3, 40, 2.0)
    assert attack.reach == pytest.approx(1.5)
    assert Experiment.of("mnist", **{**settings, "eval_epsilon": 0.0}).wasserstein_attack().epsilon == 0
    assert Experiment.of("mnist").wasserstein_attack() is None


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [
        ("pgd", "beta", 6.0),
        ("fast", "beta", 6.0),
        ("mixed", "beta", 6.0),
        ("mart", "adversarial_weight", 1.0),
        ("natural", "weighting", "exponential:normalize=true"),
        ("natural", "beta", 6.0),
        ("natural", "norm", "l2"),
        ("natural", "epsilon", 0.1),
        ("natural", "attack_steps", 10),
        ("natural", "attack_step_size", 0.1),
        ("natural", "attack_start", "uniform"),
    ],
)
def test_a_setting_that_the_method_does_not_take_is_refused(method, name, value):
    with pytest.raises(InvalidInput, match=f"^{name}: got .* since method '{method}' has no .*Leave out --{name}"):
        Experiment.of("digits", method, **{name: value})
    assert name in METHOD_SETTINGS


@pytest.mark.parametrize("method", methods.BY_NAME)
def test_a_negative_alpha_goes_by_the_name_of_its_flag(method):
    with pytest.raises(InvalidInput, match="^alpha_train: got -1.0, expected a finite number >= 0. Change alpha_train"):
        Experiment.of("digits", method, alpha_train=-1.0)


@pytest.mark.parametrize(
    ("dataset", "fast", "noisy"),
    [("digits", 0.1875, 0.15), ("mnist", 0.375, 0.3), ("cifar10", 0.03875, 0.031)],
)
def test_one_step_methods_step_by_1p25_epsilon_or_from_noise_by_epsilon(dataset, fast, noisy):
    epsilon = Experiment.of(dataset, "pgd").epsilon
    attack = Experiment.of(dataset, "fast").make_method().attack
    assert attack == attacks.PGD(epsilon=epsilon, step_size=fast, steps=1, start="uniform")
    assert fast == pytest.approx(1.25 * epsilon)
    assert Experiment.of(dataset, "n_fgsm").make_method().attack == attacks.NFGSM(epsilon=epsilon)
    same = Experiment.of(dataset, "fast", attack_start="noise", attack_step_size=noisy).make_method().attack
    assert same == attacks.NFGSM(epsilon=epsilon)


@pytest.mark.parametrize("dataset", data.SOURCES)
@pytest.mark.parametrize("changes", [{}, {"epsilon": 0.04}, {"norm": "l2", "epsilon": 1.5}], ids=str)
def test_lengths_that_are_multiples_of_epsilon_follow_it(dataset, changes):
    expected = {"fast": ("attack_step_size", 1.25), "n_fgsm": ("attack_step_size", 1), "free": ("attack_step_size", 1)}
    for method, (name, times) in expected.items():
        if "norm" in changes and method == "n_fgsm":
            continue
        experiment = Experiment.of(dataset, method, **changes)
        assert getattr(experiment, name) == pytest.approx(times * experiment.epsilon)
        assert Experiment.of(dataset, method, epsilon=0.04, attack_step_size=0.3).attack_step_size == 0.3
    iaat = Experiment.of(dataset, "iaat", **changes)
    assert iaat.epsilon_max == pytest.approx((4 / 3 if dataset == "mnist" else 2) * iaat.epsilon)
    assert iaat.radius_growth == pytest.approx(0.24 * iaat.epsilon)
    assert iaat.make_method(examples=1).epsilon_max == iaat.epsilon_max


@pytest.mark.parametrize(
    ("given", "trained", "tested"),
    [
        ((), (0.3, 0.01), (0.3, 0.01)),
        (("--epsilon=0.15",), (0.15, 0.005), (0.3, 0.01)),
        (("--eval_epsilon=0.6/10",), (0.3, 0.01), (0.06, 0.002)),
        (("--epsilon=0.15", "--attack_step_size=1/255"), (0.15, 1 / 255), (0.3, 0.01)),
        (("--eval_norm=l2", "--eval_epsilon=3"), (0.3, 0.01), (3.0, 0.1)),
        (("--epsilon=0", "--eval_epsilon=0"), (0.0, 0.01), (0.0, 0.01)),  # no step has length 0
    ],
    ids=str,
)
def test_a_radius_alone_takes_its_step_size_along(given, trained, tested):
    experiment = settings_of(Experiment, *given, dataset="mnist", method="pgd")
    assert (experiment.epsilon, experiment.attack_step_size) == pytest.approx(trained)
    assert (experiment.eval_epsilon, experiment.eval_attack_step_size) == pytest.approx(tested)
    # config.json holds what is computed with, and a run that goes on reads the same.
    settings = dataclasses.asdict(experiment)
    assert settings["attack_step_size"] == experiment.make_method().attack.step_size
    assert Experiment.of(**settings) == experiment


def test_numbers_are_read_as_people_write_them():
    lengths = ("epsilon", "attack_step_size", "eval_epsilon", "eval_attack_step_size", "radius_growth", "epsilon_max")
    flags_given = [f"--{name}={nth}/255" for name, nth in zip(lengths, (8, 2, 4, 1, 3, 16), strict=True)]
    experiment = settings_of(Experiment, *flags_given, "--milestones=1/2,0.75", dataset="cifar10", method="iaat")
    assert [getattr(experiment, name) for name in lengths] == [nth / 255 for nth in (8, 2, 4, 1, 3, 16)]
    assert experiment.milestones == (0.5, 0.75)


@pytest.mark.parametrize("dataset", data.SOURCES)
@pytest.mark.parametrize("method", methods.BY_NAME)
def test_no_recipe_has_an_attack_that_cannot_reach_its_ball(dataset, method):
    experiment = Experiment.of(dataset, method)
    experiment.make_method(examples=1)  # a warning is an error here
    assert experiment.test_attack().flags() == []


def test_settings_do_not_warn_of_a_weak_attack_and_the_method_that_trains_does():
    experiment = Experiment.of("digits", attack_steps=1)
    with pytest.warns(UserWarning, match="^attack: its steps reach 0.03 in all and epsilon is 0.15"):
        experiment.make_method()


def test_iaat_needs_the_number_of_images():
    with pytest.raises(InvalidInput, match="^examples: got None, expected a whole number >= 1"):
        Experiment.of("digits", "iaat").make_method()


@pytest.mark.parametrize("method", ["pgd", "trades", "mart", "mixed"])
def test_noise_is_for_one_step(method):
    with pytest.raises(InvalidInput, match=r"^attack_steps: got 10, expected 1 with --attack_start=noise"):
        Experiment.of("digits", method, attack_start="noise")


def test_the_settings_of_mixed_and_mart_reach_the_method():
    assert Experiment.of("digits", "mixed", adversarial_weight=0.25).make_method().adversarial_weight == 0.25
    assert Experiment.of("digits", "mart").make_method().beta == 6.0
    for method in ("pgd", "trades", "mart", "mixed", "fast", "n_fgsm", "free"):
        recipe = Experiment.of("digits", method)
        is_steady = method in (
            "n_fgsm",
            "free",
        )  # the recipes in which the paper's weights end in a constant classifier
        assert recipe.make_method().weighting == Exponential(recipe.alpha_train, normalize=is_steady)
        normalised = Experiment.of("digits", method, weighting="exponential:normalize=true")
        assert normalised.make_method().weighting == Exponential(normalised.alpha_train, normalize=True)


def test_an_unknown_setting_is_refused():
    with pytest.raises(InvalidInput, match="setting: got 'learning_rat'"):
        Experiment.of("digits", learning_rat=0.1)
    with pytest.raises(InvalidInput, match="setting: got 'alpha_train'"):
        Evaluation.of("digits", alpha_train=1.0)


def run_main(run, settings, *arguments, **fixed) -> None:
    """Run a command line in this process, without absl's start-up and forgetting its flags afterwards."""
    before = set(flags.FLAGS)
    start = mock.patch.object(cli.app, "run", lambda started, flags_parser: started(flags_parser(sys.argv)))
    try:
        with start, mock.patch.object(sys, "argv", ["program", *arguments]):
            cli.Command(settings, run, **fixed)()
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)


def settings_of(settings, *arguments, **fixed):
    """Return what a command line is turned into."""
    received = []
    run_main(received.append, settings, *arguments, **fixed)
    return received[0]


# A value for every flag that differs from all defaults, as text and as what it should become.
GIVEN = {
    "dataset": ("mnist", "mnist"),
    "image_size": ("8,9", (8, 9)),
    "color": ("grayscale", "grayscale"),
    "skip_broken": ("true", True),
    "augment": ("crop_flip", "crop_flip"),
    "radii": ("fab+apgd", "fab+apgd"),
    "surrogate": ("other.keras", "other.keras"),
    "budget": ("5,10", (5, 10)),
    "by_class": ("true", True),
    "trust": ("true", True),
    "alpha_test": ("1,2.5", (1.0, 2.5)),
    "eval_norm": ("l1", "l1"),
    "eval_epsilon": ("0.11", 0.11),
    "eval_attack_steps": ("3", 3),
    "eval_attack_step_size": ("0.012", 0.012),
    "eval_restarts": ("2", 2),
    "eval_attack_precision": ("bfloat16", "bfloat16"),
    "eval_wasserstein_p": ("inf", math.inf),
    "suite": ("quick", "quick"),
    "diagnose": ("true", True),
    "select": ("val_A_sa", "val_A_sa"),
    "on_masked": ("stop", "stop"),
    "on_divergence": ("rollback", "rollback"),
    "rho_test": ("0.1,0.5", (0.1, 0.5)),
    "eval_examples": ("50", 50),
    "eval_batch_size": ("32", 32),
    "seed": ("9", 9),
    "data_dir": ("somewhere", "somewhere"),
    "output_dir": ("out", "out"),
    "model": ("best.keras", "best.keras"),
    "method": ("pgd", "pgd"),
    "alpha_train": ("1.25", 1.25),
    "weighting": ("exponential:normalize=true",) * 2,
    "beta": ("3", 3.0),
    "adversarial_weight": ("0.5", 0.5),
    "norm": ("l2", "l2"),
    "epsilon": ("0.2", 0.2),
    "attack_steps": ("4", 4),
    "attack_step_size": ("0.07", 0.07),
    "attack_start": ("uniform", "uniform"),
    "replays": ("3", 3),
    "passes": ("4", 4),
    "split": ("conv", "conv"),
    "radius_growth": ("0.02", 0.02),
    "radius_smoothing": ("0.3", 0.3),
    "radius_warmup": ("0.2", 0.2),
    "epsilon_max": ("0.4", 0.4),
    "eval_every": ("5", 5),
    "epochs": ("6", 6),
    "batch_size": ("64", 64),
    "learning_rate": ("1e-3", 0.001),
    "milestones": ("0.25", (0.25,)),
    "learning_rate_drop": ("0.5", 0.5),
    "recipe": ("fast", "fast"),
    "schedule": ("cosine", "cosine"),
    "clip_norm": ("2", 2.0),
    "averaging": ("0.9", 0.9),
    "epsilon_warmup": ("0.2", 0.2),
    "alpha_warmup": ("0.3", 0.3),
    "coarse": ("0.4", 0.4),
    "warm_start": ("4", 4),
    "awp": ("0.01", 0.01),
    "weight_decay": ("1e-5", 1e-5),
    "architecture": ("resnet18", "resnet18"),
    "precision": ("bfloat16", "bfloat16"),
    "threads": ("tensorflow", "tensorflow"),
    "strategy": ("mirrored", "mirrored"),
    "deterministic": ("true", True),
    "train_examples": ("1000", 1000),
    "validation_examples": ("100", 100),
    "initialize_from": ("a.keras", "a.keras"),
}


# Settings of a folder of images, which other data sets refuse.
OF_FOLDERS = {"image_size", "color", "skip_broken"}

# Settings of free, yopo and iaat, which other methods refuse.
OF_ONE_METHOD = {"replays", "passes", "split", "radius_growth", "radius_smoothing", "radius_warmup", "epsilon_max"}


@pytest.mark.parametrize(
    ("settings", "fixed", "left_out"),
    [
        (
            Experiment,
            {"dataset": "digits"},
            {"dataset", "method", "adversarial_weight", "eval_norm", "warm_start", "awp", "clip_norm"},
        ),  # TRADES
        (
            Experiment,
            {"dataset": "digits"},
            {"dataset", "beta", "adversarial_weight", "eval_wasserstein_p", "strategy"},
        ),
        (ModelEvaluation, {}, {"eval_norm"}),  # an average budget is one in linf
        (ModelEvaluation, {}, {"eval_wasserstein_p"}),
    ],
)
def test_every_setting_is_a_flag(settings, fixed, left_out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("surrogate", "model", "initialize_from"):
        Path(GIVEN[name][0]).touch()
    Path(GIVEN["data_dir"][0]).mkdir()
    names = {field.name for field in dataclasses.fields(settings)} - OF_ONE_METHOD - OF_FOLDERS
    given = {name: GIVEN[name] for name in names - left_out}
    received = settings_of(settings, *(f"--{name}={text}" for name, (text, _) in given.items()), **fixed)
    assert type(received) is settings
    assert dataclasses.asdict(received).items() >= {name: value for name, (_, value) in given.items()}.items()


@pytest.mark.parametrize("flag", ["data", "dataset"])
def test_the_settings_of_a_folder_are_flags_and_say_what_its_images_are(flag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("ant", "bee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "0.png").touch()
    given = [f"--{name}={GIVEN[name][0]}" for name in OF_FOLDERS]
    experiment = settings_of(Experiment, f"--{flag}=photos", *given, "--classifier=resnet18")
    assert (experiment.dataset, experiment.architecture) == ("photos/", "resnet18")
    assert {name: getattr(experiment, name) for name in OF_FOLDERS} == {name: GIVEN[name][1] for name in OF_FOLDERS}
    assert (experiment.source().num_classes, experiment.source().image_shape) == (2, (8, 9, 1))


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("free", ["replays"]),
        ("yopo", ["passes", "split"]),
        ("iaat", ["radius_growth", "radius_smoothing", "radius_warmup", "epsilon_max"]),
    ],
)
def test_the_settings_of_one_method_are_flags_and_reach_it(method, names):
    flags_given = [f"--{name}={GIVEN[name][0]}" for name in names]
    experiment = settings_of(Experiment, f"--method={method}", "--epochs=20", *flags_given, dataset="digits")
    made = experiment.make_method(examples=77)
    expected = {name: GIVEN[name][1] for name in names}
    if method == "iaat":
        expected = {**expected, "warmup_epochs": 0.2 * 20, "examples": 77}
        del expected["radius_warmup"]
    assert {name: getattr(made, name) for name in expected} == pytest.approx(expected)


def test_free_divides_the_epochs_by_the_replays():
    experiment = Experiment.of("cifar10", "free")
    assert (experiment.epochs, experiment.replays, experiment.rounds) == (100, 8, 13)
    changed = Experiment.of("digits", "free", epochs=20, replays=2, milestones=(0.6,), learning_rate_drop=0.5)
    assert changed.rounds == 10
    expected = [changed.learning_rate] * 6 + [changed.learning_rate / 2] * 4
    assert [changed.learning_rate_at(epoch) for epoch in range(10)] == expected
    assert Experiment.of("digits", "pgd", epochs=20).rounds == 20


def test_without_flags_it_is_the_recipe():
    assert settings_of(Experiment, dataset="cifar10") == Experiment.of("cifar10", "trades")
    assert settings_of(Experiment, "--method=natural", dataset="mnist") == Experiment.of("mnist", "natural")


def test_recipes_name_only_settings_that_exist():
    names = {field.name for field in dataclasses.fields(Experiment)}
    for dataset in data.SOURCES:
        for method in methods.BY_NAME:
            assert set(recipes.recipe(dataset, method)) <= names


@pytest.mark.parametrize(
    ("features", "precision"), [("sse avx512_bf16", "bfloat16"), ("amx_bf16", "bfloat16"), ("sse avx512f", "float32")]
)
def test_auto_is_bfloat16_where_the_processor_has_it(tmp_path, monkeypatch, features, precision):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nflags : fpu {features} xsave\n")
    monkeypatch.setattr("wmr_tf.engine.machine.CPUINFO", cpuinfo)
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [])
    for drivers in ((), (cpuinfo,)):  # of GPUs; there may be one without a GPU
        monkeypatch.setattr("wmr_tf.engine.machine.DRIVERS", drivers)
        assert Experiment.of("digits", precision="auto").precision == precision
        assert Experiment.of("digits").precision == precision


@pytest.mark.parametrize(("capability", "precision"), [((8, 0), "bfloat16"), ((7, 5), "float32")])
def test_auto_asks_the_gpus_where_there_are_any(tmp_path, monkeypatch, capability, precision):
    monkeypatch.setattr("wmr_tf.engine.machine.DRIVERS", (tmp_path / "no driver", tmp_path))
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: ["gpu"])
    details = {"compute_capability": capability}
    monkeypatch.setattr("tensorflow.config.experimental.get_device_details", lambda gpu: details)
    assert Experiment.of("digits", precision="auto").precision == precision
