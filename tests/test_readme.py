"""What the README and the model card say of the bundled model is what the catalog says."""

from pathlib import Path

import pytest

from bidiffsr_cli.checkpoints.catalog import catalog

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("file", ["README.md", "weights/README.md"])
def test_scores(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    for name, scales in catalog()[0].scores.items():
        for scale, steps in scales.items():
            cells = [f"{s['psnr_y']:.2f} / {s['ssim_y']:.4f} / {s['lpips_alex']:.4f}" for s in steps.values()]
            (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} ×{scale} |")]
            assert line.endswith(f"| {' | '.join(cells)} |")


def test_every_command_is_told() -> None:
    from bidiffsr_cli.cli.app import app

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in app.registered_commands:
        assert f"bidiffsr {command.name}" in text
