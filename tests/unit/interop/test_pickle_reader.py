from __future__ import annotations

import collections
import copyreg
import math
import pickle
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bothways.errors import ForeignModelError
from bothways.interop import pickle_reader
from bothways.interop.pickle_reader import GlobalName, Record, read_pickle

PROTOCOLS = range(6)


def read(data: bytes, **options: Any) -> Any:
    value, end = read_pickle(data, "export.pkl", **options)
    assert end == len(data)
    return value


def refuse(data: bytes, problem: str, **options: Any) -> str:
    with pytest.raises(ForeignModelError) as caught:
        read_pickle(data, "export.pkl", **options)
    message = str(caught.value)
    assert message.startswith("export.pkl")
    assert problem in message
    assert message.isprintable()
    assert len(message) < 500
    return message


# Plain values

atoms = (
    st.none()
    | st.booleans()
    | st.integers(-(2**2000), 2**2000)
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
)
keys = st.none() | st.text() | st.binary() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False)
values = st.recursive(
    atoms | st.sets(keys) | st.frozensets(keys),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner),
    max_leaves=20,
)


@given(values, st.sampled_from(PROTOCOLS))
def test_a_plain_value_is_read_back(value: object, protocol: int) -> None:
    ours = read(pickle.dumps(value, protocol))
    assert ours == value
    assert repr(type(ours)) == repr(type(value))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_dicts_of_other_kinds_become_dicts(protocol: int) -> None:
    ordered = collections.OrderedDict([("b", 1), ("a", 2)])
    ordered._metadata = {"version": 1}  # type: ignore[attr-defined]  # as torch does
    cases: list[Any] = [ordered, collections.Counter("abca"), collections.defaultdict(list, {"a": [1]})]
    for ours, theirs in zip(read(pickle.dumps(cases, protocol)), cases, strict=True):
        assert type(ours) is dict
        assert list(ours.items()) == list(theirs.items())


def test_pickles_of_python_2_are_read() -> None:
    assert read(b"(dp0\nS'it\\'s \\x41\\n'\np1\nL12L\nsS\"b\"\nI01\ns.") == {"it's A\n": 12, "b": True}
    assert read(b"\x80\x02U\x03caf.") == "caf"
    assert read(b"T\x04\0\0\0caf\xe9.") == b"caf\xe9"  # no text: kept as bytes
    assert read(b"]q\x00(K\x01F1.5\nVe\\u0301\ne.") == [1, 1.5, "e\u0301"]
    assert read(b"S'\\101\\q'\n.") == "A\\q"
    pairs = b"ccollections\nOrderedDict\n((lp0\n(lp1\nS'a'\naI1\naatR."
    assert read(pairs) == {"a": 1}
    assert read(b"c__builtin__\nset\n((lp0\nI1\naI2\natR.") == {1, 2}


# Arrays

ARRAYS: list[NDArray[Any]] = [
    np.arange(6, dtype=np.int64).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    np.array(["xxunk", "é", ""]),
    np.array([b"a", b"bc"]),
    np.array([True, False]),
    np.array([1.5, math.inf], np.float16),
    np.array([1, 2], ">i4"),
    np.zeros((0, 3)),
    np.array(7, np.uint8),
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_of_numpy_are_arrays(protocol: int) -> None:
    for ours, theirs in zip(read(pickle.dumps(ARRAYS, protocol)), ARRAYS, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert not ours.flags.writeable


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_of_objects_are_lists_and_scalars_are_plain(protocol: int) -> None:
    words = np.array(["the", "cat", 3], object)
    ours = read(pickle.dumps([words, words, np.int64(4), np.float32(0.5), np.str_("é"), np.True_], protocol))
    assert ours == [["the", "cat", 3], ["the", "cat", 3], 4, 0.5, "é", True]
    assert ours[0] is ours[1]
    assert [type(value) for value in ours[2:]] == [int, float, str, bool]


def test_every_supported_item_type_is_known_to_numpy() -> None:
    for order in "<>|=":
        for name in (
            "b1",
            "i1",
            "i2",
            "i4",
            "i8",
            "u1",
            "u2",
            "u4",
            "u8",
            "f2",
            "f4",
            "f8",
            "O",
            "O8",
            "S1",
            "U1000000",
        ):
            dtype = b"cnumpy\ndtype\n(S'%b'\ntR(I3\nS'%b'\nNNNtb." % (name.encode(), order.encode())
            assert read(dtype).kind == name[0]


def array_stream(shape: bytes, dtype: bytes, content: bytes) -> bytes:
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    return made + b"(I1\n(" + shape + b"tcnumpy\ndtype\n(S'" + dtype + b"'\ntR(I3\nS'<'\nNNNtbI00\n" + content + b"tb."


def test_an_array_can_not_claim_more_than_its_bytes() -> None:
    four_bytes = b"C\x04\0\0\x80\x3f"
    np.testing.assert_array_equal(read(array_stream(b"I1\n", b"f4", four_bytes)), [1.0])
    for shape in (b"I2\n", b"I0\n", b"I1000000000\n", b"I-1\n", b"S'a'\n", b"I01\n", b"I1\nI1\n" * 17):
        refuse(array_stream(shape, b"f4", four_bytes), "an array")
    refuse(array_stream(b"I1000000000\nI0\n", b"f4", b"C\0"), "claims shape (1000000000, 0)")
    refuse(array_stream(b"I4\n", b"b1", b"C\x04\0\1\2\1"), "boolean")
    refuse(array_stream(b"I1\n", b"U1", b"C\x04\xff\xff\xff\xff"), "character")


def test_an_array_of_records_or_of_no_bytes_stays_a_record() -> None:
    for dtype in (b"V8", b"U0", b"M8", b"c16", b"O8"):
        ours = read(array_stream(b"I1\n", dtype, b"C\x08" + bytes(8)))
        assert isinstance(ours, Record)
        assert ours.name == "numpy.core.multiarray._reconstruct"


# Records


class Vocabulary:
    def __init__(self) -> None:
        self.itos = ["xxunk"]


class Words(list[str]):
    pass


class Options(dict[str, int]):
    pass


class WithKeywords:
    def __getnewargs_ex__(self) -> tuple[tuple[int], dict[str, int]]:
        return (1,), {"a": 2}

    def __new__(cls, *_: int, **__: int) -> WithKeywords:
        return super().__new__(cls)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_object_is_a_record_of_its_class_and_state(protocol: int) -> None:
    record = read(pickle.dumps(Vocabulary(), protocol))
    assert isinstance(record, Record)
    assert record.name == f"{__name__}.Vocabulary"
    assert record.state == {"itos": ["xxunk"]}
    assert repr(record) == f"<record of '{__name__}.Vocabulary'>"


@pytest.mark.parametrize("protocol", range(2, 6))
def test_lists_and_dicts_with_a_class_of_their_own_keep_their_items(protocol: int) -> None:
    words, options, queue = read(pickle.dumps([Words("ab"), Options(a=1), collections.deque([1, 2])], protocol))
    assert (words.name, words.items, words.pairs) == (f"{__name__}.Words", ["a", "b"], ())
    assert (options.name, options.items, options.pairs) == (f"{__name__}.Options", (), [("a", 1)])
    assert (queue.name, queue.items) == ("collections.deque", [1, 2])


def test_keywords_of_a_class_are_kept() -> None:
    record = read(pickle.dumps(WithKeywords(), 4))
    assert (record.name, record.arguments, record.keywords) == (f"{__name__}.WithKeywords", (1,), {"a": 2})


def test_a_call_is_a_record_and_may_be_called_again() -> None:
    path = read(pickle.dumps(PurePosixPath("a/b"), 2))
    assert (path.function, path.arguments) == (GlobalName("pathlib", "PurePosixPath"), ("a", "b"))
    twice = read(b"cbuiltins\ngetattr\n(cos\npath\nS'join'\ntR(S'a'\ntR.")
    assert twice.name == ""
    assert twice.function.name == "builtins.getattr"
    assert twice.function.arguments == (GlobalName("os", "path"), "join")
    assert (GlobalName("os", "path").path, twice.arguments) == ("os.path", ("a",))


@pytest.mark.parametrize("helper", ["copyreg._reconstructor", "copy_reg._reconstructor", "copyreg.__newobj_ex__"])
def test_the_helpers_of_copyreg_are_named_by_their_class(helper: str) -> None:
    assert hasattr(copyreg, helper.split(".")[1])
    call = "c" + helper.replace(".", "\n") + "\n(cfastai.text\nVocab\nc__builtin__\nobject\nNtR."
    assert read(call.encode()).name == "fastai.text.Vocab"


def test_classes_of_python_2_are_records() -> None:
    for stream in (b"(I1\nifastai.text\nVocab\n.", b"(cfastai.text\nVocab\nI1\no."):
        record = read(stream)
        assert (record.name, record.arguments) == ("fastai.text.Vocab", (1,))


def test_an_object_that_occurs_twice_is_one_and_may_contain_itself() -> None:
    vocabulary = Vocabulary()
    circle: list[object] = [vocabulary, vocabulary]
    circle.append(circle)
    ours = read(pickle.dumps(circle, 4))
    assert ours[0] is ours[1]
    assert ours[2] is ours


def test_popped_values_are_gone() -> None:
    assert read(b"K\x01K\x020.") == 1  # POP of a value
    assert read(b"K\x01(0.") == 1  # POP of a mark
    assert read(b"K\x01(K\x02K\x031.") == 1  # POP_MARK
    assert read(b"K\x012\x86.") == (1, 1)  # DUP


def test_a_call_that_is_not_understood_is_a_record_even_of_a_known_name() -> None:
    for call in (b"cbuiltins\nset\nK\x05\x85R.", b"cbuiltins\nbytes\nK\x05\x85R.", b"c_codecs\nencode\nNN\x86R.",
                 b"ccollections\nOrderedDict\nK\x05\x85R.", b"cnumpy.core.multiarray\nscalar\nNN\x86R."):  # fmt: skip
        assert isinstance(read(call), Record)


def test_hashing_a_tuple_takes_bounded_time() -> None:
    nested = b"N" + b"2\x86" * 18 + b"."
    assert isinstance(hash(read(nested)), int)
    refuse(b"N" + b"2\x86" * 19 + b".", "1000000 items in nested tuples")
    assert isinstance(hash(read(b")" + b"\x85" * 99 + b".")), int)


def test_a_tuple_as_key_is_a_record_of_it() -> None:
    ((key, value),) = read(pickle.dumps({("NN", "cats"): 1}, 4)).items()
    assert (key.name, key.arguments, value) == ("builtins.tuple", (("NN", "cats"),), 1)
    assert len(read(pickle.dumps({(1, 2), 3}, 4))) == 2


# Options of the caller


def test_a_pickle_may_begin_in_the_middle_and_be_followed_by_another() -> None:
    data = b"junk" + pickle.dumps([1], 2) + pickle.dumps("second", 4) + b"junk"
    first, at = read_pickle(memoryview(data), "x", offset=4)
    second, end = read_pickle(data, "x", offset=at)
    assert (first, second, data[end:]) == ([1], "second", b"junk")


def test_constructors_and_persistent_load_are_called() -> None:
    def double(*arguments: object) -> object:
        match arguments:
            case (int() as number,) if number < 0:
                raise ValueError("a negative number")
            case (int() as number,):
                return 2 * number
        return NotImplemented

    assert read(b"cmy\ndouble\n(K\x04tR.", constructors={"my.double": double}) == 8
    assert read(b"cmy\ndouble\n(K\x04K\x05tR.", constructors={"my.double": double}).arguments == (4, 5)
    refuse(
        b"cmy\ndouble\n(J\xff\xff\xff\xfftR.",
        "damaged at byte 18: a negative number",
        constructors={"my.double": double},
    )
    assert read(b"K\x05QPabc\n\x86.", persistent_load=lambda value: [value]) == ([5], ["abc"])
    refuse(b"K\x05Q.", "data outside the file (at byte 2)")


# Errors


@pytest.mark.parametrize(
    ("stream", "problem"),
    [
        (b"", "ends too early (at byte 0): copy or download it again"),
        (b"(N", "ends too early (at byte 2)"),
        (b"X\xff\xff\xff\xffabc.", "ends too early"),
        (b"\x8d" + b"\xff" * 8 + b"a.", "ends too early"),
        (b"\x96" + b"\0" * 7 + b"\x7fa.", "ends too early"),
        (b"\x80\x04\x95\xff\0\0\0\0\0\0\0N.", "ends too early"),
        (b"Vabc", "ends too early"),
        (b"N\xffN.", "damaged at byte 1: 0xff is not an opcode"),
        (b"\x80\x06N.", "has pickle protocol 6, expected at most 5"),
        (b"RN.", "damaged at byte 0: an opcode needs more values than the stack has"),
        (b"N(e.", "damaged at byte 2: items can't be appended to a value of type NoneType"),
        (b"Nt.", "damaged at byte 1: an opcode needs more values than the stack has"),
        (b"N\x86N.", "too few items"),
        (b"h\x05N.", "the memo has no entry 5"),
        (b"g12a\nN.", "memo entry is invalid"),
        (b"Np-1\n.", "memo entry is invalid"),
        (b"K\x01)RN.", "a value of type int can't be called"),
        (b"cos\nsystem\n]RN.", "not a tuple"),
        (b"}]Nsu.", "a value of type list can't be a key"),
        (b"}\x8a\x09" + b"\1" * 9 + b"Ns.", "more than 64 bits can't be a key"),
        (b"}(Nu.", "a key has no value"),
        (b"\x8f(]\x90.", "a value of type list can't be a key"),
        (b"](K\x01\x90.", "members can't be added to a value of type list"),
        (b"](NNu.", "keys can't be set in a value of type list"),
        (b"]Nb.", "a value of type list can't have a state"),
        (b"X\x02\0\0\0\xff\xff.", "can't decode"),
        (b"Sabc\n.", "not quoted"),
        (b"Ipi\n.", "invalid literal"),
        (b"Fpi\n.", "could not convert"),
        (b"K\x01K\x02\x93N.", "the name of a global is not a string"),
        (b"c_codecs\nencode\n(V\\u20ac\nVlatin1\ntR.", "can't encode"),
        (b"\x82\x01N.", "an extension code or a buffer outside the stream (at byte 0)"),
        (b"\x97N.", "an extension code or a buffer outside the stream (at byte 0)"),
        (b"\x8b\xff\xff\xff\xff.", "more than 1000 bytes in a number"),
        (b"I" + b"9" * 2000 + b"\n.", "a line is too long"),
        (b")" + b"\x85" * 101 + b".", "100 levels of tuples"),
    ],
)
def test_a_damaged_stream_is_named_with_the_place(stream: bytes, problem: str) -> None:
    refuse(stream, problem)


@pytest.mark.parametrize(
    ("limit", "value"),
    [("MAX_OPCODES", 50), ("MAX_MEMO_ENTRIES", 20), ("MAX_STRING_BYTES", 100), ("MAX_GLOBALS", 1)],
)
def test_every_limit_holds(limit: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps([[str(n) * 2 for n in range(100)], math.sqrt, math.floor], 4)
    assert len(read(data)) == 3
    monkeypatch.setattr(pickle_reader, limit, value)
    refuse(data, f"has more than {value}")


def test_the_limits_leave_room_for_the_largest_models() -> None:
    words = [f"w{number}" for number in range(100_000)]
    data = pickle.dumps({"itos": words, "stoi": {word: number for number, word in enumerate(words)}}, 2)
    assert read(data)["stoi"]["w99999"] == 99_999
    vectors = pickle.dumps(np.arange(5_000_000, dtype=np.int32), 2)  # 20 MB, written as text
    assert read(vectors)[-1] == 4_999_999
