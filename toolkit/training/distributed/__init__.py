"""Data parallelism: several processes train one model and send factors instead of gradients.

There are two ways. :func:`synchronise` lets the workers' LowRankSGD exchange factors that each
estimates from its own (errors, activations); no gradient is ever formed. :func:`sbpca_hook`
compresses the gradients formed by torch's DistributedDataParallel, for any optimiser. Both count
the bytes they send. :func:`workers` joins the processes that ``torchrun`` starts.
"""

from toolkit.training.distributed.factor_exchange import (
    FactorExchange,
    check_replicas,
    merge,
    synchronise,
)
from toolkit.training.distributed.gradient_hook import HookState, sbpca_hook
from toolkit.training.distributed.workers import Traffic, Worker, WorkerLostError, workers

__all__ = [
    "FactorExchange",
    "HookState",
    "Traffic",
    "Worker",
    "WorkerLostError",
    "check_replicas",
    "merge",
    "sbpca_hook",
    "synchronise",
    "workers",
]
