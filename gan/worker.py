"""One process of a training that `gan.launch` has started: `python -m gan.worker`.

It reads one line of JSON from its standard input and then listens there until the launcher is gone, which
ends it too. What it has to say goes to its standard output, a line of JSON each; whatever libraries print
goes to standard error.
"""

import base64
import json
import os
import pickle
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, TextIO


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # before training there is nothing to be saved
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    sys.exit(_work(request, events))


def _end_with_launcher() -> None:
    while os.read(0, 1024):
        continue
    os._exit(1)


def _work(request: dict[str, Any], events: TextIO) -> int:
    """Train, and tell how it went; the exit code."""

    def tell(kind: str, **values: Any) -> None:
        events.write(json.dumps({"kind": kind, **values}) + "\n")
        events.flush()

    import torch.distributed as dist

    from extract.errors import SettingsError, SynthlabelError
    from gan.config import config_from_json
    from gan.distributed import Place, open_ranks
    from gan.errors import LostProcess, PeerFailed, TrainingInterrupted
    from gan.training import train_as_rank

    place = Place(**request["place"])
    config = config_from_json(request["config"])
    try:
        store = dist.TCPStore(request["host"], request["port"], is_master=False)
        with open_ranks(place, config.device, store) as ranks:
            snapshot = train_as_rank(
                config,
                ranks,
                progress=lambda done, total, message: tell("progress", values=[done, total, message]),
                echo=lambda line: tell("log", text=line),
                on_run_dir=lambda path: tell("run_dir", path=str(path)),
                extractors=pickle.loads(base64.b64decode(request["extractors"])),  # of our own launcher
            )
    except TrainingInterrupted as stopped:
        where = {"run_dir": str(stopped.run_dir), "kimg": stopped.kimg}
        tell("interrupted", signal=stopped.signal_number, **where)
        return 128 + stopped.signal_number
    except PeerFailed:
        return 1
    except LostProcess as lost:
        tell("lost", text=str(lost))
        return 1
    except SettingsError as error:
        tell("settings", text=str(error))
        return 2
    except SynthlabelError as error:
        tell("failed", text=str(error))
        return 1
    except OSError as error:
        filename = None if error.filename is None else str(error.filename)
        notes = list(getattr(error, "__notes__", ()))
        tell("os_error", values=[error.errno, error.strerror or str(error), filename], notes=notes)
        return 1
    except Exception:
        tell("crashed", text=traceback.format_exc())
        return 1
    tell("done", path=str(Path(snapshot)))
    return 0


if __name__ == "__main__":
    main()
