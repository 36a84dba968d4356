"""Pickles are read as data; whatever would run, or fill the memory, ends in a sentence."""

import io
import os
import pickle
import struct
import subprocess
import sys
import textwrap
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from extract.pickled_arrays import NUMPY_ARRAYS, NUMPY_SCALARS
from extract.restricted_pickle import Call, Named, PickleLimits, RefusedPickle, read_pickle

REPOSITORY = Path(__file__).parents[2]
PROTOCOLS = (2, 3, 4, 5)


def read(data, allowed=None, **options):
    return read_pickle(data, allowed or {}, what="file.pkl", **options)


def refused(data, message, allowed=None, **options):
    with pytest.raises(RefusedPickle, match=message) as caught:
        read(data, allowed, **options)
    assert str(caught.value).startswith("file.pkl: expected")
    assert "\n" not in str(caught.value)


# What is honest


def a_set(call: Call) -> object:
    (values,) = call.plain_args(1)
    return set(values)


SETS = {
    ("builtins", "set"): a_set,
    ("__builtin__", "set"): a_set,
    ("__builtin__", "bytes"): lambda call: bytes(*call.plain_args(0)),  # how protocol 2 says b""
    **NUMPY_ARRAYS,
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_are_what_they_were(protocol: int):
    shared = ["shared"]
    value = {
        "numbers": [0, -1, 255, 65535, 65536, -(2**40), 2**70, 1.5, float("inf")],
        "text": ("", "é", "x" * 300, "日本" * 30000),
        "bytes": [b"", b"\x00\xff", b"y" * 300, b"z" * 70000],
        "rest": [None, True, False, {"a", "b"}, set(), (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {}],
        "shared": [shared, shared],
        7: {"key": list(range(3000))},
    }
    found = read(pickle.dumps(value, protocol), SETS)
    assert found == value
    assert found["shared"][0] is found["shared"][1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", ["u1", "<i8", ">f4", "?", "f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_what_they_were(protocol: int, dtype: str, order: str):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype, order=order)
    (found, scalar) = read(pickle.dumps((array, np.float64(0.1)), protocol), NUMPY_ARRAYS)
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype
    assert type(scalar) is float and scalar == 0.1


def test_strings_of_python_2_are_bytes():
    # {'data': 'ab'} as Python 2 writes it with protocol 2
    assert read(b"\x80\x02}q\x01U\x04dataq\x02U\x02abq\x03s.") == {b"data": b"ab"}
    assert read(b"\x80\x02T\x02\x00\x00\x00ab.") == b"ab"
    assert read(pickle.dumps({b"key": 1}, 3)) == {b"key": 1}


def test_an_array_of_python_2_is_an_array():
    # numpy.arange(2, dtype='u1') as Python 2 writes it with protocol 2
    data = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03"
        b"(K\x01K\x02\x85cnumpy\ndtype\nq\x04U\x02u1K\x00K\x01\x87Rq\x05(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x02\x00\x01tb."
    )
    assert read(data, NUMPY_ARRAYS).tolist() == [0, 1]


def test_our_functions_get_arguments_items_and_state():
    table = {("collections", "OrderedDict"): lambda call: list(call.items.items())}
    assert read(pickle.dumps(OrderedDict(a=1, b=2), 4), table) == [("a", 1), ("b", 2)]

    given = []
    data = b"\x80\x04\x8c\x01m\x8c\x01f\x93)R\x8c\x05stateb."
    assert read(data, {("m", "f"): lambda call: given.append(call) or "made"}) == "made"
    assert (given[0].args, given[0].state, given[0].has_state) == ((), "state", True)


def test_a_name_can_be_mentioned_without_being_made():
    assert read(b"\x80\x02cos\nsystem\n.", {("os", "system"): None}) == Named("os", "system")
    refused(
        b"\x80\x02cos\nsystem\n)R.", "os.system to be mentioned only, got a call", {("os", "system"): None}
    )


def test_one_pickle_of_several_is_read_from_a_file():
    stream = io.BytesIO(pickle.dumps(1, 2) + pickle.dumps([2], 4) + b"rest")
    assert (read(stream), read(stream), stream.read()) == (1, [2], b"rest")


def test_references_outside_go_through_a_function():
    assert read(b"\x80\x02K\x05\x85Q.", persistent=lambda identity: identity[0] + 1) == 6


# What would run code

NAMES = {
    "os.system": (os.system, ("touch {}",)),
    "builtins.eval": (eval, ("open({!r}, 'w')",)),
    "builtins.exec": (exec, ("open({!r}, 'w')",)),
}


class Attack:
    def __init__(self, function, args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", NAMES)
def test_code_is_named_and_not_run(name: str, protocol: int, tmp_path: Path):
    trace = tmp_path / "ran"
    function, args = NAMES[name]
    attack = Attack(function, tuple(argument.format(str(trace)) for argument in args))
    data = pickle.dumps({"G": [attack]}, protocol)
    attribute = name.partition(".")[2]
    named = f"{function.__module__}.{attribute}" if protocol > 2 else f".*{attribute}"
    refused(data, rf"got {named}; the file would run code", SETS)
    assert not trace.exists()
    pickle.loads(data)  # the same file does run when opened the usual way
    assert trace.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x80\x04\x8c\x08builtins\x8c\x0dstr.__class__\x93.", r"got builtins\.str\.__class__"),
        (b"\x80\x04\x8c\x10collections.abc\n\x8c\x01x\x93.", r"expected only names"),
        (b"\x80\x04K\x01\x8c\x01x\x93.", "expected names as text"),
        (b"\x80\x02\x82\x01.", r"the extension registry \(EXT1\)"),
        (b"\x80\x02\x83\x01\x00.", r"the extension registry \(EXT2\)"),
        (b"\x80\x02\x84\x01\x00\x00\x00.", r"the extension registry \(EXT4\)"),
        (b"\x80\x02(S'ls'\nios\nsystem\n.", "got instruction 0x53"),
        (b"\x80\x02(ios\nsystem\n.", r"\(INST\)"),
        (b"\x80\x02(cos\nsystem\no.", "got os.system"),
        (b"\x80\x02(No.", r"\(OBJ\)"),
        (b"\x80\x04N)}\x92.", r"\(NEWOBJ_EX\)"),
        (b"\x80\x02K\x01Q.", "persistent id"),
        (b"\x80\x02P1\n.", r"\(PERSID\)"),
        (b"\x80\x05\x97.", r"\(NEXT_BUFFER\)"),
        (b"(lp0\n.", "a file that starts otherwise"),
        (b"\x80\x00N.", "got protocol 0"),
        (b"\x80\x09N.", "got protocol 9"),
        (b"\x80\x04\xf5.", "got instruction 0xf5"),
        (b"\x80\x04K\x01)R.", "expected a name and its arguments, got a value of type int"),
        (b"\x80\x02cm\nf\n)R)R.", "expected a name and its arguments, got a m.f"),
        (b"\x80\x02cm\nf\nK\x01R.", "got the name m.f and a value of type int"),
        (b"\x80\x04}}b.", "expected an object without state to install one in, got a value of type dict"),
        (b"\x80\x02cm\nf\n}b.", "to install one in, got the name m.f"),
        (b"\x80\x02cm\nf\n)R}b}b.", "expected an object without state"),
        (b"\x80\x04K\x01K\x02a.", "expected a list to append to"),
        (b"\x80\x04K\x01(K\x01\x90.", "expected a set to add to"),
        (b"\x80\x04K\x01K\x02K\x03s.", "expected pairs for a dictionary"),
        (b"\x80\x04}(K\x01u.", "expected pairs for a dictionary, got 1 values"),
        (b"\x80\x04})K\x01s.", "as keys, got a value of type tuple"),
        (b"\x80\x04}K\x01]K\x02s.", "expected pairs for a dictionary"),
        (b"\x80\x04}G\x00\x00\x00\x00\x00\x00\x00\x00Ns.", "as keys, got a value of type float"),
        (b"\x80\x04}\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01Ns.", "64-bit integers as keys"),
    ],
)  # fmt: skip
def test_what_only_code_needs_is_refused(data: bytes, message: str):
    refused(data, message, {("m", "f"): lambda call: None})


# What is damaged


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_file_cut_anywhere_is_refused(protocol: int):
    data = pickle.dumps({"a": [1.5, "text", b"bytes", (2**40, None)], "b": {"c"}}, protocol)
    for size in range(len(data)):
        refused(data[:size], "expected", SETS)


def test_bytes_changed_at_random_end_in_a_sentence_or_a_value():
    data = pickle.dumps({"a": [np.arange(5.0), {"s"}], "b": (1, 2**40, "text")}, 4)
    random = np.random.RandomState(0)
    num_refused = 0
    for _ in range(3000):
        changed = bytearray(data)
        for _ in range(random.randint(1, 4)):
            changed[random.randint(len(data))] = random.randint(256)
        try:
            read(bytes(changed), SETS)
        except RefusedPickle:
            num_refused += 1
    assert num_refused > 1000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected 1 more bytes, got 0 until the end"),
        (b"\x80\x04N.more", "expected the end of the file after the pickle, got 4 more bytes"),
        (b"\x80\x04.", "expected a value on the stack, got none"),
        (b"\x80\x04K\x01K\x02.", "expected one value at the end, got 1 more"),
        (b"\x80\x04(.", "expected a value on the stack"),
        (b"\x80\x04\x86.", "expected a value on the stack"),
        (b"\x80\x04t.", "expected a mark on the stack"),
        (b"\x80\x04K\x01(\x85.", "expected a value on the stack"),
        (b"\x80\x04h\x05.", "reference to no. 5, which was not"),
        (b"\x80\x04\x94.", "expected a value on the stack"),
        (b"\x80\x04Nr\xff\xff\xff\xff.", "remembered values, got no. 4294967295"),
        (b"\x80\x04\x8c\x01\xff.", "expected text in UTF-8"),
        (b"\x80\x02c" + b"x" * 400, "a name of at most 256 bytes"),
        (b"\x80\x04\x8b\x00\x01\x00\x00" + bytes(256) + b".", "integers of at most 64 bytes, got one of 256"),
    ],
)
def test_damage_is_said(data: bytes, message: str):
    refused(data, message)


def test_arrays_whose_shape_and_bytes_disagree_are_refused():
    honest = pickle.dumps(np.zeros((2, 3), "f4"), 4)
    assert b"K\x02K\x03\x86" in honest
    for shape in (
        b"K\x02K\x04\x86",
        b"J\xff\xff\xff\xffK\x03\x86",
        b"G" + struct.pack(">d", 2.0) + b"K\x03\x86",
    ):
        refused(
            honest.replace(b"K\x02K\x03\x86", shape), "in an honest file, got another thing", NUMPY_ARRAYS
        )
    huge = b"\x8a\x08" + struct.pack("<q", 2**62)
    refused(honest.replace(b"K\x02K\x03\x86", huge * 2 + b"\x86"), "bytes' worth of numbers", NUMPY_ARRAYS)


@pytest.mark.parametrize("dtype", ["O", "V8", "M8[s]", "U4", "g", "c8"])
def test_types_other_than_plain_numbers_are_refused(dtype: str):
    data = pickle.dumps(np.zeros(1, dtype), 4)
    with pytest.raises(RefusedPickle, match=r"expected numbers of 1 to 8 bytes|got another thing|only names"):
        read(data, NUMPY_ARRAYS)


def test_arrays_are_refused_where_only_numbers_may_be():
    refused(
        pickle.dumps(np.zeros(2), 4), "got numpy._core.multiarray._reconstruct|_frombuffer", NUMPY_SCALARS
    )


def test_the_names_in_errors_are_short_and_printable():
    name = "x" * 100 + "\x1b[31m\n"
    data = b"\x80\x04\x8c\x02\x1b\n\x8c" + bytes([len(name)]) + name.encode() + b"\x93."
    with pytest.raises(RefusedPickle) as caught:
        read(data)
    assert len(str(caught.value)) < 300 and str(caught.value).isprintable()


# What would fill the memory


def doubling(levels: int) -> bytes:
    """A tuple of the same tuple twice, and so on: 5 bytes a level, 2^levels values when written out."""
    body = b"".join(b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(levels))
    return b"\x80\x04)q\x00" + body + b"."


def nested(opening: bytes, closing: bytes, levels: int) -> bytes:
    return b"\x80\x04" + opening * levels + b"N" + closing * levels + b"."


def lists_of_lists(levels: int) -> bytes:
    body = b""
    for level in range(levels):
        body += b"](" + (b"h" + bytes([level])) * 10 * (level > 0) + b"eq" + bytes([level + 1])
    return b"\x80\x04](" + body + b"e."


HUGE = struct.pack("<Q", 10 * 2**30)
HOSTILE = {
    "doubling tuples": (doubling(90), "unfolds to more"),
    "lists of ten lists": (lists_of_lists(60), "unfolds to more"),
    "deep tuples": (nested(b"", b"\x85", 100_000), "containers within one another"),
    "deep lists": (nested(b"]", b"a", 100_000), "containers within one another"),
    "a list in itself": (b"\x80\x04]q\x00h\x00a.", "contain themselves"),
    "a dictionary in itself": (b"\x80\x04}q\x00X\x01\x00\x00\x00ah\x00s.", "contain themselves"),
    "a tuple in its list": (b"\x80\x04]q\x00h\x00\x85a.", "contain themselves"),
    "an object in its state": (b"\x80\x02cm\nf\n)Rq\x00}K\x01h\x00sb.", "contain themselves"),
    "an object in its items": (b"\x80\x02cm\nf\n)Rq\x00K\x01h\x00s.", "contain themselves"),
    "10 GB of bytes": (b"\x80\x04\x8e" + HUGE + b"x.", "expected 10737418240 more bytes, got 2"),
    "10 GB of text": (b"\x80\x04\x8d" + HUGE + b"x.", "expected 10737418240 more bytes"),
    "a frame of 10 GB": (b"\x80\x04\x95" + HUGE + b"N.", "expected 10737418240 more bytes"),
    "a bytearray of 10 GB": (b"\x80\x05\x96" + HUGE + b"x.", "expected 10737418240 more bytes"),
    "an integer of 4 GB": (b"\x80\x02\x8b\xff\xff\xff\xff.", "of at most 64 bytes, got one of 4294967295"),
    "16 exabytes": (b"\x80\x04\x8e" + b"\xff" * 8 + b".", "expected 18446744073709551615 more bytes"),
    "many empty sets": (b"\x80\x04(" + b"\x8f" * 500_000 + b"t.", "at most 300,000 instructions"),
    "a long memo": (b"\x80\x04N" + b"\x94" * 500_000 + b".", "at most 300,000 instructions"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_fill_the_memory_is_refused(name: str):
    data, message = HOSTILE[name]
    refused(data, message, {("m", "f"): lambda call: None})


def test_hostile_files_are_refused_within_200_megabytes(tmp_path: Path):
    for number, (data, _) in enumerate(HOSTILE.values()):
        (tmp_path / f"{number:02d}.pkl").write_bytes(data)
    program = """
        import resource, sys
        from pathlib import Path
        from extract.restricted_pickle import RefusedPickle, read_pickle
        resource.setrlimit(resource.RLIMIT_AS, (400 * 2**20, 400 * 2**20))
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
        for path in sorted(Path(sys.argv[1]).glob("*.pkl")):
            try:
                read_pickle(path.read_bytes(), {("m", "f"): lambda call: None}, what=path.name)
            except RefusedPickle:
                print(path.name)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *names, megabytes = done.stdout.split()
    assert len(names) == len(HOSTILE)
    assert int(megabytes) < 200


def test_shared_values_cost_what_they_unfold_to():
    data = doubling(10)
    assert read(data) is not None
    refused(data, "at most 1,000 values", limits=PickleLimits(num_values=1000))
