"""Measure quality against originals.

Examples:
  bidiffsr eval --hr Set5/HR --lr Set5/LR_bicubic/X2 --paper-row
  bidiffsr eval --hr photos/ --scale 4 --steps 1,2,5,10 -o report/
  bidiffsr eval --hr photos/ -m fast -m mine.safetensors --json
  bidiffsr eval --hr Set5/HR --sr results/ --label other-tool
  bidiffsr eval --hr photos/ --degrade blur=0.6,noise=3,jpeg=85
  bidiffsr eval --hr photos/ --metrics lpips_alex,grain,weave,comb,cross

Small pictures are taken from --lr, or made from the originals by MATLAB's
bicubic. Pictures belong together by name: baby.png, babyx2.png,
baby_LRBI_x2.png, baby_SRF_2_LR.png. Bicubic interpolation is always scored
too. --metrics also knows grain and weave (in flat places, levels of 255), comb
and cross (in the spectrum, dB): artefacts that the others hardly see; near 0
is best. --degrade makes small pictures worse, the same way every time, in this
order: kernel (lanczos, bilinear or area instead of bicubic), blur (pixels),
noise (levels of 255), chroma (blur of colours), sharpen, jpeg or webp
(quality). With -o everything is kept in a folder: pictures, results.json,
.csv, .md and .html; run again, it goes on where it was stopped.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from ..errors import UsageError
from . import _options as o
from ._output import out
from ._values import parse_degradation, parse_options

if TYPE_CHECKING:
    from ..evaluation.result import Evaluation


@o.group(o.PICTURES)
class TestSet:
    """The pictures."""

    hr: Annotated[Path, o.option("DIR", "Folder of the originals.")]
    lr: Annotated[Path | None, o.option("DIR", "Folder of small pictures.", show_default="made from --hr")] = None
    sr: Annotated[Path | None, o.option("DIR", "Folder of pictures that any tool enlarged.")] = None
    label: Annotated[str | None, o.option("TEXT", "Name of that tool.", show_default="the folder's name")] = None
    name: Annotated[str | None, o.option("TEXT", "Name of the set.", show_default="by its folder")] = None
    limit: Annotated[int | None, o.option("N", "Take only the first N pictures.", min=1)] = None
    degrade: Annotated[
        str | None,
        o.option("WHAT=N,...", "Make small pictures worse: kernel, blur, noise, chroma, sharpen, jpeg, webp."),
    ] = None


@o.group("Comparison")
class Scoring:
    """How results are compared with originals."""

    metrics: Annotated[
        str, o.option("NAME,...", "psnr_y, ssim_y, psnr_rgb, ssim_rgb, lpips_alex, lr_psnr, grain, weave, comb, cross.")
    ] = "psnr_y,ssim_y,lpips_alex,lr_psnr"
    protocol: Annotated[
        Literal["paper", "full"], o.option("NAME", "paper leaves out a border of SCALE pixels, full none.")
    ] = "paper"
    paper_row: Annotated[
        bool, o.option(o.FLAG, "Also show the paper's rows for Set5, B100, Urban100 or Manga109.", "--paper-row")
    ] = False


@o.group(o.FILES)
class Kept:
    """What is written."""

    output: Annotated[Path | None, o.option("DIR", "Keep everything in this folder.", "--output", "-o")] = None
    report: Annotated[Path | None, o.option("FILE", "Write one report: .json, .csv, .md or .html.")] = None
    pictures: Annotated[int, o.option("N", "Show N pictures on an HTML page.", min=1, max=100)] = 6
    overwrite: o.OverwriteOption = False


@o.expanded
def evaluate(
    *,
    test_set: TestSet,
    scale: o.ScaleOption = 2,
    model: Annotated[
        list[str] | None,
        o.option(
            "NAME|ORG/REPO|PATH",
            "As for upscale, but not auto; may be repeated; bicubic means none.",
            "--model",
            "-m",
            show_default="the first of the catalog",
        ),
    ] = None,
    steps: Annotated[
        str | None,
        o.option("N,N,...", "Numbers of steps; each is scored.", panel=o.DIFFUSION, show_default="the model's"),
    ] = None,
    sampling: o.SamplingOptions,
    color_fix: o.ColorFixOption = "none",
    scoring: Scoring,
    machine: o.MachineOptions,
    windows: o.WindowOptions,
    kept: Kept,
    messages: o.Messages,
) -> None:
    """Parse, evaluate, and show the tables; the help is the module's docstring."""
    messages.configure()
    pictures = dict(vars(test_set))
    counts, degradation = _parse_steps(steps), parse_degradation(pictures.pop("degrade"))
    options = parse_options(scale=scale, color_fix=color_fix, **vars(sampling), **vars(windows))
    from ..reports.evaluation import tables
    from ..tasks.evaluate import EvaluateRequest, run

    request = EvaluateRequest(
        **pictures,
        degradation=degradation,
        models=model,
        steps=counts,
        options=options,
        metrics=[name.strip() for name in scoring.metrics.split(",")],
        protocol=scoring.protocol,
        paper_row=scoring.paper_row,
        machine=machine.machine,
        offline=windows.offline,
        **vars(kept),
    )

    def show(evaluation: Evaluation) -> None:
        for table in tables(evaluation, intervals=False):
            out.table(**vars(table))

    out.show = show
    evaluation = run(request, out)
    out.json(evaluation.to_dict())


def _parse_steps(text: str | None) -> list[int] | None:
    """Numbers of steps, of "1,2,5"."""
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdecimal() and 0 < int(part) < 10**6 for part in parts):
        raise UsageError(f"{text!r} is not a list of step counts.", "Write them as 1,2,5.")
    return list(map(int, parts))
