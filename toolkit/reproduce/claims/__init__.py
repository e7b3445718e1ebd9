"""The claims, one module each."""

from toolkit.reproduce.claim import Claim
from toolkit.reproduce.claims import (
    accuracy,
    atlas,
    devices,
    memory,
    online,
    rank_and_batch,
    rank_one,
    spectra,
    writes,
)

CLAIMS: dict[str, Claim] = {
    module.CLAIM.name: module.CLAIM
    for module in (
        accuracy,
        memory,
        rank_and_batch,
        spectra,
        writes,
        rank_one,
        devices,
        online,
        atlas,
    )
}
