"""Network files made to do harm end in one sentence: nothing is run, and the memory stays bounded."""

import io
import os
import pickle
import random
import struct
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from extract.errors import SynthlabelError
from gan.official import read_official
from gan.pickle_writer import Made, Name, Outside, tensor, write_pickle
from gan.pickled_modules import STORAGE_MAGIC, read_storage
from tests.gan.official_files import official_content, replace_tensor, write
from tests.gan.test_official import networks_of, part, settings_of

REPOSITORY = Path(__file__).parents[2]


def refused(data: bytes, message: str, tmp_path: Path) -> None:
    source = tmp_path / "hostile.pkl"
    source.write_bytes(data)
    with pytest.raises(SynthlabelError, match=message) as caught:
        read_official(source)
    assert str(caught.value).startswith(f"{source}: ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def content_of(tmp_path: Path) -> dict[str, Any]:
    settings = settings_of()
    return official_content(networks_of(settings), settings, trace=str(tmp_path / "ran"))


class Attack:
    """Runs a command when it is unpickled the usual way."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


class Loaded:
    """A storage whose own little file is what was given."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple:
        return torch.storage._load_from_bytes, (self.data,)


def test_a_command_in_a_layer_is_not_run(tmp_path: Path):
    content = content_of(tmp_path)
    part(content, "G_ema.synthesis.b8.conv0")["some"] = Attack(f"touch {tmp_path / 'ran'}")
    refused(write(content), r"got (posix|nt)\.system; the file would run code", tmp_path)


def test_a_file_within_the_file_is_read_as_carefully(tmp_path: Path):
    nested = pickle.dumps(Attack(f"touch {tmp_path / 'ran'}"), 2)
    content = content_of(tmp_path)
    part(content, "D.b8")["_buffers"]["resample_filter"] = Loaded(nested)
    refused(write(content), r"the storage of a tensor: .* got (posix|nt)\.system", tmp_path)
    pickle.loads(nested)  # it would have run
    assert (tmp_path / "ran").exists()


def test_a_new_style_file_within_the_file_is_refused(tmp_path: Path):
    buffer = io.BytesIO()
    torch.save(torch.ones(2), buffer)
    content = content_of(tmp_path)
    part(content, "D.b8")["_buffers"]["resample_filter"] = Loaded(buffer.getvalue())
    refused(write(content), "the storage of a tensor: expected a pickle", tmp_path)


def rebuilt(**changes: Any):
    """Every tensor that is no parameter, rebuilt from other numbers."""
    names = ("storage", "offset", "size", "stride", "requires_grad", "hooks")

    def change(args: tuple) -> tuple:
        return tuple(changes.get(name, value) for name, value in zip(names, args, strict=True))

    return change


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offset": 10**9}, "expected a tensor inside its storage of .* from 1000000000"),
        ({"offset": -1}, "expected an offset, sides and strides that are counts"),
        ({"size": (-4, 4), "stride": (4, 1)}, "that are counts"),
        ({"size": (4, 4), "stride": (-4, 1)}, "that are counts"),
        ({"size": (4.0, 4), "stride": (4, 1)}, "that are counts"),
        ({"size": (True,), "stride": (1,)}, "that are counts"),
        ({"size": (2**40,), "stride": (1,)}, "expected a tensor inside its storage"),
        ({"size": (2**40,), "stride": (0,)}, "expected a tensor inside its storage"),
        ({"size": (2**62, 2**62, 2**62), "stride": (0, 0, 0)}, "expected a tensor inside its storage"),
        ({"size": (2, 2), "stride": (2**62, 1)}, "expected a tensor inside its storage"),
        ({"size": (1,), "stride": (1, 1)}, "as many strides as sides"),
        ({"size": (1,) * 20, "stride": (1,) * 20}, "that are counts"),
        ({"size": [1], "stride": [1]}, "as many strides as sides"),
        ({"storage": None}, "expected a storage"),
        ({"storage": b"bytes"}, "expected a storage"),
    ],
)
def test_tensors_that_reach_outside_their_storage_are_refused(changes: dict, message: str, tmp_path: Path):
    refused(replace_tensor(content_of(tmp_path), rebuilt(**changes)), message, tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int64, torch.bfloat16, torch.bool])
def test_tensors_of_another_type_are_refused(dtype: torch.dtype, tmp_path: Path):
    content = content_of(tmp_path)
    part(content, "G.mapping")["_buffers"]["w_avg"] = torch.ones(8).to(dtype)
    refused(write(content), r"expected numbers in float32, got torch\.\w+Storage", tmp_path)


def stored(**changes: Any) -> bytes:
    """A storage of three numbers, or nearly."""
    values: dict[str, Any] = {
        "magic": STORAGE_MAGIC, "protocol": 1001, "machine": {"little_endian": True}, "kind": "FloatStorage",
        "count": 3, "view": None, "keys": ["0"], "length": 3, "data": bytes(12),
    }  # fmt: skip
    values |= changes
    identity = ("storage", Name("torch", values["kind"]), "0", "cpu", values["count"], values["view"])
    parts = (values["magic"], values["protocol"], values["machine"], Outside(identity), values["keys"])
    return b"".join(map(write_pickle, parts)) + struct.pack("<Q", values["length"]) + values["data"]


def test_a_storage_of_the_old_format_is_read():
    assert read_storage(stored(data=struct.pack("<3f", 1, 2, 3))).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"magic": 1}, "expected a storage in PyTorch's old format"),
        ({"protocol": 1002}, "expected a storage of protocol 1001"),
        ({"machine": {"little_endian": False}}, "expected a storage of a little-endian machine"),
        ({"machine": None}, "expected a storage of a little-endian machine"),
        ({"kind": "UntypedStorage"}, "got torch.UntypedStorage"),
        ({"count": 10**15}, "expected 1000000000000000 numbers, got 12 bytes for 3 of them"),
        ({"count": 10**15, "length": 10**15}, "expected 1000000000000000 numbers, got 12 bytes for 10000"),
        ({"count": "3"}, "expected 3 numbers"),
        ({"length": 2**64 - 1}, "expected 3 numbers"),
        ({"view": ("0", 0, 3)}, "expected one storage"),
        ({"keys": ["0", "1"]}, "expected one storage and its key"),
        ({"data": bytes(13)}, "expected 3 numbers, got 13 bytes"),
        ({"data": b""}, "expected 3 numbers, got 0 bytes"),
    ],
)
def test_storages_that_are_not_what_they_say_are_refused(changes: dict, message: str, tmp_path: Path):
    content = {"G": Made(Name("torch.storage", "_load_from_bytes"), (stored(**changes),))}
    refused(write_pickle(content), message, tmp_path)


def test_a_storage_cut_short_is_refused(tmp_path: Path):
    whole = stored()
    for size in range(0, len(whole), 7):
        content = {"G": Made(Name("torch.storage", "_load_from_bytes"), (whole[:size],))}
        refused(write_pickle(content), "expected", tmp_path)


@pytest.mark.parametrize(
    "value",
    [
        Made(Name("torch._utils", "_rebuild_parameter"), (1, False, None)),
        Made(Name("torch._utils", "_rebuild_parameter"), ()),
        Made(Name("torch._utils", "_rebuild_tensor_v2"), (1,)),
        Made(Name("torch.storage", "_load_from_bytes"), ("text",)),
        Made(Name("collections", "OrderedDict"), ([["a", 1]],)),
        Made(Name("builtins", "set"), ([[]],)),
        Made(Name("builtins", "set"), ("abc",)),
        Made(Name("numpy", "dtype"), ()),
        Made(Name("numpy._core.multiarray", "scalar"), (1, 2)),
        Made(Name("torch_utils.persistence", "_reconstruct_persistent_obj"), ([],)),
        Made(Name("torch_utils.persistence", "_reconstruct_persistent_obj"), ({"type": "class"},)),
    ],
)
def test_known_names_with_other_arguments_are_refused(value: Made, tmp_path: Path):
    refused(write_pickle({"G": value}), "in an honest file, got another thing", tmp_path)


def test_a_network_within_itself_is_refused(tmp_path: Path):
    content = content_of(tmp_path)
    state = part(content, "G_ema")
    state["_modules"] = dict(state["_modules"], again={"state": state})
    refused(write(content), "expected values that do not contain themselves", tmp_path)


def test_one_tensor_in_many_places_does_not_multiply(tmp_path: Path):
    sizes = {"channel_base": 2048, "channel_max": 128}
    settings = settings_of(G=sizes, D=sizes)
    networks = networks_of(settings)
    weight = torch.nn.Parameter(torch.ones(128, 128, 3, 3))
    for network in networks.values():
        for module in network.modules():
            if tuple(getattr(module, "weight", torch.ones(1)).shape) == tuple(weight.shape):
                module.weight = weight
    networks["G"] = networks["G_ema"]
    content = official_content(networks, settings, trace=str(tmp_path / "ran"))
    content["G"] = content["G_ema"]
    refused(write(content), "made to do harm", tmp_path)


def test_settings_larger_than_the_file_are_refused_before_anything_is_built(tmp_path: Path):
    content = content_of(tmp_path)
    for name in ("G", "G_ema"):
        content[name].meta["state"]["_init_kwargs"]["synthesis_kwargs"].update(
            channel_base=2**24, channel_max=2**22
        )
    refused(
        write(content), r"expected for the settings of G weights of .* bytes or more, got a file of", tmp_path
    )


def test_bytes_changed_at_random_end_in_a_sentence_or_a_network(tmp_path: Path):
    data = write(content_of(tmp_path))
    source = tmp_path / "changed.pkl"
    generator = random.Random(0)
    num_refused = 0
    for _ in range(40):
        changed = bytearray(data)
        for _ in range(20):
            changed[generator.randrange(len(changed))] = generator.randrange(256)
        source.write_bytes(bytes(changed))
        try:
            read_official(source)
        except SynthlabelError:
            num_refused += 1
    assert num_refused > 10
    assert not (tmp_path / "ran").exists()


def test_hostile_files_cost_no_more_memory_than_honest_ones(tmp_path: Path):
    """The peak over a file of nothing, in a process whose memory is limited."""
    big = struct.pack("<Q", 10 * 2**30)
    ones = [Made(Name("torch.storage", "_load_from_bytes"), (stored(count=2**33, length=2**33),))]
    files = {
        "10 GB of bytes": b"\x80\x04\x8e" + big + b".",
        "a storage of 32 GB": write_pickle(ones),
        "a view of 4 TB": write_pickle(
            [Made(Name("torch._utils", "_rebuild_tensor_v2"), (ones[0], 0, (2**40,), (0,), False, None))]
        ),
        "tuples that double": b"\x80\x04)q\x00"
        + b"".join(b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(200)) + b".",
        "a real network with large settings": large_settings(tmp_path),
        "a tensor": write_pickle([tensor(torch.ones(3).numpy())]),
    }  # fmt: skip
    for number, data in enumerate(files.values()):
        (tmp_path / f"{number}.pkl").write_bytes(data)
    program = """
        import resource, sys
        from pathlib import Path
        import torch
        from extract.errors import SynthlabelError
        from gan.official import read_official
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for path in sorted(Path(sys.argv[1]).glob("?.pkl")):
            try:
                read_official(path)
            except SynthlabelError as error:
                print(path.name)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *names, megabytes = done.stdout.split()
    assert len(names) == len(files)
    assert int(megabytes) < 100
    assert not (tmp_path / "ran").exists()


def large_settings(tmp_path: Path) -> bytes:
    content = content_of(tmp_path)
    for name in ("G", "G_ema"):
        content[name].meta["state"]["_init_kwargs"].update(z_dim=2**24, w_dim=2**24)
    return write(content)
