"""What happens to small pictures before they are enlarged, drawn at random. Off by default; the paper has none.

The terms and their order are a camera's and the web's: a kernel, the lens's blur, noise, the camera's removal of colour
noise and its sharpening, compression once or twice. Real-ESRGAN (arXiv 2107.10833, section 3) and BSRGAN (arXiv
2103.14006, section 3) train on the same terms, with more of each; here pictures are to be enlarged, not restored.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..images.degrading import (
    blurred,
    chroma_blurred,
    compressed,
    noise_of,
    sharpened,
    shrunk,
)
from ..images.kernels import KERNELS
from ..runtime import sent
from .config import DataConfig

SOMETIMES = 0.3
"""Share of the crops that each term but the kernel and compression takes part in."""
COMPRESSED = 0.85
"""Share of the crops that are compressed; a quarter of these twice."""
TWICE = 0.25
FULL_COLOUR = 0.3
"""Share of JPEGs with colours of full resolution."""
BEST_QUALITY = 95
BLOCK = 16
"""Side of a block whose colours are stored together, pixels."""


def degrade(small: Tensor, hr: Tensor | None, scale: int, config: DataConfig, generator: torch.Generator) -> Tensor:
    """What small pictures become, each by amounts of its own.

    Args:
        small: B×3×h×w in [0, 1], made by bicubic.
        hr: the originals, B×3×H×W; None where the config has no other kernels.
        scale: of the originals to the small pictures.
        generator: of all that is drawn, on the CPU, so that every device sees the same.

    Returns:
        B×3×h×w in [0, 1], in levels of 255.
    """
    count = len(small)
    amounts, whether = torch.rand(5, count, generator=generator), torch.rand(10, count, generator=generator)
    worse = whether[0] >= config.clean
    x = _kernels(small, hr, scale, config, torch.where(worse, whether[1], 1.0))

    def drawn(term: int, most: float) -> Tensor:
        """Amounts of a term, uniform up to the most, 0 where it takes no part."""
        return amounts[term] * most * (worse & (whether[2 + term] < SOMETIMES))

    if config.blur:
        x = blurred(x, drawn(0, config.blur))
    if config.noise:
        numbers = sent(torch.randn(x.shape, generator=generator), x.device)
        by_light, grey, coarse = whether[6] < 0.5, whether[7] < 0.4, whether[8] < 0.4
        noise = noise_of(x, numbers, by_light=by_light, grey=grey, coarse=coarse)
        x = x + noise * drawn(1, config.noise / 255).view(-1, 1, 1, 1).to(x.device)
    if config.chroma_blur:
        x = chroma_blurred(x, drawn(2, config.chroma_blur))
    if config.sharpen:
        x = sharpened(x, drawn(3, config.sharpen))
    if config.jpeg < 100 or config.webp < 100:
        x = _compressions(x, config, worse & (whether[9] < COMPRESSED), generator)
    return x.clamp(0, 1).mul(255).round_().div_(255)


def _kernels(small: Tensor, hr: Tensor | None, scale: int, config: DataConfig, drawn: Tensor) -> Tensor:
    """Small pictures by the config's shares of kernels; the rest stays as it is."""
    if hr is None:
        return small
    small, low = small.clone(), 0.0
    for kernel in KERNELS:
        high = low + config.kernels.get(kernel, 0.0)
        which = sent(((drawn >= low) & (drawn < high)).nonzero().flatten(), small.device)
        if len(which):
            small[which] = shrunk(hr[which], scale, kernel)
        low = high
    return small


def _compressions(pictures: Tensor, config: DataConfig, which: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures once or twice written and read again."""
    count = len(pictures)
    quality, kinds = torch.rand(2, count, generator=generator), torch.rand(3, count, generator=generator).tolist()
    shifts = torch.randint(BLOCK, (2, count, 2), generator=generator).tolist()
    shares = [100 - config.jpeg, 100 - config.webp]
    result = []
    for index, picture in enumerate(pictures.cpu()):
        if which[index]:
            of_webp = kinds[0][index] * sum(shares) < shares[1] * (0.3 if shares[0] else 1)  # rarer than JPEG
            worst = config.webp if of_webp else config.jpeg
            for time in range(1 + (kinds[1][index] < TWICE)):
                picture = compressed(
                    picture,
                    round(worst + float(quality[time, index]) * max(0, BEST_QUALITY - worst)),
                    format="WEBP" if of_webp else "JPEG",
                    subsampling="444" if kinds[2][index] < FULL_COLOUR else "420",
                    shift=(shifts[time][index][0], shifts[time][index][1]),
                )
        result.append(picture)
    return sent(torch.stack(result), pictures.device)
