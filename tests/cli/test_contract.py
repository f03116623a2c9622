"""The JSON that scripts rely on, beside the page that documents it; every test that reads JSON looks there, too."""

from __future__ import annotations

import re
from pathlib import Path

import bidiffsr_cli

from .contract import documented, mistakes, never_seen
from .support import Run, picture


def test_every_schema_is_documented() -> None:
    sources = [path.read_text(encoding="utf-8") for path in Path(bidiffsr_cli.__file__).parent.rglob("*.py")]
    assert {name for text in sources for name in re.findall(r'"(bidiffsr(?:-[a-z]+)?/\d+)"', text)} == set(documented())


def test_every_documented_field_is_there(folder: Path, run: Run, model: Path) -> None:
    """Of the commands that people write scripts for."""
    for place, mode in {"Set5/HR": "RGB", "finished": "L"}.items():
        Path(place).mkdir(parents=True)
        for name in ("one", "two"):
            picture(mode, (72, 64)).save(f"{place}/{name}.png")
    Path("photos").mkdir()
    picture().save("photos/fine.png")
    Path("photos/notes.txt").write_text("no picture")
    Path("photos/broken.png").write_text("no picture")
    options = ["--model", model, "--json"]
    scoring = ["eval", "--hr", "Set5/HR", "--steps", "1", "--metrics", "psnr_y", *options]
    answers = [
        run("upscale", "photo.png", "big.png", *options),
        run("upscale", "photo.png", "-o", "other.png", "--dry-run", *options),
        run("upscale", "missing.png", *options),
        run("upscale", "photo.png", "photos/fine.png", "-o", "all", *options),
        run("batch", "photos", "-o", "out", "--dry-run", *options),
        run("batch", "photos", "-o", "out", *options),
        run(*scoring, "--paper-row"),
        run("eval", "--hr", "Set5/HR", "--sr", "finished", "--json", "--metrics", "psnr_y,comb,cross"),
        run("compare", "photo.png", "photos/fine.png", "-o", "page.html", "--json"),
        run("compare", "Set5/HR", "finished", "--reference", "Set5/HR", "-o", "scores.html", "--json"),
    ]
    assert not never_seen([answer.json for answer in answers])


def test_what_is_not_documented_is_noticed(folder: Path, run: Run, model: Path) -> None:
    answer = run("upscale", "photo.png", "big.png", "--model", model, "--json").json
    assert not mistakes(answer)
    assert mistakes(answer | {"colour": "red"}) == ["colour: 'red'"]
    assert mistakes(answer | {"steps": "two"}) == ["steps: 'two'"]
    assert mistakes(answer | {"isa": 1, "threads": None}) == ["isa: 1", "threads: None"]
    assert mistakes(answer | {"tiles": answer["tiles"] | {"shape": 1}}) == ["tiles.shape: 1"]
    assert mistakes({name: value for name, value in answer.items() if name != "seed"}) == ["seed is missing"]
    several = {"schema": "bidiffsr-batch/1", "status": "done", "counts": {"done": 1, "failed": 0, "left": 0}}
    assert mistakes(several | {"images": [answer, answer | {"steps": "two"}]}) == ["steps: 'two'"]
    failed = {"input": "a", "output": None, "status": "failed", "error": 1}
    assert mistakes(several | {"images": [failed]}) == ["images.[].error: 1"]
