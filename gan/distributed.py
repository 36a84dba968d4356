"""Processes that train one network together: each has images and latents of its own, all the same weights.

Nothing here wraps the networks. After the last round of a phase the gradients are averaged over the processes
in one reduction of one flat vector, which is all that training on several GPUs comes to, and leaves double
backward alone. What few numbers the processes must agree on besides (signs of ADA, the path-length mean, the
wish to stop) are reduced where they are used.

A process alone is a `Ranks()`, whose every reduction is the value itself.
"""

import functools
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from extract.errors import SettingsError
from gan.errors import GanError, LostProcess, PeerFailed
from gan.networks import choose_device

# Gradients come within an iteration; a process that keeps the others waiting longer than this is lost.
GRADIENT_TIMEOUT = timedelta(minutes=30)
# Everything else waits for the first process as well, which may measure a snapshot for hours.
CONTROL_TIMEOUT = timedelta(days=1)
FAILURE_KEY, LOST_KEY = "failed", "lost"
_openings = itertools.count()  # of this process: trainings in turn do not read each other's keys

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Which of the processes of a training this is."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0  # among those of this host; the number of its GPU


def place_of_this_process() -> Place:
    """The place that `torchrun` (RANK, WORLD_SIZE, LOCAL_RANK) gave this process; alone without it."""
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    if any(name not in os.environ for name in names):
        return Place()
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return Place(rank, count, int(os.environ.get("LOCAL_RANK", rank)))


class Ranks:
    """The processes of one training, as one of them sees them.

    Every method but the plain properties must be called by all processes in the same order.
    """

    def __init__(
        self,
        place: Place | None = None,
        device: torch.device | None = None,
        control: dist.ProcessGroup | None = None,
        gradients: dist.ProcessGroup | None = None,
        store: dist.Store | None = None,
    ) -> None:
        self.place = place or Place()
        self.device = device or torch.device("cpu")
        self._control, self._gradients, self._store = control, gradients, store

    @property
    def rank(self) -> int:
        return self.place.rank

    @property
    def count(self) -> int:
        return self.place.count

    @property
    def is_first(self) -> bool:
        """This process writes the files."""
        return self.place.rank == 0

    @torch.no_grad()
    def average_gradients(self, network: nn.Module) -> None:
        """Replace every gradient by its mean over the processes; a missing one counts as zero."""
        if self.count == 1:
            return
        parameters = list(network.parameters())
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = self._mean(torch.cat([gradient.flatten() for gradient in gradients]))
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
            parameter.grad.copy_(part.view(parameter.shape))

    def average(self, value: Tensor) -> Tensor:
        """Mean over the processes, differentiable: each receives the mean of all gradients of the result."""
        return value if self.count == 1 else _Average.apply(value, self)

    @torch.no_grad()
    def average_(self, tensor: Tensor) -> None:
        """Replace a tensor by its mean over the processes."""
        if self.count > 1:
            tensor.copy_(self._mean(tensor.clone()))

    @torch.no_grad()
    def copy_from_first(self, *modules: nn.Module) -> None:
        """Give all processes the parameters and buffers of the first."""
        if self.count == 1:
            return
        for module in modules:
            for tensor in [*module.parameters(), *module.buffers()]:
                wire = tensor.detach().contiguous().clone()
                with self._contact():
                    dist.broadcast(wire, src=0, group=self._gradients)
                tensor.copy_(wire)

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums of plain numbers over the processes, in double precision."""
        if self.count == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        with self._contact():
            dist.all_reduce(total, group=self._control)
        return total.tolist()

    def largest(self, value: int) -> int:
        """The largest of the processes' numbers."""
        if self.count == 1:
            return value
        wire = torch.tensor([value], dtype=torch.int64)
        with self._contact():
            dist.all_reduce(wire, op=dist.ReduceOp.MAX, group=self._control)
        return int(wire.item())

    def gather(self, value: T) -> list[T] | None:
        """The values of all processes in order of rank at the first, None at the others."""
        if self.count == 1:
            return [value]
        gathered: list[Any] | None = [None] * self.count if self.is_first else None
        with self._contact():
            dist.gather_object(value, gathered, dst=0, group=self._control)
        return gathered

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives in the first process, in all of them."""
        if self.count == 1:
            return make()
        made: list[Any] = [None]
        with self.together():
            if self.is_first:
                made[0] = make()
        with self._contact():
            dist.broadcast_object_list(made, src=0, group=self._control)
        return made[0]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Leave the block when all processes have come through it; where one failed, all fail.

        The failure is raised in the first process that had one; in the others it is a `PeerFailed`, so that
        it is told once.
        """
        if self.count == 1:
            yield
            return
        failure: Exception | None = None
        try:
            yield
        except LostProcess:
            raise
        except Exception as error:
            failure = error
        failures: list[str | None] = [None] * self.count
        with self._contact():
            dist.all_gather_object(failures, None if failure is None else str(failure), group=self._control)
        told_by = next((rank for rank, text in enumerate(failures) if text is not None), None)
        if told_by is None:
            return
        if failure is not None and told_by == self.rank:
            raise failure
        raise PeerFailed(f"process {told_by} of this training failed: {failures[told_by]}") from failure

    def check_equal(self, modules: Mapping[str, nn.Module]) -> None:
        """Compare checksums of all parameters and buffers over the processes.

        Raises:
            GanError: in every process, where a network is no longer the same in all.
        """
        if self.count == 1:
            return
        sums = {
            f"{prefix}.{name}": _bit_sum(tensor)
            for prefix, module in modules.items()
            for name, tensor in module.state_dict().items()
        }
        everywhere: list[Any] = [None] * self.count
        with self._contact():
            dist.all_gather_object(
                everywhere, dict(zip(sums, torch.stack([*sums.values()]).tolist(), strict=True)),
                group=self._control,
            )  # fmt: skip
        for rank, other in enumerate(everywhere):
            different = [name for name in sums if other[name] != everywhere[0][name]]
            if different:
                raise GanError(
                    f"expected equal networks in all {self.count} processes, got another {different[0]} in "
                    f"process {rank} than in process 0 ({len(different)} of {len(sums)} tensors differ); the "
                    f"processes must run the same program on equal devices"
                )

    def note_failure(self) -> None:
        """Let the others know that this process has told of its failure and is about to end."""
        if self._store is not None:
            try:
                self._store.set(FAILURE_KEY, str(self.rank))
            except RuntimeError:  # the store went first
                return

    def _mean(self, tensor: Tensor) -> Tensor:
        """The mean over the processes, in the memory of `tensor`."""
        wire = tensor.reshape(-1)
        with self._contact():
            dist.all_reduce(wire, group=self._gradients)
        return wire.div_(self.count).reshape(tensor.shape)

    @contextmanager
    def _contact(self) -> Iterator[None]:
        """Say in a sentence that another process is gone."""
        try:
            yield
        except RuntimeError as error:
            if self._others_tell():
                raise PeerFailed("another process of this training failed and has said why") from error
            first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise LostProcess(
                f"process {self.rank} of {self.count} has lost another one, which was killed, failed or "
                f"cannot be reached any more ({first_line})"
            ) from error

    def _others_tell(self) -> bool:
        """Another process has told of its failure, or was first to notice that one is lost."""
        if self._store is None:
            return False
        try:
            return self._store.check([FAILURE_KEY]) or self._store.add(LOST_KEY, 1) > 1
        except RuntimeError:  # nobody is left to agree with
            return False


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks._mean(value.detach().clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks._mean(gradients[0].clone()), None


def _bit_sum(tensor: Tensor) -> Tensor:
    """The sum of a tensor's bits, read as integers: a change anywhere changes it; it is exact and cheap."""
    flat = tensor.detach().contiguous().reshape(-1)
    width = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()]
    return flat.view(width).sum(dtype=torch.int64).cpu()


@functools.cache
def _store_of_torchrun(place: Place) -> dist.Store:
    """Kept for as long as the process: a second one at the same address could be mistaken for the first."""
    store, _, _ = next(dist.rendezvous("env://", place.rank, place.count))
    return store


@contextmanager
def open_ranks(place: Place, device_name: str, store: dist.Store | None = None) -> Iterator[Ranks]:
    """Join the processes of a training, and leave them at the end.

    Gradients travel by NCCL between GPUs and by gloo between processors; all else by gloo.

    Args:
        store: where the processes find each other; None = where `torchrun` says.

    Raises:
        SettingsError: if this host has fewer GPUs than processes.
        LostProcess: if the others do not come.
    """
    device = choose_device(device_name)
    if place.count == 1:
        yield Ranks(place, device)
        return
    if device.type == "cuda":
        if place.local_rank >= torch.cuda.device_count():
            raise SettingsError(
                f"--gpus={place.count}: process {place.local_rank + 1} of this host found only "
                f"{torch.cuda.device_count()} CUDA devices; start one process a device, or give --device=cpu"
            )
        device = torch.device("cuda", place.local_rank)
        torch.cuda.set_device(device)
    try:
        store = dist.PrefixStore(f"synthlabel/{next(_openings)}", store or _store_of_torchrun(place))
        dist.init_process_group(
            "gloo", store=store, rank=place.rank, world_size=place.count, timeout=CONTROL_TIMEOUT
        )
        backend = "nccl" if device.type == "cuda" else "gloo"
        gradients = dist.new_group(backend=backend, timeout=GRADIENT_TIMEOUT)
    except RuntimeError as error:
        raise LostProcess(
            f"process {place.rank} of {place.count}: the processes of this training did not find each other: "
            f"{error}"
        ) from error
    assert gradients is not None
    try:
        yield Ranks(place, device, dist.group.WORLD, gradients, store)
    finally:
        dist.destroy_process_group()
