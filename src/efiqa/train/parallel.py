"""Several processes as one: started by torchrun, they split every batch and put the pieces together again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed


@contextmanager
def process_group() -> Iterator[tuple[int, int]]:
    """(rank, processes); (0, 1) unless torchrun started this process. NCCL with GPUs, else gloo."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0, 1
        return
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield place()
    finally:
        distributed.destroy_process_group()


def place() -> tuple[int, int]:
    """(rank, processes) inside `process_group`, (0, 1) outside."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def device() -> torch.device:
    """This process's GPU, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def gather(own: Tensor) -> Tensor:
    """The rows of all processes, by rank; only one's own carry a gradient. `own` is (n, …), n may differ.

    A loss over what this returns has, in each process, the gradient of that process's share alone;
    their sum is the gradient of the whole.
    """
    if not distributed.is_initialized():
        return own
    sizes = [torch.zeros(1, dtype=torch.long, device=own.device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(sizes, torch.tensor([len(own)], device=own.device))
    largest = max(int(size) for size in sizes)
    padded = own.new_zeros((largest, *own.shape[1:]))
    padded[: len(own)] = own.detach()
    pieces = [torch.zeros_like(padded) for _ in sizes]
    distributed.all_gather(pieces, padded)
    rows = [piece[: int(size)] for piece, size in zip(pieces, sizes, strict=True)]
    rows[distributed.get_rank()] = own
    return torch.cat(rows)


def gather_objects(own: list[Any]) -> list[Any]:
    """The items of all processes, by rank."""
    if not distributed.is_initialized():
        return own
    lists: list[list[Any]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(lists, own)
    return [item for items in lists for item in items]
