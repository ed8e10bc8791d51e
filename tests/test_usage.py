"""--help: sections, choices and defaults, all of them derived from the settings."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from studies.survival import Survival
from tests.test_config import run_main
from trainers.command import COMMANDS, TRAIN
from trainers.completion import command_of
from trainers.settings.base import SECTIONS
from trainers.settings.config import Experiment, ModelEvaluation
from trainers.settings.recipes import OWN
from trainers.usage import flags_of, help_of

ROOT = Path(__file__).resolve().parents[1]
DOORS = [module for module, _ in (*TRAIN.values(), *COMMANDS.values()) if command_of(module)]


def helped(capsys, flag, settings, **fixed):
    with pytest.raises(SystemExit) as end:
        run_main(None, settings, flag, **fixed)
    assert end.value.code == 0
    return capsys.readouterr().out


def by_name(settings, **fixed):
    return {flag.name: flag for flag in flags_of(settings, fixed, fixed.get("dataset"))}


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_has_every_flag_once_in_the_section_of_its_field(capsys, flag):
    printed = helped(capsys, flag, Experiment, dataset="digits")
    flags_by_section = {
        section: re.findall(r"^  --(?:\[no\])?(\w+)", part, re.MULTILINE)
        for section, part in re.findall(r"^([A-Z][a-z ]+):\n((?:  +--.*\n(?:    .*\n)*)+)", printed, re.MULTILINE)
    }
    assert list(flags_by_section) == [section.capitalize() for section in SECTIONS]
    told = [name for names in flags_by_section.values() for name in names]
    assert len(told) == len(set(told)) and set(told) == set(by_name(Experiment, dataset="digits"))
    assert {"method", "alpha_train", "epsilon", "epochs", "seed"} <= set(flags_by_section["Common"])
    assert "attack_steps" in flags_by_section["Attack"] and "eval_attack_steps" in flags_by_section["Evaluation"]
    assert "color" in flags_by_section["Data"] and "radius_growth" in flags_by_section["Rare"]
    assert "beta" in flags_by_section["Method and training"] and "threads" in flags_by_section["Run"]


def test_a_line_has_80_letters_where_the_terminal_has_them(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.modules["__main__"], "__doc__", "Do something.")
    printed = helped(capsys, "-h", Experiment, dataset="mnist")
    assert max(map(len, printed.splitlines())) <= 80
    assert "\033" not in printed


def test_the_choice_of_epsilon_is_explained_in_three_lines(capsys):
    for settings, fixed in ((Experiment, {"dataset": "digits"}), (ModelEvaluation, {})):
        _, _, rest = helped(capsys, "-h", settings, **fixed).partition("How to choose epsilon, step size and steps:\n")
        told = rest.partition("\n\n")[0].splitlines()
        assert [line.split(":")[0].strip() for line in told] == ["epsilon", "step size", "steps"]
        assert "8/255" in told[0]


@pytest.mark.parametrize("module", DOORS)
def test_every_flag_says_its_default_and_its_choices(module):
    for flag in command_of(module).flags():
        assert re.search(r"\S\. (Choices: .*\. )?Default: \S.*\.$", flag.help), flag.name
        assert flag.help.count("Default:") == 1, flag.name
        assert all(choice in flag.help for choice in flag.choices)


def test_defaults_are_those_of_the_data_set_or_the_recipe():
    told = by_name(Experiment, dataset="mnist")
    assert told["alpha_train"].help.endswith(" Default: 0.0 with natural, 2.0 with trades, else 0.5.")
    assert told["epochs"].help.endswith(" Default: 100.")
    assert told["beta"].help.endswith(" Default: 6.0.")
    assert told["eval_attack_step_size"].help.endswith(" Default: 0.0333 epsilon.")
    steps = " Default: 1.25 epsilon with fast, epsilon with n_fgsm and free, else 0.0333 epsilon."
    assert told["attack_step_size"].help.endswith(steps)
    assert told["epsilon_max"].help.endswith(" Default: 1.33 epsilon.")
    assert told["averaging"].help.endswith(" Default: none.")
    assert by_name(Experiment, dataset="digits")["beta"].help.endswith(" Default: 3.0 with trades, 6.0 with mart.")
    assert told["trust"].help.endswith(" Default: false.")
    anywhere = by_name(ModelEvaluation)
    assert anywhere["eval_epsilon"].help.endswith(" Default: the recipe's, by data set and method.")
    assert anywhere["suite"].help.endswith(" Default: strong.")
    assert {flag.name: flag for flag in flags_of(Survival, {})}["parts"].help.endswith(" Default: none.")
    own = {flag.name: flag for flag in flags_of(Experiment, {}, OWN)}
    assert own["architecture"].help.endswith("small_cnn up to 40 pixels, thin_resnet beyond.")


def test_helpfull_is_absl_s_with_the_same_words():
    command = [sys.executable, "-m", "trainers.evaluate", "--helpfull"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    printed = ended.stdout
    assert "--eval_epsilon: Radius of the test attack" in printed and "--verbosity" in printed
    assert "Default: the recipe's, by data set and method." in re.sub(r"\s+", " ", printed)


@pytest.mark.parametrize("words", [["trainers"], ["trainers.compare", "-h"]])
def test_a_reader_who_stops_early_sees_no_traceback(words):
    command = [sys.executable, "-m", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()  # before the process has started
        assert (process.stderr.read(), process.wait(timeout=60)) == ("", 0)


def test_the_flags_of_the_command_line_are_those_that_are_told():
    found = set()
    run_main(lambda _: found.update(flags.FLAGS), Experiment, dataset="digits")
    assert {name for flag in by_name(Experiment, dataset="digits").values() for name in flag.names} <= found


def test_sections_without_flags_are_left_out():
    told = help_of("Do it.", [flag for flag in by_name(Experiment).values() if flag.name == "threads"])
    assert told.startswith("Do it.\n\nRun:\n  --threads  ") and "Common" not in told and "epsilon" not in told
