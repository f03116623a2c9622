"""Every picture of a test set, enlarged by every subject, and scored against its original.

subjects = [Bicubic(), AtSteps(resolver, UpscaleOptions(scale=2, steps=1)), AtSteps(resolver, ...)]
scores = score_all(cases, subjects, rules("paper", 2), ["psnr_y"], journal=journal)
for summary in summarize(scores): ...
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic import cannot_write, write_atomic
from ..errors import InputError, UsageError, said_of
from ..images.pixels import to_image
from ..journal import Journal
from ..options import PIXELS
from .artefacts import Artefacts, restored
from .protocol import Rules, measure
from .subjects import Subject
from .testset import Case, Pixels


@dataclass(frozen=True)
class Score:
    """One picture by one subject.

    Attributes:
        image: name of the picture.
        label, identity: of the subject.
        values: metric -> value; without what cannot be told of this picture.
        artefacts: what is pooled over pictures; None where it was not asked for.
        figures: of the work; empty for what was finished before.
        size: (width, height) of the result.
        saved: where the picture lies, in the folder of the evaluation; None where it was not kept.
    """

    image: str
    label: str
    identity: dict[str, Any]
    values: dict[str, float]
    artefacts: Artefacts | None
    figures: dict[str, Any]
    size: tuple[int, int]
    saved: str | None


def score_all(
    cases: Sequence[Case],
    subjects: Sequence[Subject],
    rule: Rules,
    wanted: Sequence[str],
    *,
    journal: Journal | None = None,
    keep: Path | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
    tell: Callable[[str], None] = lambda _: None,
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
        tell: is told what was lost of a picture when it was read.

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
    folders = [_folder(subject, cases, rule) if keep else None for subject in subjects]
    scores: list[Score] = []
    total = len(cases) * len(subjects)
    for case in cases:
        keys = [_key(case, subject, rule, wanted) for subject in subjects]
        pixels: Pixels | None = None
        for subject, key, folder in zip(subjects, keys, folders, strict=True):
            saved = f"{folder}/{_slug(case.name)}.png" if folder else None
            known = _known(journal.get(key)) if journal else None
            if known is None or (keep and saved and not (keep / saved).is_file()):
                if pixels is None:
                    pixels = case.load(rule.scale)
                    for remark in pixels.remarks:
                        tell(remark)
                known = _score(case, pixels, subject, rule, wanted, keep, saved)
                if journal:
                    journal.add(key, known)
            artefacts = restored(known.get("artefacts"))
            scores.append(Score(**known | {"artefacts": artefacts, "size": tuple(known["size"]), "saved": saved}))
            progress(len(scores), total)
    return scores


def _known(entry: Any) -> dict[str, Any] | None:
    """What a journal says of a score, if it is what is written there."""
    fields = {field.name for field in dataclasses.fields(Score)}
    sound = isinstance(entry, dict) and entry.keys() | {"artefacts"} == fields and isinstance(entry["size"], list)
    return entry if sound and isinstance(entry["values"], dict) and isinstance(entry["figures"], dict) else None


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
    with said_of(case.hr.name):
        values, artefacts = measure(wanted, sr, pixels, rule)
    if keep and saved:
        target = keep / saved
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(keep, error) from None
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
    } | ({"artefacts": dataclasses.asdict(artefacts)} if artefacts else {})


def _key(case: Case, subject: Subject, rule: Rules, wanted: Sequence[str]) -> str:
    """All that a score depends on, as a name."""
    files = _files(case)
    value = [PIXELS, case.name, files, subject.label, subject.identity, dataclasses.astuple(rule), sorted(wanted)]
    value += [str(case.degradation)] if str(case.degradation) else []
    return _digits(value, 24)


def _files(case: Case) -> list[tuple[str, int, int]]:
    """What tells a case's files from others."""
    return [_facts(path) for path in (case.hr, case.lr, case.finished) if path is not None]


def _facts(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}.", "Do not change the set meanwhile.") from None
    return path.name, status.st_size, status.st_mtime_ns


def _folder(subject: Subject, cases: Sequence[Case], rule: Rules) -> str:
    """Of a subject's pictures: its label, and a few digits of all that they depend on, the whole test set included."""
    made_of = [(_files(case), str(case.degradation)) for case in cases]
    return f"{_slug(subject.label)}-{_digits([PIXELS, subject.identity, rule.scale, made_of], 6)}"


def _digits(value: Any, count: int) -> str:
    """A name that other values do not have."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:count]


def _slug(text: str) -> str:
    """A name as a file system takes it; different names stay different."""
    plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in text)[:80].strip(".") or "_"
    return (
        plain if plain == text else f"{plain}-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:6]}"
    )
