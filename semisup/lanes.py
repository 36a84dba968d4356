"""Which GPU a job gets: every GPU is a lane with places for jobs, and a job takes the emptiest."""

from collections.abc import Mapping, Sequence

from extract.errors import SettingsError

NO_GPU = ""  # the one lane of a study without GPUs of its own


def lane_places(num_workers: int, gpus: Sequence[str]) -> dict[str, int]:
    """How many jobs each GPU may have at once: the processes dealt out evenly, the first GPUs first.

    Without GPUs there is one lane, `NO_GPU`, with all places. A GPU that gets no process is left out.
    """
    if not gpus:
        return {NO_GPU: num_workers}
    each, left = divmod(num_workers, len(gpus))
    places = {gpu: each + (number < left) for number, gpu in enumerate(gpus)}
    return {gpu: count for gpu, count in places.items() if count}


def emptiest_lane(places: Mapping[str, int], loads: Mapping[str, int]) -> str | None:
    """The lane with the smallest share of its places taken, the first of equals; None where all are full."""
    free = [lane for lane in places if loads.get(lane, 0) < places[lane]]
    return min(free, key=lambda lane: loads.get(lane, 0) / places[lane], default=None)


def parse_gpus(text: str, visible: str | None, num_found: int) -> tuple[str, ...]:
    """The GPUs that `--gpus 0,1` names, as CUDA_VISIBLE_DEVICES is to name them.

    Args:
        visible: CUDA_VISIBLE_DEVICES as it is; numbers then count within it, as they do for torch.
        num_found: CUDA devices that torch sees.

    Raises:
        SettingsError: for a GPU that is not there, or is named twice.
    """
    given = [part.strip() for part in text.split(",")]
    known = visible.split(",") if visible else [str(number) for number in range(num_found)]
    gpus = []
    for name in given:
        if name.startswith(("GPU-", "MIG-")):  # names that the driver gives
            gpus.append(name)
        elif not name.isdecimal():
            raise SettingsError(f"--gpus must be numbers with commas between them such as 0,1, got {text!r}")
        elif int(name) >= min(num_found, len(known)):
            raise SettingsError(
                f"--gpus: GPU {name} does not exist, torch sees {num_found} CUDA devices on this machine"
                f"{'' if num_found else '; leave --gpus out to use the CPU'}"
            )
        else:
            gpus.append(known[int(name)].strip())
    if len(set(gpus)) < len(gpus):
        raise SettingsError(f"--gpus names the same GPU twice: {text}; use --jobs for several jobs on a GPU")
    return tuple(gpus)
