"""What all benchmarks say of the machine, and how they leave their figures."""

import json
import platform
from pathlib import Path
from typing import Any


def processor() -> str:
    """The processor's name, with family and model, which cloud machines do not hide."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    found = {line.split(":")[0].strip(): line.split(":", 1)[1].strip() for line in lines if ":" in line}
    family = f"family {found.get('cpu family')}, model {found.get('model')}"
    return f"{found.get('model name', platform.processor())} ({family})"


def write_result(path: Path | None, result: dict[str, Any]) -> None:
    """Write the figures as JSON, or print them where no file was asked for."""
    text = json.dumps(result, indent=2) + "\n"
    if path is None:
        print(text)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
