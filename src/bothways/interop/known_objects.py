"""Match the objects of a foreign file against what is known of their classes. Everything else is refused by its name.

Input: facts of inert values. A class or function is known by its full path, never by its last name alone. An attribute
can replace a method, and can change what a known method does. So an attribute may hold code only if it is listed, and
some attributes must have a certain value. Attributes that hold plain data and are not listed are ignored: the known
classes do not read them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bothways.errors import ForeignModelError, quoted, shown
from bothways.interop.facts import MISSING, Fact, class_name
from bothways.interop.pickle_reader import GlobalName, Record

_NEW: Final = frozenset(
    f"{module}.{name}"
    for module in ("copyreg", "copy_reg")
    for name in ("_reconstructor", "__newobj__", "__newobj_ex__")
)
"""Functions that create an object of the class that is their first argument."""
_BUILTINS: Final = {"__builtin__": "builtins", "copy_reg": "copyreg"}
"""Names that pickles of protocol 2 use for modules of Python 3."""
_PLAIN: Final = frozenset(
    {
        "fastcore.foundation.L",
        "inspect.Signature",
        "pathlib.Path",
        "pathlib.PosixPath",
        "pathlib.WindowsPath",
        "pathlib._local.PosixPath",
        "pathlib._local.WindowsPath",
        "random.Random",
        "torch.Size",
        "torch.device",
        "torch.serialization._get_layout",
        "torch.nn.backends.thnn._get_thnn_function_backend",
    }
)
"""Objects that are data: nothing happens if an attribute holds one."""


@dataclass(frozen=True)
class Known:
    """What is known of a class.

    Attributes:
        fixed: Values that an attribute must have if the object has it.
        parts: Attributes that may hold objects, because the caller matches them or nothing calls them.
    """

    fixed: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    parts: frozenset[str] = frozenset()


def path_of(value: object) -> str:
    """Return the full path of a function or class, or that of an object's class. Empty for any other value.

    ``__main__`` in a path stands for the program or notebook that saved the file.
    """
    if isinstance(value, GlobalName):
        return f"{_BUILTINS.get(value.module, value.module)}.{value.name}"
    if not isinstance(value, Record):
        return ""
    kind = value.function
    if isinstance(kind, GlobalName):
        if kind.path not in _NEW:
            return path_of(kind)
        kind = value.arguments[0] if value.arguments else None
        if isinstance(kind, GlobalName):
            return path_of(kind)
    return ""


def called(value: object) -> str:
    """Return what to call a function, class or object in a message: its full path.

    The functions and classes of a notebook may be part of the file. Their names are then facts of their code.
    """
    value = _inner(value)
    if not isinstance(value, Record):
        return shown(path_of(value)) or ("missing" if value is MISSING else class_name(value))
    kind: object = value.function
    if isinstance(kind, GlobalName) and kind.path in _NEW and value.arguments:
        kind = value.arguments[0]
    if isinstance(kind, Record):
        value = kind
    elif not (isinstance(kind, GlobalName) and kind.module.startswith("cloudpickle.")):
        return shown(path_of(value)) or "an object of unknown kind"
    return shown(_defined_name(value)) or "own code"


def require(fact: Fact, known: Mapping[str, Known], what: str, expected: str = "") -> str:
    """Return the path of an object's class, which must be known, and check the object's attributes.

    Args:
        fact: The object.
        known: What is known of each class that it may have, by path.
        what: What the object is to the model, such as ``its tokenizer``.
        expected: What was expected instead. Defaults to the last names of the known classes.

    Raises:
        ForeignModelError: The class is unknown, or the object differs from what is known of it.
    """
    path = path_of(fact.value) if isinstance(fact.value, Record) else ""
    if path not in known:
        expected = expected or f"fastai's {' or '.join(_last_names(known))}"
        raise ForeignModelError(
            f"{fact.work.source}: {what} is {called(fact.value)}, expected {expected}: it can't be imported"
        )
    check(fact, known[path], what)
    return path


def check(fact: Fact, known: Known, what: str) -> None:
    """Check the attributes of an object of a known class.

    Raises:
        ForeignModelError: An attribute has another value than the known ones, or holds code.
    """
    state = state_of(fact)
    fact.work.charge(len(state))
    for name, value in state.items():
        if name in known.fixed and not any(_is(value, one) for one in known.fixed[name]):
            allowed = " or ".join(shown(one) for one in known.fixed[name])
            raise ForeignModelError(
                f"{fact.work.source}: {what} has {shown(name)}={_brief(value)}, expected {allowed}: it can't be "
                "imported"
            )
        if name not in known.parts and name not in known.fixed and is_code(value):
            raise ForeignModelError(
                f"{fact.work.source}: {what} has {called(value)} as its {shown(name)}, expected fastai's own: it can't "
                "be imported"
            )


def state_of(fact: Fact) -> Mapping[str, object]:
    """Return the attributes of an object. Empty if it has none."""
    state = fact.value.state if isinstance(fact.value, Record) else None
    if isinstance(state, tuple) and len(state) == 2:  # attributes, and those in slots
        parts = [part for part in state if isinstance(part, dict)]
        state = {name: value for part in parts for name, value in part.items()}
    return state if isinstance(state, dict) else {}


def is_code(value: object) -> bool:
    """Return whether a value may be called: it is a name, or an object that is not plain data."""
    return isinstance(value, GlobalName) or (isinstance(value, Record) and path_of(value) not in _PLAIN)


def _is(value: object, expected: object) -> bool:
    """Return whether a value is a plain value. Containers are never compared."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str | int | float | bool | None):
        return value == expected and isinstance(value, bool) == isinstance(expected, bool)
    return False


def _brief(value: object) -> str:
    return quoted(value, 40) if isinstance(value, str | int | float | bool | None) else called(value)


def _inner(value: object) -> object:
    """Return the function of a partial or of a bound method."""
    for _ in range(4):
        if not isinstance(value, Record) or not value.arguments:
            break
        path = path_of(value)
        if path == "functools.partial":
            value = value.arguments[0]
        elif path == "builtins.getattr" and len(value.arguments) > 1 and isinstance(value.arguments[1], str):
            owner = value.arguments[0]
            of = path_of(owner)
            return GlobalName(of or class_name(owner), value.arguments[1])
        elif _is_method_type(value.function):
            value = value.arguments[0]
        else:
            break
    return value


def _is_method_type(function: object) -> bool:
    return isinstance(function, Record) and function.arguments == ("MethodType",)


def _defined_name(record: Record) -> str:
    """Return the path of a function or class whose code cloudpickle stored in the file."""
    if path_of(record).endswith("._fill_function") and isinstance(record.arguments[0], Record):
        record = record.arguments[0]
    module: object = ""
    names = [argument for argument in record.arguments if isinstance(argument, str)]  # those of a class
    for argument in record.arguments:
        if isinstance(argument, Record) and not names:  # the code of a function: its file, its name
            names = [text for text in argument.arguments if isinstance(text, str)][1:]
        elif isinstance(argument, dict) and not module:
            module = argument.get("__module__", argument.get("__name__", ""))
    return f"{module}.{names[0]}" if names and isinstance(module, str) and module else "".join(names[:1])


def _last_names(paths: Collection[str]) -> list[str]:
    return list(dict.fromkeys(path.rpartition(".")[2] for path in paths))


def part(fact: Fact, name: str) -> Fact:
    """Return an attribute of an object. Missing if the object has no attributes."""
    return Fact(state_of(fact).get(name, MISSING), f"{fact.name}.{name}" if fact.name else name, fact.work)
