"""Find, fetch, check, convert and share models."""

from __future__ import annotations

import typer

from . import convert, list, pack, path, pull, push, rm, show, verify

models = typer.Typer(no_args_is_help=True, help=__doc__)
for name, module, function, needs_arguments in (
    ("list", list, list.list_models, False),
    ("show", show, show.show, False),
    ("pull", pull, pull.pull, True),
    ("verify", verify, verify.verify, False),
    ("rm", rm, rm.rm, True),
    ("path", path, path.path, True),
    ("convert", convert, convert.convert, True),
    ("pack", pack, pack.pack, True),
    ("push", push, push.push, True),
):
    models.command(name, help=module.__doc__, no_args_is_help=needs_arguments)(function)
