"""What a model is, in words: for `models show`, and for its card on the Hub."""

from __future__ import annotations

from ..checkpoints.header import Header
from ..configs import PRESET_WORDS, ModelConfig
from ..networks.complexity import Complexity
from ..text import scales_in_words


def model_facts(config: ModelConfig, cost: Complexity) -> dict[str, str]:
    """Name -> words, of what it enlarges, its network, its diffusion, and what these cost."""
    network, diffusion, tile = config.network, config.diffusion, config.tile
    scales = scales_in_words(config.scales, "×")
    groups = f", K = {network.tar_groups}" if network.method == "bi_diffsr" else ""
    unet = "" if network.type == "bi_diffsr" else " on SR3's UNet"
    words = {name: word for word, name in PRESET_WORDS.items()}
    presets = ", ".join(f"{words.get(name, name)} {steps}" for name, steps in (diffusion.presets or {}).items())
    upsampler, first = network.upsampler, ", the first by the mean" if diffusion.free_steps else ""
    blocks = " and ".join(f"{count} blocks ×{scale}" for scale, count in upsampler.blocks.items()) if upsampler else ""
    return {
        "enlarges": f"{scales}, in windows of {tile.size} pixels with {tile.overlap} shared",
        "network": f"{network.method}{unet}, {network.inner_channel} inner channels, levels "
        f"{'·'.join(map(str, network.channel_mults))}, {network.res_blocks} ResBlocks{groups}, "
        f"inputs pixel-unshuffled by {network.pixel_unshuffle}",
        **({"upsampler": f"{upsampler.channels} channels, {blocks}"} if upsampler else {}),
        "diffusion": f"{diffusion.parameterization} of the {diffusion.target}, {diffusion.schedule} schedule, "
        f"{diffusion.default_steps} {diffusion.spacing} steps of {diffusion.total_steps}{first}"
        f"{f' ({presets})' if presets else ''}",
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
