"""The option reference in bidiffsr_cli/cli/README.md is what the commands say of themselves."""

from pathlib import Path

from bidiffsr_cli.cli.reference import PAGE, renewed

ROOT = Path(__file__).parents[2]


def test_the_reference_is_not_stale() -> None:
    text = (ROOT / "bidiffsr_cli" / "cli" / PAGE.name).read_text(encoding="utf-8")
    assert renewed(text) == text, "run: python -m bidiffsr_cli.cli.reference"


def test_what_is_written_by_hand_stays() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert renewed(text.replace("| `--json` |", "| `--jsn` |")) == text
    assert renewed("By hand.\n" + text) == "By hand.\n" + text
