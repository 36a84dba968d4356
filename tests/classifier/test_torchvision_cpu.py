import multiprocessing
import subprocess
import sys


def import_torchvision() -> str:
    import torchvision.transforms

    return torchvision.__version__


def prepare_worker() -> None:
    import classifier  # noqa: F401


def test_torchvision_is_importable_in_a_spawned_worker_once_the_package_is():
    with multiprocessing.get_context("spawn").Pool(1, initializer=prepare_worker) as pool:
        assert pool.apply(import_torchvision)


def test_importing_the_package_imports_neither_torch_nor_fastai():
    code = (
        "import sys, classifier; sys.exit(any(name in sys.modules for name in ('torch', 'fastai', 'timm')))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
