"""What the shell completes, as bash does it and, where there is one, zsh."""

import shutil
import subprocess
import sys

import pytest

from tests.test_config import run_main
from trainers.completion import Completion, command_of, print_script, script

ASK = """
{script}
COMP_WORDBREAKS=$'{breaks}'
COMP_LINE='{line}' COMP_POINT={point}
compopt() {{ echo "option $*"; }}
_wmr
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def offered(line, *, breaks=" \\t\\n=:", point=None):
    """What bash offers at the end of a line, or at a place in it."""
    asked = ASK.format(script=script("bash"), line=line, breaks=breaks, point=len(line) if point is None else point)
    ended = subprocess.run(["bash", "-uc", asked], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stderr == ""
    return ended.stdout.split("\n")[:-1]


pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="no bash")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("wmr tr", ["train"]),
        ("wmr co", ["compare", "completion"]),
        ("wmr train ", ["digits", "mnist", "cifar10", "tiny_imagenet", "custom"]),
        ("wmr train mn", ["mnist"]),
        ("wmr train digits --alpha_tr", ["option -o nospace", "--alpha_train="]),
        ("wmr train digits --epochs=3 --method=tr", ["trades"]),
        ("wmr train digits --eval_norm=", ["linf", "l2", "l1"]),
        ("wmr evaluate --data=di", ["digits"]),
        ("wmr evaluate --nodiag", ["--nodiagnose"]),
        ("wmr search --tuner=b", ["bayesian"]),
        ("wmr table1 --budget=q", ["quarter"]),
        ("wmr completion ", ["bash", "zsh"]),
        ("wmr compare ", [""]),  # files and folders, which readline offers
        ("wmr compare runs/a --mark", ["--markdown"]),
        ("wmr evaluate --model=ru", [""]),
        ("wmr train digits --dataset=", [""]),  # it is fixed there
        ("wmr nothing --", [""]),
    ],
)  # fmt: skip
def test_bash_completes_commands_flags_and_choices(line, expected):
    assert offered(line) == expected


def test_where_the_sign_of_equality_is_part_of_a_word_the_whole_word_is_offered():
    assert offered("wmr train digits --method=tr", breaks=" \\t\\n") == ["--method=trades"]


def test_what_stands_behind_the_cursor_does_not_matter():
    assert offered("wmr tr --x=y", point=len("wmr tr")) == ["train"]


def test_an_interactive_bash_takes_it(tmp_path):
    (tmp_path / "wmr.bash").write_text(script("bash"))
    asked = f"source {tmp_path}/wmr.bash; complete -p wmr"
    ended = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "complete -o default -F _wmr wmr\n"


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh")
def test_zsh_reads_its_script():
    subprocess.run(["zsh", "-n"], input=script("zsh"), text=True, timeout=60, check=True)


def test_all_flags_of_a_command_are_offered():
    words = [word for word in offered("wmr matched -") if word.startswith("--")]
    known = {name for flag in command_of("trainers.matched").flags() for name in flag.names}
    assert {word.removeprefix("--").removesuffix("=") for word in words} - {"help"} - {
        word.removeprefix("--") for word in words if word.startswith("--no")
    } == known


def test_the_command_prints_it_and_refuses_other_shells(capsys):
    run_main(print_script, Completion, "bash")
    assert capsys.readouterr().out == script("bash")
    for arguments in ((), ("fish",), ("bash", "zsh")):
        with pytest.raises(SystemExit) as end:
            run_main(print_script, Completion, *arguments)
        assert end.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_it_needs_no_tensorflow():
    asked = "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = sys.modules['keras_tuner'] = None; "
    asked += "from trainers.completion import script; script('zsh')"
    subprocess.run([sys.executable, "-c", asked], check=True, timeout=60)
