"""Start the processes of a training on this host, pass on what the first says, and leave none behind."""

import base64
import json
import math
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from extract.errors import SettingsError
from extract.progress import Progress
from gan.config import TrainConfig, config_to_json
from gan.distributed import Place
from gan.errors import GanError, TrainingInterrupted
from gan.features import FeatureExtractor
from gan.interrupt import StopRequest, listen_for_stop
from gan.log import Echo
from gan.state import how_to_go_on

HOST = "127.0.0.1"
POLL_SEC = 0.2
GRACE_SEC = 10.0  # for the others to end by themselves once a process has failed
LEAVE_SEC = 120.0  # and once one has come to the end, or was stopped
MEETING_TIMEOUT = timedelta(minutes=10)  # for all processes to import torch and come together


def train_in_processes(
    config: TrainConfig,
    progress: Progress,
    echo: Echo | None,
    extractors: Mapping[str, FeatureExtractor],
) -> Path:
    """Train in `config.gpus` processes on this host, one a GPU or all on the CPU; raises what `train` raises.

    The first process is given the extractors, pickled as they are between processes of one program.

    A signal sent to this process reaches all of them, a second one ends them at once. If one of them fails,
    the others are ended as well, and its failure is raised here.
    """
    check_devices(config)
    store = dist.TCPStore(HOST, 0, is_master=True, wait_for_workers=False, timeout=MEETING_TIMEOUT)
    team = _Team(config.gpus)
    with listen_for_stop() as stop:
        try:
            for rank in range(config.gpus):
                given = extractors if rank == 0 else {}
                team.start(Place(rank, config.gpus, rank), config, store.port, given)
            _watch(team, stop, progress, echo)
        except KeyboardInterrupt:  # the second Ctrl-C
            stop.signal = stop.signal or signal.SIGINT
        finally:
            team.kill()
    return _outcome(team, stop)


def check_devices(config: TrainConfig) -> None:
    """Refuse more processes than this host has GPUs; on the CPU there may be any number."""
    if config.device == "cpu":
        return
    found = torch.cuda.device_count()
    if found < config.gpus:
        raise SettingsError(
            f"--gpus={config.gpus}: expected as many CUDA devices on this machine, found {found}; use fewer, "
            f"torchrun for several hosts, or --device=cpu for {config.gpus} processes on the CPU"
        )


@dataclass
class _Team:
    """The processes, and what they have told so far."""

    count: int
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    # (rank, what it said); None = it has ended
    events: "queue.Queue[tuple[int, dict[str, Any] | None]]" = field(default_factory=queue.Queue)
    last_words: dict[int, dict[str, Any]] = field(default_factory=dict)  # by rank, in order of time
    ended: list[int] = field(default_factory=list)  # ranks in order of time
    run_dir: Path | None = None

    def start(
        self, place: Place, config: TrainConfig, port: int, extractors: Mapping[str, FeatureExtractor]
    ) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "gan.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(self.count),
            start_new_session=True,  # Ctrl-C comes to the launcher, which passes it on once
        )
        self.processes.append(process)
        assert process.stdin is not None
        request = {"place": asdict(place), "host": HOST, "port": port, "config": config_to_json(config)}
        request["extractors"] = base64.b64encode(pickle.dumps(dict(extractors))).decode("ascii")
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()  # and stays open: its end tells the process that the launcher is gone
        threading.Thread(target=self._listen, args=(place.rank, process), daemon=True).start()

    def _listen(self, rank: int, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.endswith("\n"):  # not what a killed process left unfinished
                self.events.put((rank, json.loads(line)))
        process.wait()
        self.events.put((rank, None))

    def signal(self, number: int) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)

    def kill(self) -> None:
        """End every process that is still there, and wait for it."""
        self.signal(signal.SIGKILL)
        for process in self.processes:
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


def _environment(count: int) -> dict[str, str]:
    """The processes share the cores, find this package, and talk over the loopback device."""
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // count, 1)))
    if sys.platform.startswith("linux"):
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    roots = [str(Path(__file__).parents[1]), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(root for root in roots if root)
    return environment


def _watch(team: _Team, stop: StopRequest, progress: Progress, echo: Echo | None) -> None:
    """Pass on events and signals until all have ended, or one has failed and the others had their time."""
    passed_on = False
    deadline: float | None = None
    while len(team.ended) < team.count and (deadline is None or time.monotonic() < deadline):
        if stop.signal is not None and not passed_on:
            team.signal(stop.signal)
            passed_on = True
        try:
            rank, event = team.events.get(timeout=POLL_SEC)
        except queue.Empty:
            continue
        if event is None:
            team.ended.append(rank)
            is_orderly = team.last_words.get(rank, {}).get("kind") in ("done", "interrupted")
            grace_sec = LEAVE_SEC if is_orderly else GRACE_SEC
            deadline = min(deadline or math.inf, time.monotonic() + grace_sec)
        elif event["kind"] == "progress":
            progress(*event["values"])
        elif event["kind"] == "log":
            if echo is not None:
                echo(event["text"])
        elif event["kind"] == "run_dir":
            team.run_dir = Path(event["path"])
        else:
            team.last_words[rank] = event


def _outcome(team: _Team, stop: StopRequest) -> Path:
    """The final snapshot, or the reason why there is none."""
    for word in team.last_words.values():
        _raise_failure(word)
    signalled = [rank for rank in team.ended if team.processes[rank].returncode < 0]
    if signalled and stop.signal is None:
        raise GanError(_tell_lost(team, signalled[0]))
    for word in team.last_words.values():
        if word["kind"] == "interrupted":
            number = signal.Signals(word["signal"])
            raise TrainingInterrupted(number.name, number, Path(word["run_dir"]), word["kimg"])
    if stop.signal is not None and not all(process.returncode == 0 for process in team.processes):
        signal.raise_signal(stop.signal)  # they died of it before there was anything to save: so do we
        raise KeyboardInterrupt
    for word in team.last_words.values():
        if word["kind"] == "lost":
            raise GanError(word["text"])
    first = team.last_words.get(0)
    if first is None or first["kind"] != "done":
        codes = ", ".join(str(process.returncode) for process in team.processes)
        raise GanError(
            f"expected the {team.count} processes of this training to end with a snapshot, got exit codes "
            f"{codes}; {how_to_go_on(team.run_dir)}"
        )
    return Path(first["path"])


def _raise_failure(word: dict[str, Any]) -> None:
    if word["kind"] == "settings":
        raise SettingsError(word["text"])
    if word["kind"] == "failed":
        raise GanError(word["text"])
    if word["kind"] == "os_error":
        error = OSError(*word["values"])
        for note in word["notes"]:
            error.add_note(note)
        raise error
    if word["kind"] == "crashed":
        raise RuntimeError("a process of this training failed:\n" + word["text"])


def _tell_lost(team: _Team, rank: int) -> str:
    process = team.processes[rank]
    name = signal.Signals(-process.returncode).name
    return (
        f"process {rank} of {team.count} (number {process.pid}) was ended by {name}, and the others were "
        f"stopped; {how_to_go_on(team.run_dir)}"
    )
