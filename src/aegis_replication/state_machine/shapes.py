"""Which types can a user's state, arguments and results have, and how does a value become bytes and come back the same?

Everything goes through msgspec by annotation. What it would take but not give back the same (a bare `dict`, `Any`, a
class it doesn't know) is refused before anything is stored.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import msgspec
from msgspec import inspect

SIGNED_64 = range(-(2**63), 2**63)


class Shape(NamedTuple):
    """What matters of a type."""

    mutable: bool = False  # can a value be changed in place?
    has_set: bool = False  # must elements be sorted to get equal bytes?
    has_other_keys: bool = False  # has a dict whose keys aren't text, which msgspec can't sort

    def joined(self, other: "Shape") -> "Shape":
        return Shape(
            self.mutable or other.mutable,
            self.has_set or other.has_set,
            self.has_other_keys or other.has_other_keys,
        )


class Unsupported(Exception):
    """The type can't be replicated; the text says why and what to use instead."""


_ATOMS = (
    inspect.NoneType,
    inspect.BoolType,
    inspect.IntType,
    inspect.FloatType,
    inspect.StrType,
    inspect.BytesType,
    inspect.DateTimeType,
    inspect.TimeType,
    inspect.DateType,
    inspect.TimeDeltaType,
    inspect.UUIDType,
    inspect.DecimalType,
    inspect.EnumType,
    inspect.LiteralType,
)
_SORTABLE = (
    inspect.BoolType,
    inspect.IntType,
    inspect.FloatType,
    inspect.StrType,
    inspect.BytesType,
    inspect.DateType,
    inspect.UUIDType,
)


def shape_of(hint: Any) -> Shape:
    """What matters of the annotation `hint`; raises Unsupported."""
    shape = _Walk().visit(_information(hint))
    if shape.has_set and shape.has_other_keys:
        raise Unsupported(
            "holds a set and a dict whose keys aren't text: use tuple keys joined into text, or two attributes"
        )
    return shape


def key_and_value(hint: Any) -> tuple[Any, Any] | None:
    """The two types of a plain dict[...]; None for any other type. Raises Unsupported."""
    info = _information(hint)
    plain = isinstance(info, inspect.DictType) and info.min_length is None and info.max_length is None
    arguments = get_args(hint)
    return (arguments[0], arguments[1]) if plain and len(arguments) == 2 else None


def _information(hint: Any) -> inspect.Type:
    try:
        return inspect.type_info(hint)
    except TypeError as error:  # for instance of an ambiguous union
        raise Unsupported(f"can't be decoded: {error}") from None


class _Walk:
    """One walk over a type."""

    def __init__(self) -> None:
        # The classes that the type being looked at lies in.
        self._inside: list[type] = []

    def visit(self, info: inspect.Type) -> Shape:
        match info:
            case inspect.Metadata(type=inner):
                return self.visit(inner)
            case inspect.AnyType():
                raise Unsupported("is not typed all through: write what it holds, such as dict[str, int] or list[str]")
            case _ if isinstance(info, _ATOMS):
                return Shape()
            case inspect.ByteArrayType():
                return Shape(mutable=True)
            case inspect.UnionType(types=types) | inspect.TupleType(item_types=types):
                return self._all(types)
            case inspect.VarTupleType(item_type=item):
                return self.visit(item)
            case inspect.ListType(item_type=item):
                return self.visit(item).joined(Shape(mutable=True))
            case inspect.SetType(item_type=item) | inspect.FrozenSetType(item_type=item):
                _require_sortable(item)
                return Shape(mutable=isinstance(info, inspect.SetType), has_set=True)
            case inspect.DictType(key_type=key, value_type=value):
                other_keys = not isinstance(key, inspect.StrType)
                return self._all((key, value)).joined(Shape(mutable=True, has_other_keys=other_keys))
            case inspect.StructType(cls=cls, fields=fields):
                return self._fields(cls, fields, cls.__struct_config__.frozen)
            case inspect.DataclassType(cls=cls, fields=fields):
                return self._fields(cls, fields, cls.__dataclass_params__.frozen)  # type: ignore[attr-defined]
            case inspect.NamedTupleType(cls=cls, fields=fields):
                return self._fields(cls, fields, True)
            case inspect.TypedDictType(cls=cls, fields=fields):
                return self._fields(cls, fields, False)
        name = getattr(getattr(info, "cls", None), "__qualname__", type(info).__name__)
        raise Unsupported(f"uses {name}, which has no encoding: use a dataclass, a msgspec.Struct or a builtin type")

    def _all(self, infos: tuple[inspect.Type, ...]) -> Shape:
        shape = Shape()
        for info in infos:
            shape = shape.joined(self.visit(info))
        return shape

    def _fields(self, cls: type, fields: tuple[inspect.Field, ...], frozen: bool) -> Shape:
        if cls in self._inside:  # no bound on nesting: what one node can decode, another may not
            raise Unsupported(f"uses {cls.__qualname__}, which contains itself: keep such values in a dict by id")
        self._inside.append(cls)
        shape = self._all(tuple(field.type for field in fields)).joined(Shape(mutable=not frozen))
        self._inside.pop()
        return shape


def _require_sortable(item: inspect.Type) -> None:
    """Elements must have one order, as their set has none that is equal in two processes."""
    match item:
        case inspect.TupleType(item_types=types):
            for each in types:
                _require_sortable(each)
        case inspect.VarTupleType(item_type=each):
            _require_sortable(each)
        case _ if not isinstance(item, _SORTABLE):
            raise Unsupported(
                f"has a set of {type(item).__name__.removesuffix('Type')}, which can't be sorted: "
                "use a set of one of int, str, bytes, float, date, UUID or tuples of these"
            )


class Codec:
    """Values of one annotated type as bytes; what can't be encoded, or isn't of this type, is a TypeError."""

    __slots__ = ("_decode", "_encode", "_exact", "shape")

    def __init__(self, hint: Any) -> None:
        self.shape = shape_of(hint)
        order: Any = "deterministic" if self.shape.has_set else None
        self._encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder(order=order).encode
        self._decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(hint).decode
        # The type whose values come back as they are, if there is one.
        self._exact: Any = hint if hint in (int, str, bytes, bool, float) else None

    def encode(self, value: Any) -> bytes:
        """Equal bytes for equal values; the order of dicts is kept, sets are sorted."""
        try:
            return self._encode(value)
        except (msgspec.MsgspecError, OverflowError, ValueError, TypeError) as error:
            raise TypeError(str(error)) from None

    def decode(self, data: bytes) -> Any:
        try:
            return self._decode(data)
        except (msgspec.MsgspecError, ValueError) as error:
            raise TypeError(str(error)) from None

    def settled(self, value: Any) -> Any:
        """`value` as it would come back from a snapshot, sharing nothing that can change with anything."""
        exact = self._exact
        plain = type(value) is exact and (exact is not int or value in SIGNED_64)
        if plain and (exact is not str or value.isascii()):  # other text may hold half a surrogate pair
            return value
        return self.decode(self.encode(value))

    def answer(self, value: Any) -> Any:
        """`value` as a result: checked and copied likewise, sets as sorted lists, whose bytes are equal everywhere."""
        settled = self.settled(value)
        return msgspec.msgpack.decode(self.encode(settled)) if self.shape.has_set else settled
