"""Print what makes a shell complete the commands of wmr, their flags, and the choices of these.

bash: wmr completion bash > ~/.local/share/bash-completion/completions/wmr
zsh:  wmr completion zsh > FOLDER_OF_FPATH/_wmr

The next shell completes. For this one alone, in bash or zsh: source <(wmr completion bash)
"""

import dataclasses
import importlib
import shlex
from collections.abc import Iterable, Iterator

from trainers.cli import Command
from trainers.command import COMMANDS, TRAIN, modules
from trainers.settings.base import Settings, arguments
from wmr_tf.checks import one_of, require

SHELLS = ("bash", "zsh")

_BASH = """\
_wmr() {
    local line=${COMP_LINE:0:COMP_POINT} words
    local typed=${line##* }
    read -ra words <<< "${line%"$typed"}"
    local command=${words[1]-} value=$typed
    [[ $command == train && -n ${words[2]-} ]] && command="train ${words[2]}"
    [[ $typed == --*=* ]] && value=${typed#*=}
    COMPREPLY=($(compgen -W "$(_wmr_words "$command" "$typed")" -- "$value"))
    if [[ $value != "$typed" && $COMP_WORDBREAKS != *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]/#/${typed%%=*}=}")
    fi
    [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace
    return 0
}
complete -o default -F _wmr wmr
"""

_ZSH = """\
_wmr() {
    local command=${words[2]} typed=${words[CURRENT]}
    (( CURRENT == 2 )) && command=
    [[ $command == train ]] && (( CURRENT > 3 )) && command="train ${words[3]}"
    local -a found=(${(f)"$(_wmr_words "$command" "$typed")"})
    [[ $typed == --*=* ]] && compset -P '*='
    if (( $#found )); then
        compadd -S '' -- ${(M)found:#*=}
        compadd -- ${found:#*=}
    else
        _files
    fi
}
if [[ ${funcstack[1]} == _wmr ]]; then _wmr; else compdef _wmr wmr; fi
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Completion(Settings):
    """For which shell."""

    shells: tuple[str, ...] = arguments(*SHELLS)

    def __post_init__(self) -> None:
        is_one, got = len(self.shells) == 1, " ".join(self.shells) or "nothing"
        fix = f"Write wmr completion {SHELLS[0]}."
        require(is_one, "command line", got=got, expected=f"one of {', '.join(SHELLS)}", fix=fix)
        one_of("shell", self.shells[0], SHELLS)


def script(shell: str) -> str:
    """Return the script of a shell: a function that says what may follow, which both share, and one that asks it."""
    head = {"bash": "# wmr completion bash\n", "zsh": "#compdef wmr\n"}[shell]
    return head + "\n".join(["_wmr_words() {", '    case "$1" in', *_cases(), "    esac", "}", ""]) + _TAILS[shell]


_TAILS = {"bash": _BASH, "zsh": _ZSH}


def _cases() -> Iterator[str]:
    """Yield the cases of $1, the command, within which $2 is the word that is being typed."""
    yield f"        '') {_offer(['train', *COMMANDS])} ;;"
    yield f"        train) {_offer(TRAIN)} ;;"
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, module in modules().items():
        alike.setdefault(tuple(_flags(module)), []).append(name)
    for lines, names in alike.items():
        yield f"        {'|'.join(map(shlex.quote, names))})"
        yield '            case "$2" in'
        yield from (f"                {line} ;;" for line in lines)
        yield "            esac ;;"


def command_of(module: str) -> Command | None:
    """Return the command of a module; None of one that has no settings."""
    return getattr(importlib.import_module(module), "COMMAND", None)


def _flags(module: str) -> Iterator[str]:
    """Yield the cases of a command: after each flag with choices these, and the flags themselves."""
    command = command_of(module)
    if command is None:  # it has no settings: files and folders
        return
    flags, beside = command.flags(), command.beside_flags()
    for flag in flags:
        if flag.choices:
            yield f"{'|'.join(f'--{name}=*' for name in flag.names)}) {_offer(flag.choices)}"
    yield "--*=*) :"  # a file, or what only you know
    spelled = [word for flag in flags for name in flag.names for word in _spelled(name, flag.kind is bool)]
    yield f"{'-*' if beside else '*'}) {_offer([*spelled, '--help'])}"
    yield from (f"*) {_offer(words)}" for words in beside.values())


def _spelled(name: str, is_switch: bool) -> tuple[str, ...]:
    return (f"--{name}", f"--no{name}") if is_switch else (f"--{name}=",)


def _offer(words: Iterable[str]) -> str:
    """Return the shell's command that prints words, one a line."""
    quoted = " ".join(map(shlex.quote, words))
    return f"printf '%s\\n' {quoted}" if quoted else ":"


def print_script(settings: Completion) -> None:
    """Print the script of a shell."""
    print(script(settings.shells[0]), end="")


COMMAND = Command(Completion, print_script)

if __name__ == "__main__":
    COMMAND()
