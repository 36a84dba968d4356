"""What torch computes with: threads, for a while, and the CUDA devices that it sees."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(num_threads: int | None) -> Iterator[None]:
    """Compute with so many threads in the block (None = as before); their number moves last digits."""
    before = torch.get_num_threads()
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def num_cuda_devices() -> int:
    """CUDA devices that this process sees."""
    return torch.cuda.device_count()
