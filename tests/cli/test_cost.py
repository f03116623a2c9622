"""`bidiffsr cost`: what a network costs, and every row of the paper beside its own figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from bidiffsr_cli.networks.systems import SYSTEMS

from .support import Run, is_one_sentence

PAGE = Path(__file__).parents[2] / "bidiffsr_cli" / "networks" / "README.md"


@pytest.mark.slow
def test_all(run: Run) -> None:
    finished = run("cost", "--all", "--json")
    assert finished.code == 0, finished.err
    rows = {row["name"]: row for row in finished.json["systems"]}
    assert list(rows) == [system.name for system in SYSTEMS] and len(rows) == 24
    differing = [name for name, row in rows.items() if round(row["params"] / 1e6, 2) != row["paper"]["params"] / 1e6]
    assert differing == ["bnn", "dorefa", "xnor", "irnet", "b-add"]
    assert all(bool(row["note"]) == (name in differing) for name, row in rows.items())
    assert all(round(row["ops"] / 1e9, 2) == row["paper"]["ops"] / 1e9 for row in rows.values())


@pytest.mark.slow
def test_the_page_of_networks_has_the_table(run: Run) -> None:
    table = run("cost", "--all", "--markdown").out.decode()
    assert table in PAGE.read_text(encoding="utf-8"), table


def test_all_as_a_table(run: Run) -> None:
    told = run("cost", "--all").answer
    assert max(map(len, told.splitlines())) <= 80 and "4.79 (+0.01)   4.78" in told and "4.09 (-0.01)   4.10" in told


def test_one_system_layer_by_layer(run: Run) -> None:
    finished = run("cost", "bi-diffsr", "--json")
    cost = finished.json
    assert (cost["params"], round(cost["ops"] / 1e9, 6)) == (4_575_043, 36.668584)
    assert cost["layers"]["binary convolution"]["ops"] == 98_650_030_080 / 64
    assert sum(layer["params"] for layer in cost["layers"].values()) == cost["params"]
    told = run("cost", "bnn").answer
    assert "BatchNorm" in told and "The paper prints 4.78 M" in told and "nothing it says explains it" in told


def test_a_model(run: Run, folder: Path, model: Path) -> None:
    of_default, small = (run("cost", *args, "--json").json for args in ([], [model, "--size", "64"]))
    assert of_default["name"] == "fast" and of_default["params"] == run("models", "show", "--json").json["params"]
    assert small["size"] == 64 and small["params"] == run("models", "show", model, "--json").json["params"]
    quarter = run("cost", model, "--size", "32", "--json").json
    convolution = "binary convolution"
    assert small["layers"][convolution]["ops"] == 4 * quarter["layers"][convolution]["ops"]


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--all", "bnn"], 2),
        (["--all", "--size", "128"], 2),
        (["--all", "--json", "--markdown"], 2),
        (["bnn", "--markdown"], 2),
        (["no-such"], 5),
        (["photo.png"], 5),
        (["org/repo", "--offline"], 5),
    ],
)
def test_what_is_refused(run: Run, folder: Path, args: list[str], code: int) -> None:
    finished = run("cost", *args)
    assert finished.code == code and is_one_sentence(finished.err), finished.err
