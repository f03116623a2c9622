"""Model cards: what a repository on the Hub tells people about a model."""

from __future__ import annotations

import json
import re

from ..checkpoints.catalog import CatalogEntry
from ..checkpoints.files import Checkpoint
from ..networks.complexity import complexity
from ..text import scales_in_words
from .model_facts import model_facts

PAPER = "BI-DiffSR (Chen et al., NeurIPS 2024, arXiv 2406.05723)"
_LICENSES = {
    "apache-2.0",
    "mit",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc0-1.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "cc-by-nc-4.0",
}
"""Names that the Hub knows; any other licence is `other` there."""


def model_card(checkpoint: Checkpoint, repo: str, entry: CatalogEntry | None = None) -> str:
    """The README.md of a repository: front matter for the Hub, then prose and tables for people.

    Args:
        checkpoint: the model.
        repo: ORG/REPO.
        entry: the catalog's, if it is one of its models: its scores are shown.
    """
    cost = complexity(checkpoint.config.network, checkpoint.config.condition_channels)
    scales = scales_in_words(checkpoint.config.scales, "×")
    parts = [
        _front_matter(checkpoint.license),
        f"# {repo}",
        f"Enlarges pictures {scales} with 1-bit weights and activations: a model of {PAPER}, for the command "
        "line tool `bidiffsr`.",
        f"```bash\npip install .  # in a checkout of bidiffsr\nbidiffsr upscale photo.jpg --model {repo}\n```",
        _table(
            {
                **model_facts(checkpoint.config, cost),
                "sha256": f"`{checkpoint.sha256}`",
                "licence": _plain(checkpoint.license),
            }
        ),
        "## How it came about",
        _plain(checkpoint.origin) or "The file does not say.",
        *_scores(entry),
        "## What it is not",
        "What a diffusion model draws is plausible, not evidence. Unless its origin says otherwise it was made for "
        "pictures that were shrunk cleanly: noise and JPEG artefacts are drawn larger, not removed.",
    ]
    return "\n\n".join(parts) + "\n"


def config_json(checkpoint: Checkpoint) -> bytes:
    """The config.json beside the model: the same JSON as in its header."""
    return (json.dumps(json.loads(checkpoint.config.to_json()), indent=2) + "\n").encode()


def _front_matter(license: str) -> str:
    known = license.strip().lower()
    lines = ["---", "library_name: bidiffsr", "pipeline_tag: image-to-image"]
    lines.append(f"license: {known if known in _LICENSES else 'other'}")
    lines += ["tags:", "- super-resolution", "- diffusion", "- binary-neural-network", "---"]
    return "\n".join(lines)


def _scores(entry: CatalogEntry | None) -> list[str]:
    if entry is None or not entry.scores:
        return []
    rows = [
        {"set": f"{dataset} ×{scale}"} | {f"{n} steps": cell for n, cell in cells.items()}
        for dataset, scale, cells in entry.score_rows
    ]
    header = list(rows[0])
    lines = [header, ["---"] * len(header), *([row.get(name, "") for name in header] for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return ["## Scores", "PSNR on Y in dB / LPIPS-Alex.", table]


def _table(rows: dict[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _plain(text: str) -> str:
    """Free text from a file as one paragraph in which nothing is markup."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))
