"""A finished evaluation, and its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .paper import paper_rows
from .protocol import Rules
from .scoring import Score
from .summary import Summary, summarize

SCHEMA = "bidiffsr-eval/1"


@dataclass(frozen=True)
class Evaluation:
    """Scores of all pictures, and what they depend on.

    Attributes:
        dataset: what the test set is called.
        rule: the protocol and scale.
        lr_given: whether the small pictures were given, not made from the originals.
        metrics: names of what was measured.
        scores: by picture, then by subject.
        paper: the set of the paper that it stands beside, or an empty string.
        environment: versions and machine.
        device: device, threads and backend, in words.
        degradation: what the small pictures went through, in words; empty for nothing.
        warnings: what was lost when pictures were read; what an earlier run scored says nothing any more.
    """

    dataset: str
    rule: Rules
    lr_given: bool
    metrics: Sequence[str]
    scores: Sequence[Score]
    paper: str
    environment: dict[str, str]
    device: str
    degradation: str = ""
    warnings: Sequence[str] = ()

    @cached_property
    def summaries(self) -> list[Summary]:
        """The means of each subject, bicubic first."""
        return summarize(self.scores)

    @property
    def count(self) -> int:
        """Number of pictures."""
        return len({score.image for score in self.scores})

    def to_dict(self) -> dict[str, Any]:
        """The object of `eval --json`."""
        baseline = next((summary for summary in self.summaries if summary.label == "bicubic"), None)
        first = next((summary for summary in self.summaries if summary is not baseline), self.summaries[0])
        return {
            "schema": SCHEMA,
            "protocol": self.rule.describe(self.lr_given, self.degradation),
            "dataset": self.dataset,
            "scale": self.rule.scale,
            "count": self.count,
            "mean": first.mean,
            "baseline": baseline.mean if baseline else None,
            "subjects": [
                summary.identity
                | {
                    "label": summary.label,
                    "count": summary.count,
                    "mean": summary.mean,
                    "interval_95": summary.interval,
                    **self._spectrum(summary),
                    "seconds": {"picture": summary.seconds.get("total"), "per_step": summary.seconds.get("per_step")},
                    "peak_memory_bytes": summary.memory.get("host"),
                }
                for summary in self.summaries
            ],
            "paper": paper_rows(self.paper, self.rule.scale),
            "images": [
                {
                    "image": score.image,
                    "label": score.label,
                    "size": list(score.size),
                    **score.values,
                    **score.figures,
                }
                for score in self.scores
            ],
            "environment": self.environment,
            "warnings": list(self.warnings),
        }

    def _spectrum(self, summary: Summary) -> dict[str, dict[str, float]]:
        """comb by period and cross by ring, as far as they were asked for."""
        spectrum = summary.artefacts.spectrum() if summary.artefacts else {}
        return {name: values for name, values in spectrum.items() if name in self.metrics}
