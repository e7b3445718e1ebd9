"""Train one network with several processes that send factors of rank k instead of gradients.

One machine, two processes:

    torchrun --nproc-per-node 2 examples/distributed_training.py

Several machines, each with this file; run the same line on each, with its own node rank:

    torchrun --nnodes 4 --node-rank 0 --nproc-per-node 8 --master-addr first.machine \
        --master-port 29500 examples/distributed_training.py

Without torchrun it is one process. --sync selects what is sent: "factors" (from each worker's own
SBPCA; no gradient is formed), "hook" (torch's gradients, compressed), or "full" (whole gradients).
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from toolkit.training import Dataset, LowRankSGD, load_dataset
from toolkit.training.distributed import (
    FactorExchange,
    HookState,
    Worker,
    check_replicas,
    sbpca_hook,
    synchronise,
    workers,
)


def main() -> None:
    """Join the other workers, train, and print the results on worker 0."""
    options = arguments()
    data = load_dataset(options.dataset, data_dir=options.data_dir)
    with workers(timeout=options.timeout) as worker:
        torch.manual_seed(options.seed)  # the same initial weights everywhere
        features, classes = data.train_inputs.shape[1], int(data.train_labels.max()) + 1
        model: nn.Module = nn.Sequential(
            nn.Linear(features, options.hidden), nn.ReLU(), nn.Linear(options.hidden, classes)
        ).to(worker.device)
        sync: FactorExchange | HookState
        if options.sync == "factors":
            optimizer: torch.optim.Optimizer = LowRankSGD(model, options.lr, rank=options.rank)
            sync = synchronise(optimizer)
        else:
            model = DistributedDataParallel(model)
            sync = HookState(rank=None if options.sync == "full" else options.rank)
            model.register_comm_hook(sync, sbpca_hook)
            optimizer = torch.optim.SGD(model.parameters(), options.lr)
        whole = sum(p.nbytes for p in model.parameters()) * 2 * (worker.count - 1) / worker.count
        steps = 0
        for epoch in range(1, options.epochs + 1):
            for inputs, labels in batches(data, worker, options.batch_size, seed=epoch):
                optimizer.zero_grad()
                functional.cross_entropy(model(inputs), labels).backward()
                optimizer.step()
                steps += 1
            check_replicas(model)  # every worker has the same bits
            if worker.index == 0:
                sent = sync.traffic.bytes_sent
                fewer = f"{whole * steps / sent:.1f} times fewer" if sent else "nothing to send"
                print(f"epoch {epoch}: {accuracy(model, data):.1f} % test accuracy, {fewer} bytes")


def batches(data: Dataset, worker: Worker, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield this worker's share of every whole batch; all workers draw the same order."""
    order = torch.randperm(len(data.train_labels), generator=torch.Generator().manual_seed(seed))
    for batch in order.split(size):
        mine = worker.share(batch)
        if len(batch) == size:
            inputs, labels = data.train_inputs[mine], data.train_labels[mine]
            yield inputs.to(worker.device), labels.to(worker.device)


def accuracy(model: nn.Module, data: Dataset) -> float:
    """Percentage of the test samples that are classified correctly."""
    device = next(model.parameters()).device
    with torch.no_grad():
        guesses = getattr(model, "module", model)(data.test_inputs.to(device)).argmax(1).cpu()
    return 100.0 * float((guesses == data.test_labels).double().mean())


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sync", choices=("factors", "hook", "full"), default="factors")
    parser.add_argument("--dataset", default="digits", help="digits, mnist, ... (digits)")
    parser.add_argument("--data-dir", type=Path, help="folder of the data set's files")
    parser.add_argument("--hidden", type=int, default=128, help="hidden neurons (128)")
    parser.add_argument("--rank", type=int, default=4, help="outer products per matrix (4)")
    parser.add_argument("--lr", type=float, default=0.3, help="learning rate (0.3)")
    parser.add_argument("--batch-size", type=int, default=64, help="of all workers together (64)")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--timeout", type=float, default=60.0, help="seconds to wait for other workers (60)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
