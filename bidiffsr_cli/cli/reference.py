"""The option reference in this folder's README.md, written from the commands themselves.

    python -m bidiffsr_cli.cli.reference     after a change to an option, a help text or the exit codes

What stands above `MARKER` is written by hand. An option that means the same in several commands is described once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.text import Text

from .app import app

PAGE = Path(__file__).with_name("README.md")
MARKER = "<!-- reference: written by `python -m bidiffsr_cli.cli.reference`, do not edit below -->"


@dataclass(frozen=True)
class Option:
    """An option or argument, as a row of a table.

    Attributes:
        names: how it is written: `--scale`, `-s`.
        value: what follows it; empty for a flag.
        help: what it does, its default and environment variable.
        panel: the heading in `--help` that it stands under.
    """

    names: str
    value: str
    help: str
    panel: str

    def row(self) -> str:
        """Of a table in Markdown, in which a bar within a cell is escaped."""
        cells = (self.names, self.value and f"`{self.value}`", self.help)
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def renewed(text: str) -> str:
    """The page with everything below its marker written anew."""
    return text[: text.index(MARKER) + len(MARKER)] + "\n\n" + reference()


def reference() -> str:
    """Every command with its options, as Markdown."""
    root: Any = typer.main.get_command(app)
    commands = {path: _options(command) for path, command in _commands(root, "bidiffsr")}
    times = Counter(option for options in commands.values() for option in options)
    shared = [option for option in times if times[option] > 1]
    title, *codes = _plain(root.epilog).splitlines()
    lines = [f"## {title}", "", "```text", *codes, "```", ""]
    for path, command in _commands(root, "bidiffsr"):
        own = [option for option in commands[path] if option not in shared]
        names = [option.names.split(",")[0] for option in commands[path] if option in shared]
        lines += [f"## {path}", "", f"```text\n{_usage(command, path)}\n\n{_plain(command.help)}\n```", ""]
        lines += [*_table(own), ""] if own else []
        lines += [f"[Shared options](#shared-options): {', '.join(names)}.", ""] if names else []
    lines += ["## Shared options", "", "Each of these means the same in every command that has it.", ""]
    for panel in dict.fromkeys(option.panel for option in shared):
        lines += [f"**{panel}**", "", *_table([option for option in shared if option.panel == panel]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(the words that call it, the command), those of groups after the group."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, f"{path} {name}")


def _usage(command: Any, path: str) -> str:
    with typer.Context(command) as context:
        return " ".join(("Usage:", path, *command.collect_usage_pieces(context)))


def _options(command: Any) -> list[Option]:
    return [_option(parameter) for parameter in command.params if not parameter.hidden]


def _option(parameter: Any) -> Option:
    is_argument = parameter.param_type_name == "argument"
    written = [parameter.metavar or ""] if is_argument else [*parameter.opts, *parameter.secondary_opts]
    value = "" if is_argument else (parameter.metavar or "").strip()
    help = " ".join((_plain(parameter.help or ""), *_conditions(parameter)))
    names = ", ".join(f"`{name}`" for name in written)
    return Option(names, value, help, parameter.rich_help_panel or "Main")


def _conditions(parameter: Any) -> Iterator[str]:
    """What else there is to know: the range, the default, the environment variable."""
    low, high = getattr(parameter.type, "min", None), getattr(parameter.type, "max", None)
    if low is not None:
        yield f"At least {low}." if high is None else f"{low} to {high}."
    if parameter.required and parameter.param_type_name == "option":
        yield "Required."
    default = parameter.show_default if isinstance(parameter.show_default, str) else parameter.default
    if parameter.secondary_opts:
        default = (parameter.opts if default else parameter.secondary_opts)[0]
    if parameter.show_default and str(default) not in ("None", "False", ""):
        yield f"Default: {default}."
    if parameter.envvar:
        yield f"Environment: `{parameter.envvar}`."


def _table(options: Sequence[Option]) -> list[str]:
    return ["| option | value | what it does |", "|---|---|---|", *(option.row() for option in options)]


def _plain(text: str) -> str:
    """A help text without Rich's markup."""
    return Text.from_markup(text).plain.strip()


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
