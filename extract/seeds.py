"""Seeds that follow from what they are for, so that no result depends on the order of execution."""

import hashlib


def derive_seed(*parts: object) -> int:
    """Hash the parts (study seed, fold, arm, round, ...) to a seed in [0, 2**31)."""
    text = "\x1f".join(repr(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little") & 0x7FFFFFFF
