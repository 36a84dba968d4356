"""Time a training iteration of the `stylegan2_pytorch` package as a peer of `benchmarks.gan`.

It is installed elsewhere (`pip install --target FOLDER stylegan2_pytorch`, without its torch). The package
insists on CUDA; on a CPU its `.cuda()` calls are made to do nothing. It is asked for as many channels at each
resolution as ours have; the parameters of both are reported. Its iteration is one step of each network, a
gradient penalty every fourth and a path-length step every 32nd; it always maps latents with eight layers.
"""

import argparse
import json
import sys
import tempfile
import time
import types
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import classifier  # noqa: F401  torchvision beside a torch without CUDA


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--path", type=Path, required=True, help="Folder that the package was installed into."
    )
    parser.add_argument("--steps", type=int, default=8, help="Steps to time after two that warm up.")
    parser.add_argument("spec", help="JSON, as benchmarks.gan passes it.")
    options = parser.parse_args()
    spec = json.loads(options.spec)
    torch.set_num_threads(spec["threads"])
    sys.path.append(str(options.path))
    on_cpu = spec["device"] == "cpu"
    if on_cpu:
        sys.modules.setdefault("aim", types.ModuleType("aim"))  # an experiment tracker it imports at once
        has_cuda = torch.cuda.is_available
        torch.cuda.is_available = lambda: True
    from stylegan2_pytorch import Trainer, stylegan2_pytorch

    # The package forgets the largest number of channels when it makes the average of the generator.
    stylegan2_pytorch.Generator = partial(stylegan2_pytorch.Generator, fmap_max=spec["channel_max"])
    if on_cpu:
        torch.cuda.is_available = has_cuda
        torch.Tensor.cuda = lambda self, *args, **kwargs: self  # type: ignore[method-assign,assignment]
        torch.nn.Module.cuda = lambda self, *args, **kwargs: self  # type: ignore[method-assign,assignment]
        torch.cuda.empty_cache = lambda: None
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        random = np.random.RandomState(0)
        size = spec["resolution"]
        for index in range(64):
            Image.fromarray(random.randint(0, 256, (size, size, 3), dtype=np.uint8)).save(
                images / f"{index}.png"
            )
        trainer = Trainer(
            name="peer", base_dir=folder, results_dir=folder, models_dir=folder, image_size=size,
            network_capacity=spec["channel_base"] // (2 * size), fmap_max=spec["channel_max"],
            batch_size=spec["batch"], num_workers=1, aug_prob=spec["p"], save_every=10**9,
            evaluate_every=10**9,
        )  # fmt: skip
        trainer.set_data_src(str(images))
        seconds = []
        for step in range(options.steps + 2):
            started = time.perf_counter()
            trainer.train()
            trainer.steps = max(trainer.steps, 1)  # step 0 also writes samples
            if step >= 2:
                seconds.append(time.perf_counter() - started)
        networks = {"G": trainer.GAN.G, "D": trainer.GAN.D}
    print(
        json.dumps(
            {
                "iteration_ms": [float(np.mean(seconds)) * 1000],  # the regularised steps are among them
                "steps_ms": [second * 1000 for second in seconds],
                "parameters": {
                    name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()
                },
            }
        )
    )


if __name__ == "__main__":
    main()
