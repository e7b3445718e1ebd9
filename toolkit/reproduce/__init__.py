"""The papers' claims put to the test: what is trained, how it is judged, and the report."""

from toolkit.reproduce.claim import Claim
from toolkit.reproduce.claims import CLAIMS
from toolkit.reproduce.command import reproduce
from toolkit.reproduce.statistics import Finding, Interval, interval, overall_verdict
from toolkit.reproduce.study import Case, Data, tuned_rate

__all__ = [
    "CLAIMS",
    "Case",
    "Claim",
    "Data",
    "Finding",
    "Interval",
    "interval",
    "overall_verdict",
    "reproduce",
    "tuned_rate",
]
