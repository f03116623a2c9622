"""The documents: what they say of models, commands, rooms and files is so, and what they show can be run."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from bidiffsr_cli.checkpoints.catalog import CatalogEntry, catalog

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "bidiffsr_cli"
README, CONTRIBUTING = ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md"
PAGES = [
    README,
    CONTRIBUTING,
    ROOT / "CHANGELOG.md",
    ROOT / "weights" / "README.md",
    *sorted(PACKAGE.rglob("README.md")),
]
MOST_WORDS = 1500


def of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize("model", catalog(), ids=lambda model: model.name)
@pytest.mark.parametrize("page", [README, ROOT / "weights" / "README.md"], ids=["README", "weights"])
def test_scores(page: Path, model: CatalogEntry) -> None:
    """The scores that `.ci/figures` wrote have not been changed by hand."""
    _, marker, table = of(page).partition(f"<!-- scores: {model.name} -->\n")
    if not marker and page == README and model != catalog()[0]:
        pytest.skip("in the model card alone")
    lines = table.partition("\n\n")[0].splitlines()[2:]
    assert len(lines) == sum(map(len, model.scores.values()))
    for name, scales in model.scores.items():
        for scale, steps in scales.items():
            cells = [f"{s['psnr_y']:.2f} / {s['ssim_y']:.4f} / {s['lpips_alex']:.4f}" for s in steps.values()]
            (line,) = [line for line in lines if line.startswith(f"| {name} ×{scale} |")]
            assert line.endswith(f"| {' | '.join(cells)} |")


def test_every_command_is_told() -> None:
    from bidiffsr_cli.cli.app import app

    for command in app.registered_commands:
        assert f"bidiffsr {command.name}" in of(README)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_tables_end_where_they_seem_to(page: Path) -> None:
    """A line right below a table would be a row of it, whatever it is."""
    lines = of(page).splitlines()
    for above, line in pairwise(lines):
        assert not (above.startswith("|") and line and not line.startswith("|")), line
    rules = [index for index, line in enumerate(lines) if re.fullmatch(r"\|[-:| ]+\|", line) and "-" in line]
    assert all(index < 2 or not lines[index - 2].startswith("|") for index in rules)


def test_the_readme_is_short() -> None:
    assert len(of(README).split()) <= MOST_WORDS


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    with Image.open(ROOT / "tests" / "pictures" / "parrot.png") as picture:
        small = picture.resize((32, 24))
    for name in ("photo.jpg", "photos/a.png", "photos/b.png"):
        small.save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", of(README), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    with Image.open("big.png") as big:
        assert big.size == (64, 48)


def test_every_room_is_on_the_map() -> None:
    rooms = {
        path.stem
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or any(path.glob("*.py"))
        if not path.name.startswith("_")
    }
    rows = of(CONTRIBUTING).partition("| room |")[2].partition("\n\n")[0].splitlines()
    assert {name for row in rows[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])} == rooms


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_and_named_files_are_there(page: Path) -> None:
    text = of(page)
    for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", text) if ":" not in link):
        path = page.parent / target if target else page
        assert path.exists(), target
        assert not anchor or anchor in headings(path), f"{target}#{anchor}"
    folders = [page.parent, ROOT, PACKAGE, PACKAGE / "ops" / "csrc"]
    for name in re.findall(r"`([\w/.-]+\.(?:py|cpp|h|inl))`", text):
        assert any((folder / name).exists() for folder in folders), name


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
