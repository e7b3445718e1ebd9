"""The papers' claims put to the test: what is trained, how it is judged, and the report."""

from toolkit.reproduce.atlas import Recommendation, open_atlas, recommend
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
    "Recommendation",
    "interval",
    "open_atlas",
    "overall_verdict",
    "recommend",
    "reproduce",
    "tuned_rate",
]
