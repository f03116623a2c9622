"""Scoring: every picture of a test set, enlarged by every subject, measured against its original.

subjects = [Bicubic(), AtSteps(resolver, UpscaleOptions(scale=2, steps=1)), AtSteps(resolver, ...)]
scores = evaluate(cases, subjects, rules("paper", 2), ["psnr_y"], journal=journal)
for summary in summarize(scores): ...
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from ..atomic import write_atomic
from ..configs import UpscaleOptions
from ..errors import InputError, OutputError, UsageError
from ..images.pixels import to_image, to_levels
from ..images.resizing import downscale_bicubic
from ..journal import Journal
from ..pipeline import SuperResolver
from . import metrics
from .testset import Case, Pixels

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rules:
    """What a figure depends on besides the pictures.

    Attributes:
        name: of the protocol.
        scale: how much larger.
        crop: pixels that PSNR and SSIM leave out at each side; LPIPS leaves out none.
    """

    name: str
    scale: int
    crop: int

    def describe(self, lr_given: bool) -> dict[str, str]:
        """The protocol in words."""
        return {
            "name": self.name,
            "border": f"{self.crop} pixels left out of PSNR and SSIM, none of LPIPS",
            "colour": "8-bit RGB; psnr_y, ssim_y on MATLAB's Y (16 to 235)",
            "ssim": "Gaussian window 11x11, sigma 1.5, inside the picture",
            "lpips": "AlexNet, v0.1",
            "small pictures": "given" if lr_given else "made by MATLAB's bicubic (a = -0.5, antialiased)",
        }


def rules(protocol: str, scale: int) -> Rules:
    """paper: a border of `scale` pixels is left out, as in the paper's tables; full: nothing is."""
    return Rules(protocol, scale, {"paper": scale, "full": 0}[protocol])


class Subject(Protocol):
    """What makes enlarged pictures."""

    @property
    def label(self) -> str:
        """What people call it."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """All that its pictures depend on, and that is worth a column: model, revision, sha256, steps, ..."""
        ...

    def enlarge(self, pixels: Pixels, scale: int) -> tuple[Tensor, dict[str, Any]]:
        """3×H×W uint8, and the figures of the work: seconds, peak_memory_bytes, ..."""
        ...


class Bicubic:
    """The paper's baseline: Pillow's bicubic (a = -0.5), which equals MATLAB's but for the outermost pixels."""

    label = "bicubic"
    identity: dict[str, Any] = {"model": "bicubic"}  # noqa: RUF012 - nobody changes it

    def enlarge(self, pixels: Pixels, scale: int) -> tuple[Tensor, dict[str, Any]]:
        """As `Subject`."""
        image = to_image(pixels.lr, "RGB")
        large = image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
        return to_levels(large), {}


class Finished:
    """Pictures that were enlarged before, by any tool."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.identity = {"model": label, "finished": True}

    def enlarge(self, pixels: Pixels, scale: int) -> tuple[Tensor, dict[str, Any]]:
        """As `Subject`."""
        assert pixels.finished is not None
        return pixels.finished, {}


class AtSteps:
    """A model with a number of steps."""

    def __init__(self, resolver: SuperResolver, options: UpscaleOptions) -> None:
        self.resolver, self.options = resolver, options
        self.steps = resolver.steps_for(options)
        self.label = f"{resolver.model.name}, {self.steps} step{'s' if self.steps > 1 else ''}"

    @property
    def identity(self) -> dict[str, Any]:
        """As `Subject`."""
        model, options, runtime = self.resolver.model, self.options, self.resolver.runtime
        return {
            "model": model.name,
            "revision": model.revision,
            "sha256": model.sha256,
            "steps": self.steps,
            "sampler": options.sampler,
            "eta": options.eta,
            "temperature": options.temperature,
            "seed": options.seed,
            "tile": options.tile,
            "tile_overlap": options.tile_overlap,
            "color_fix": options.color_fix,
            "precision": str(runtime.dtype).removeprefix("torch."),
            "backend": runtime.backend,
            "device": str(runtime.device),
        }

    def enlarge(self, pixels: Pixels, scale: int) -> tuple[Tensor, dict[str, Any]]:
        """As `Subject`."""
        result = self.resolver.upscale(pixels.lr, self.options, scale=scale, steps=self.steps)
        assert result.image is not None
        figures = {
            "seconds": dataclasses.asdict(result.seconds),
            "peak_memory_bytes": dataclasses.asdict(result.peak_memory_bytes),
        }
        return to_levels(result.image), figures


@dataclass(frozen=True)
class Score:
    """One picture by one subject.

    Attributes:
        image: name of the picture.
        label, identity: of the subject.
        values: metric -> value.
        figures: of the work; empty for what was finished before.
        size: (width, height) of the result.
        saved: where the picture lies, in the folder of the evaluation; None where it was not kept.
    """

    image: str
    label: str
    identity: dict[str, Any]
    values: dict[str, float]
    figures: dict[str, Any]
    size: tuple[int, int]
    saved: str | None


@dataclass(frozen=True)
class Evaluation:
    """A finished one.

    Attributes:
        dataset: what the set is called.
        rule: of the comparison.
        lr_given: whether the small pictures were given.
        scores: of all pictures and subjects.
        paper: the paper's set that it is to stand beside, or an empty string.
        environment: versions and machine.
        device: threads, instruction set and the like, in words.
    """

    dataset: str
    rule: Rules
    lr_given: bool
    scores: Sequence[Score]
    paper: str
    environment: dict[str, str]
    device: str

    @property
    def count(self) -> int:
        """Pictures."""
        return len({score.image for score in self.scores})


def evaluate(
    cases: Sequence[Case],
    subjects: Sequence[Subject],
    rule: Rules,
    wanted: Sequence[str],
    *,
    journal: Journal | None = None,
    keep: Path | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Score]:
    """Enlarge and score what the journal does not hold yet.

    Args:
        cases: the pictures.
        subjects: what enlarges them.
        rule: of the comparison.
        wanted: names of metrics, of `paper.ALL_METRICS`.
        journal: where finished scores stand, and are added.
        keep: folder for the enlarged pictures (PNG).
        progress: is told (scores done, of how many).

    Returns:
        Scores by picture, then by subject.

    Raises:
        UsageError: two subjects have one label.
        InputError: a picture is damaged, or too small for a metric.
        OutputError: the folder cannot be written.
    """
    labels = [subject.label for subject in subjects]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise UsageError(
            f"Two rows would be called '{twice}'.", "Give finished pictures a --label, models other names."
        )
    scores: list[Score] = []
    total = len(cases) * len(subjects)
    for case in cases:
        keys = [_key(case, subject, rule, wanted) for subject in subjects]
        pixels: Pixels | None = None
        for subject, key in zip(subjects, keys, strict=True):
            saved = f"{_folder(subject)}/{_slug(case.name)}.png" if keep else None
            known = journal.get(key) if journal else None
            if known is None or (keep and saved and not (keep / saved).is_file()):
                pixels = pixels or case.load(rule.scale)
                known = _score(case, pixels, subject, rule, wanted, keep, saved)
                if journal:
                    journal.add(key, known)
            scores.append(Score(**known | {"size": tuple(known["size"]), "saved": saved}))
            progress(len(scores), total)
    return scores


def _score(
    case: Case,
    pixels: Pixels,
    subject: Subject,
    rule: Rules,
    wanted: Sequence[str],
    keep: Path | None,
    saved: str | None,
) -> dict[str, Any]:
    sr, figures = subject.enlarge(pixels, rule.scale)
    values = {name: _measure(name, sr, pixels, rule) for name in wanted}
    if keep and saved:
        target = keep / saved
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"'{keep}' cannot be written: {error.strerror}.", "Choose another folder.") from None
        data = io.BytesIO()
        to_image(sr, "RGB").save(data, "PNG", compress_level=1)
        write_atomic(data.getvalue(), target, overwrite=True)
    return {
        "image": case.name,
        "label": subject.label,
        "identity": subject.identity,
        "values": values,
        "figures": figures,
        "size": [sr.shape[2], sr.shape[1]],
        "saved": saved,
    }


def _measure(name: str, sr: Tensor, pixels: Pixels, rule: Rules) -> float:
    """One metric of one picture; infinite PSNR of equal pictures is given as 100 dB, so that means exist."""
    if name == "lpips_alex":
        with torch.inference_mode():
            return float(_lpips()(sr[None] / 255, pixels.hr[None] / 255))
    if name == "lr_psnr":
        value = metrics.psnr(downscale_bicubic(sr, rule.scale), pixels.lr, 0)
    else:
        value = getattr(metrics, name)(sr, pixels.hr, rule.crop)
    return min(value, 100.0)


@cache
def _lpips() -> metrics.LPIPS:
    return metrics.load_lpips()


def _key(case: Case, subject: Subject, rule: Rules, wanted: Sequence[str]) -> str:
    """All that a score depends on, as a name."""
    files = [_facts(path) for path in (case.hr, case.lr, case.finished) if path is not None]
    value = [case.name, files, subject.label, subject.identity, dataclasses.astuple(rule), sorted(wanted)]
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]


def _facts(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}.", "Do not change the set meanwhile.") from None
    return path.name, status.st_size, status.st_mtime_ns


def _folder(subject: Subject) -> str:
    """Of a subject's pictures: its label, and a few digits of all that they depend on."""
    identity = json.dumps(subject.identity, sort_keys=True)
    return f"{_slug(subject.label)}-{hashlib.sha256(identity.encode()).hexdigest()[:6]}"


def _slug(text: str) -> str:
    """A name as a file system takes it; different names stay different."""
    plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in text)[:80].strip(".") or "_"
    return (
        plain if plain == text else f"{plain}-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:6]}"
    )


@dataclass(frozen=True)
class Summary:
    """One subject over all pictures.

    Attributes:
        label, identity: of the subject.
        count: pictures.
        mean: metric -> mean.
        interval: metric -> half the width of the mean's 95 % confidence interval (Student's t); none for one picture.
        seconds: median of a picture's time, where it was measured.
        per_step: median of a step's.
        memory: peak of the process, bytes.
    """

    label: str
    identity: dict[str, Any]
    count: int
    mean: dict[str, float]
    interval: dict[str, float]
    seconds: float | None
    per_step: float | None
    memory: int | None


def summarize(scores: Sequence[Score]) -> list[Summary]:
    """Means over all pictures, of each subject."""
    return [_summary(label, [score for score in scores if score.label == label]) for label in _labels(scores)]


def _labels(scores: Sequence[Score]) -> Iterator[str]:
    yield from dict.fromkeys(score.label for score in scores)


def _summary(label: str, scores: Sequence[Score]) -> Summary:
    values = {name: [score.values[name] for score in scores] for name in scores[0].values}
    measured = [score.figures for score in scores if score.figures]
    peaks = [figures["peak_memory_bytes"]["host"] or 0 for figures in measured]
    return Summary(
        label,
        scores[0].identity,
        len(scores),
        {name: statistics.fmean(of_it) for name, of_it in values.items()},
        {name: _half_width(of_it) for name, of_it in values.items()} if len(scores) > 1 else {},
        statistics.median(figures["seconds"]["total"] for figures in measured) if measured else None,
        statistics.median(figures["seconds"]["per_step"] for figures in measured) if measured else None,
        max(peaks) if any(peaks) else None,
    )


def _half_width(values: Sequence[float]) -> float:
    return student_t(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


@cache
def student_t(freedom: int) -> float:
    """The number that Student's t exceeds in absolute value with 5 %: by bisection on its integrated density."""
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2

    def density(t: float) -> float:
        return math.exp(log_scale - (freedom + 1) / 2 * math.log1p(t * t / freedom))

    def area(end: float, steps: int = 400) -> float:  # of 0..end, by Simpson's rule
        width = end / steps
        inner = sum((4 if step % 2 else 2) * density(step * width) for step in range(1, steps))
        return (density(0) + inner + density(end)) * width / 3

    low, high = 0.0, 13.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if area(middle) < CONFIDENCE / 2 else (low, middle)
    return low
