"""One measurement of `benchmarks.gan`, in a process of its own: the allocator is set once a process.

Takes a JSON object as its only argument, prints a JSON object as its last line.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gan.allocator import keep_freed_memory
from gan.config import TrainConfig, make_recipe
from gan.job import PHASE_NAMES, Job, build_job, run_iteration
from gan.networks import use_channels_last
from vendor.stylegan2_ada import Generator

WARM_UP = 2


class RandomImages:
    """The interface of `gan.data.TrainingImages` over noise."""

    c_dim = 0

    def __init__(self, resolution: int, channels: int) -> None:
        random = np.random.RandomState(0)
        self.images = random.randint(0, 256, (256, channels, resolution, resolution), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, items: np.ndarray, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.from_numpy(self.images[items]).to(device, torch.float32) / 127.5 - 1
        return images, torch.zeros([len(items), 0], device=device)

    def one_hot(self, items: np.ndarray) -> np.ndarray:
        return np.zeros((len(items), 0), np.float32)


def measure_training(spec: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds of each phase; an iteration is both main phases and the share of the lazy ones."""
    config = TrainConfig(
        data=Path("none"), outdir=Path("none"), cfg="auto", batch=spec["batch"], gamma=1.0, aug="fixed",
        p=spec["p"], channel_base=spec["channel_base"], channel_max=spec["channel_max"],
        precision=spec["precision"], device=spec["device"],
    )  # fmt: skip
    device = torch.device(spec["device"])
    recipe = make_recipe(config, spec["resolution"], spec["img_channels"], 0, on_gpu=device.type == "cuda")
    torch.manual_seed(0)
    job = build_job(recipe, RandomImages(spec["resolution"], spec["img_channels"]), device, seed=0)  # type: ignore[arg-type]
    phases: dict[str, list[float]] = {name: [] for name in PHASE_NAMES}
    first_losses = {}
    for repetition in range(WARM_UP + spec["repetitions"]):
        job.iteration = 0  # so that every phase is due
        _run(job, device)
        if repetition == 0:
            first_losses = {name: values["mean"] for name, values in job.statistics.end_tick().items()}
        if repetition >= WARM_UP:
            for name in PHASE_NAMES:
                phases[name].append(job.phase_ms[name])
    weights = {"Gmain": 1, "Greg": 1 / recipe.g_reg_interval, "Dmain": 1, "Dreg": 1 / recipe.d_reg_interval}
    iterations = [
        sum(weights[name] * phases[name][index] for name in PHASE_NAMES)
        for index in range(spec["repetitions"])
    ]
    return {
        "phases_ms": phases,
        "iteration_ms": iterations,
        "parameters": {"G": _count(job.players.G), "D": _count(job.players.D)},
        "losses_of_first_iteration": first_losses,
        "peak_memory_gb": _peak_memory_gb(device),
    }


def _run(job: Job, device: torch.device) -> None:
    run_iteration(job)
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure_sampling(spec: dict[str, Any]) -> dict[str, Any]:
    """Images a second of the whole generator, latents to pixels in [-1, 1], for the asked batch size."""
    torch.manual_seed(0)
    device = torch.device(spec["device"])
    low = {"fp32": 0, "bf16": 4, "fp16": 4}[spec["precision"]]
    generator = Generator(
        512, 0, 512, spec["resolution"], spec["img_channels"], channel_base=spec["channel_base"],
        channel_max=spec["channel_max"], num_mapping_layers=8, num_fp16_res=low,
        low_precision_dtype="float16" if spec["precision"] == "fp16" else "bfloat16",
    )  # fmt: skip
    generator = generator.eval().requires_grad_(False).to(device)
    fused = None
    if spec["variant"] == "ours":
        use_channels_last(generator)
    else:
        fused = True  # the default in evaluation there
    z = torch.randn([spec["batch"], 512], device=device)
    seconds = []
    with torch.inference_mode():
        for repetition in range(WARM_UP + spec["repetitions"]):
            started = time.perf_counter()
            images = generator(z, noise_mode="const", fused_modconv=fused)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if repetition >= WARM_UP:
                seconds.append(time.perf_counter() - started)
    return {
        "images_per_sec": [spec["batch"] / second for second in seconds],
        "parameters": {"G": _count(generator)},
        "mean_absolute_pixel": float(images.abs().mean()),
        "peak_memory_gb": _peak_memory_gb(device),
    }


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _peak_memory_gb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(spec["threads"])
    if spec["variant"] == "textbook":
        from benchmarks.textbook import install

        install()
    elif spec["device"] == "cpu":
        keep_freed_memory()
    measure = measure_training if spec["kind"] == "training" else measure_sampling
    print(json.dumps(measure(spec)))


if __name__ == "__main__":
    main()
