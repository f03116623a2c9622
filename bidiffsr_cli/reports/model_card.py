"""What a model is, in words: for `models show`, and for its card, which a repository on the Hub shows people."""

from __future__ import annotations

import json
import re

from ..checkpoints.catalog import CatalogEntry
from ..checkpoints.files import Checkpoint
from ..checkpoints.header import Header
from ..configs import PRESET_WORDS, ModelConfig
from ..networks.complexity import Complexity, complexity
from ..text import counted, scales_in_words

PAPER = "BI-DiffSR (Chen et al., NeurIPS 2024, arXiv 2406.05723)"
_LICENSES = "apache-2.0 mit bsd-2-clause bsd-3-clause cc0-1.0 cc-by-4.0 cc-by-sa-4.0 cc-by-nc-4.0"
"""Names that the Hub knows; any other licence is `other` there."""


def model_facts(config: ModelConfig, cost: Complexity) -> dict[str, str]:
    """Name -> words, of what it enlarges, its network, its diffusion, and what these cost."""
    network, diffusion, tile = config.network, config.diffusion, config.tile
    scales = scales_in_words(config.scales, "×")
    groups = f", K = {network.tar_groups}" if network.method == "bi_diffsr" else ""
    unet = "" if network.type == "bi_diffsr" else " on SR3's UNet"
    words = {name: word for word, name in PRESET_WORDS.items()}
    presets = ", ".join(f"{words.get(name, name)} {steps}" for name, steps in (diffusion.presets or {}).items())
    trained = ", ".join(map(str, diffusion.trained_steps))
    upsampler, first = network.upsampler, ", the first by the mean" if diffusion.free_steps else ""
    by_scale = upsampler.blocks if upsampler else {}
    blocks = " and ".join(f"{counted(count, 'block')} ×{scale}" for scale, count in by_scale.items())
    return {
        "enlarges": f"{scales}, in windows of {tile.size} pixels with {tile.overlap} shared",
        "network": f"{network.method}{unet}, {network.inner_channel} inner channels, levels "
        f"{'·'.join(map(str, network.channel_mults))}, {network.res_blocks} ResBlocks{groups}, "
        f"inputs pixel-unshuffled by {network.pixel_unshuffle}",
        **({"upsampler": f"{upsampler.channels} channels, {blocks}"} if upsampler else {}),
        "diffusion": f"{diffusion.parameterization} of the {diffusion.target}, {diffusion.schedule} schedule, "
        f"{diffusion.default_steps} {diffusion.spacing} steps of {diffusion.total_steps}{first}"
        f"{f' ({presets})' if presets else ''}{f', trained with {trained}' if trained else ''}",
        "Params": f"{cost.params / 1e6:.2f} M ({cost.weights / 1e6:.1f} M numbers, "
        f"{cost.binary_weights / 1e6:.1f} M of them one bit each)",
        "OPs": f"{cost.ops / 1e9:.2f} G for one step of {cost.size}×{cost.size} pixels",
    }


def storage_of(header: Header) -> dict[str, int]:
    """What takes how many bytes of a checkpoint file: kind of content -> bytes."""
    if header.storage == "float":
        return {"floats": sum(entry.nbytes for entry in header.entries.values())}
    parts: dict[str, int] = {}
    for name, entry in header.entries.items():
        *layers, leaf = name.split(".")
        if leaf in ("sign", "alpha"):
            kind = "signs" if leaf == "sign" else "scales"
        elif {"tar", "taa"} & set(layers):
            kind = "TaR and TaA"
        else:
            kind = "full precision"
        parts[kind] = parts.get(kind, 0) + entry.nbytes
    return parts


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
    lines.append(f"license: {known if known in _LICENSES.split() else 'other'}")
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
