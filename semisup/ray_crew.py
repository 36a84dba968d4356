"""A crew on a Ray cluster: each job a task, the study folder on a path that every machine sees.

Source: Moritz et al. 2018, "Ray: A Distributed Framework for Emerging AI Applications", arXiv:1712.05889.
"""

import hashlib
import logging
import os
import socket
from collections.abc import Collection
from concurrent.futures import Future, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

from extract.errors import SettingsError
from extract.worker_pool import THREAD_VARIABLES, num_cores
from semisup.errors import StudyError
from semisup.folders import STUDY_JSON
from semisup.plan import Basis, GanJob, Job
from semisup.versions import versions
from semisup.workers import GRACE_SEC, Perform, Verdict, fits, threads_of

MADE_OF = ("synthlabel", "torch", "numpy")  # where these differ, machines would compute other numbers
KNOCK_SEC = 10.0
CHECK_SEC = 300.0  # for the machines of a cluster to import what they need


class RayCrew:
    """Workers on a Ray cluster; a worker that dies takes its own job with it and no other."""

    dies_together = False

    def __init__(self, address: str, basis: Basis, max_jobs: int | None = None) -> None:
        """Join a cluster and check that its machines see the study as this one does.

        Args:
            address: "local" starts a cluster of this machine alone; "auto" joins the one that this machine
                belongs to, or starts one likewise; or HOST:PORT, or ray://HOST:PORT.
            max_jobs: at once; None = as many as there are cores for.

        Raises:
            SettingsError: without Ray, for an address where there is no cluster, for more threads than any
                machine has cores.
            StudyError: if a machine sees another study folder, or has other versions.
        """
        self._basis, self._max_jobs = basis, max_jobs
        self._ray = _import_ray()
        self._refs: dict[Future[Verdict], Any] = {}
        self._join(address)
        try:
            self._check_threads()
            self._digest = study_digest(basis.study_dir)
            self._check_machines()
        except BaseException:
            self._ray.shutdown()
            raise

    def has_room(self, job: Job, running: Collection[Job]) -> bool:
        if self._max_jobs is not None and len(running) >= self._max_jobs:
            return False
        return fits(job, running, int(self._ray.cluster_resources().get("CPU", 1)), self._basis)

    def submit(self, perform: Perform, job: Job) -> "Future[Verdict]":
        task = self._ray.remote(perform_checked).options(
            num_cpus=threads_of(job, self._basis),
            num_gpus=1 if self._wants_gpu(job) else 0,
            max_retries=0,  # the study counts attempts itself
            name=job.title,
        )
        ref = task.remote(perform, job, self._basis, self._digest)
        future: Future[Verdict] = ref.future()
        self._refs[future] = ref
        return future

    def death(self, error: BaseException) -> str | None:
        deaths = self._ray.exceptions
        if isinstance(error, deaths.OutOfMemoryError):
            return "its worker was ended by Ray, for its machine ran out of memory; use fewer --jobs"
        if isinstance(error, (deaths.WorkerCrashedError, deaths.NodeDiedError, deaths.LocalRayletDiedError)):
            return (
                "its worker on the Ray cluster died, most likely for want of memory or with its machine; "
                "use fewer --jobs"
            )
        return None

    def stop(self, running: dict["Future[Verdict]", Job]) -> None:
        for future, job in running.items():
            with suppress(Exception):  # a cluster that is gone needs no goodbye
                self._ray.cancel(self._refs[future], force=not isinstance(job, GanJob))
        training = [future for future, job in running.items() if isinstance(job, GanJob)]
        if training:
            wait(training, timeout=GRACE_SEC)
        self._ray.shutdown()

    def close(self) -> None:
        self._ray.shutdown()

    def _join(self, address: str) -> None:
        variables = dict.fromkeys(THREAD_VARIABLES, str(self._basis.config.threads))
        common: dict[str, Any] = {
            "log_to_driver": False,
            "logging_level": logging.ERROR,
            "runtime_env": {"env_vars": variables},
        }
        if address != "local":
            try:
                _knock(address)  # Ray itself would wait for minutes
                self._ray.init(address=address, **common)
                return
            except (OSError, ValueError, RuntimeError) as error:  # OSError: ConnectionError too
                if address != "auto":
                    raise SettingsError(
                        f"--ray: expected a Ray cluster at {address}, got none ({_first_line(error)}); start "
                        "one with `ray start --head`, or give --ray local"
                    ) from error
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a study tells nobody that it is run
        config = self._basis.config
        jobs = self._max_jobs or max(1, num_cores() // config.threads)
        cores = max(jobs * config.threads, config.threads_of_gan)
        self._ray.init(address="local", num_cpus=cores, include_dashboard=False, **common)

    def _check_threads(self) -> None:
        most = max(int(node["Resources"].get("CPU", 0)) for node in self._nodes())
        for name, threads in (
            ("threads", self._basis.config.threads),
            ("gan_threads", self._basis.config.threads_of_gan),
        ):
            if threads > most:
                raise SettingsError(
                    f"{name}: expected at most {most}, the cores of the cluster's largest machine, got "
                    f"{threads}; no task could ever start"
                )

    def _check_machines(self) -> None:
        """Ask every machine for the hash of the study file and for its versions, all at once."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = versions()
        asked = {}
        for node in self._nodes():
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = self._ray.remote(describe_machine).options(
                num_cpus=0, max_retries=0, scheduling_strategy=place
            )
            asked[node["NodeManagerAddress"]] = task.remote(self._basis.study_dir)
        for name, ref in asked.items():
            try:
                digest, there = self._ray.get(ref, timeout=CHECK_SEC)
            except Exception as error:  # its worker could not start: no such package, no such Python
                raise StudyError(
                    f"--ray: expected synthlabel on every machine of the cluster, got an error on {name} "
                    f"({_first_line(error)}); install the same release there"
                ) from error
            if digest != self._digest:
                raise StudyError(_other_folder(name, self._basis.study_dir, digest))
            for part in MADE_OF:
                if there[part] != here[part]:
                    raise StudyError(
                        f"--ray: expected {part} {here[part]} on every machine of the cluster, as here, got "
                        f"{there[part]} on {name}; install the same, or the numbers depend on the machine"
                    )

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _wants_gpu(self, job: Job) -> bool:
        """One GPU a job where the cluster has any, unless the study says that it is to run on the CPU."""
        config = self._basis.config
        device = config.classifier.device if job.kind == "run" else config.gan.device
        return device != "cpu" and self._ray.cluster_resources().get("GPU", 0) > 0


def perform_checked(perform: Perform, job: Job, basis: Basis, digest: str) -> Verdict:
    """Perform a job on a machine that sees the study; one that joined the cluster late may not."""
    import platform

    seen = study_digest(basis.study_dir)
    if seen != digest:
        return Verdict("failed", _other_folder(platform.node(), basis.study_dir, seen))
    return perform(job, basis)


def describe_machine(study_dir: Path) -> tuple[str, dict[str, str]]:
    """What a machine says of itself: the hash of the study file that it sees, and its versions."""
    return study_digest(study_dir), versions()


def study_digest(study_dir: Path) -> str:
    """SHA-256 of the study file in a folder; empty where there is none."""
    path = study_dir / STUDY_JSON
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def _other_folder(machine: str, study_dir: Path, digest: str) -> str:
    seen = f"another one ({digest[:12]}...)" if digest else "nothing"
    return (
        f"--ray: expected every machine to see the study in {study_dir}, got {seen} there on {machine}; put "
        "--outdir on a path that all of them share"
    )


def _knock(address: str) -> None:
    """Raise an OSError where nobody listens at HOST:PORT or ray://HOST:PORT."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=KNOCK_SEC).close()


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise SettingsError(
            "--ray needs Ray, which is not installed: pip install 'synthlabel[ray]', here and on every "
            "machine of the cluster"
        ) from error
    return ray


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
