"""Loads, stores and vector compares behind an address: the few things numba has no words for.

The scanner's small functions hand each other addresses, one word each: an array takes seven, and
a table of arrays fifty, which cost more than the work done with them.

Searches read up to 64 bytes from `position` on without a bounds check: buffers end in PADDING
zero bytes, which stop every one of them (zero is neither white space nor part of a JSON token).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

PADDING = 128
_BYTE = ir.IntType(8)


def _intrinsic(function: Callable[..., Any]) -> Callable[..., int]:
    """Numba's decorator, without its type, which counts the typing context as an argument."""
    return cast("Callable[..., int]", intrinsic(function))


def _load(builder: Any, address: Any, position: Any, what: Any) -> Any:
    """An unaligned load of type `what` at `position` behind `address`."""
    start = builder.inttoptr(address, _BYTE.as_pointer())
    place = builder.bitcast(builder.gep(start, [position]), what.as_pointer())
    loaded = builder.load(place)
    loaded.align = 1
    return loaded


def _same(value: int, width: int) -> Any:
    return ir.Constant(ir.VectorType(_BYTE, width), [value] * width)


@_intrinsic
def word_at(typing: Any, buffer: Any, position: Any) -> Any:
    """The 8 bytes at `position` as one number, first byte lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _load(builder, arguments[0], arguments[1], ir.IntType(64))

    return types.int64(types.int64, types.int64), generate


@_intrinsic
def byte_at(typing: Any, buffer: Any, position: Any) -> Any:
    """The byte at `position`; unlike an index it takes no detour for negative positions."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loaded = _load(builder, arguments[0], arguments[1], _BYTE)
        return builder.zext(loaded, ir.IntType(64))

    return types.int64(types.int64, types.int64), generate


@_intrinsic
def number_at(typing: Any, numbers: Any, index: Any) -> Any:
    """The int64 at `index` behind the address `numbers`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load(builder.gep(start, [arguments[1]]))

    return types.int64(types.int64, types.int64), generate


def _put(width: int) -> Callable[..., int]:
    """An intrinsic that sets the integer of `width` bits at `index` behind an address."""

    @_intrinsic
    def put(typing: Any, numbers: Any, index: Any, number: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            start = builder.inttoptr(arguments[0], ir.IntType(width).as_pointer())
            cut = arguments[2] if width == 64 else builder.trunc(arguments[2], ir.IntType(width))
            builder.store(cut, builder.gep(start, [arguments[1]]))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), generate

    return put


put_number = _put(64)
put_int32 = _put(32)
put_byte = _put(8)


def _mask(width: int, test: Callable[[Any, Any], Any]) -> Callable[..., int]:
    """An intrinsic: bit i tells whether `test` holds for the byte at `position + i`."""

    @_intrinsic
    def mask(typing: Any, buffer: Any, position: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector = ir.VectorType(_BYTE, width)
            loaded = _load(builder, arguments[0], arguments[1], vector)
            bits = builder.bitcast(test(builder, loaded), ir.IntType(width))
            return bits if width == 64 else builder.zext(bits, ir.IntType(64))

        return types.int64(types.int64, types.int64), generate

    return mask


def _string_stop(builder: Any, loaded: Any) -> Any:
    quote = builder.icmp_unsigned("==", loaded, _same(ord('"'), 64))
    escape = builder.icmp_unsigned("==", loaded, _same(ord("\\"), 64))
    control = builder.icmp_unsigned("<", loaded, _same(0x20, 64))
    return builder.or_(builder.or_(quote, escape), control)


def _not_ascii(builder: Any, loaded: Any) -> Any:
    return builder.icmp_signed("<", loaded, _same(0, 64))


def _not_space(builder: Any, loaded: Any) -> Any:
    tests = [builder.icmp_unsigned("!=", loaded, _same(ord(c), 32)) for c in " \n\r\t"]
    return builder.and_(builder.and_(tests[0], tests[1]), builder.and_(tests[2], tests[3]))


def _not_digit(builder: Any, loaded: Any) -> Any:
    return builder.icmp_unsigned(">", builder.sub(loaded, _same(ord("0"), 16)), _same(9, 16))


string_stops = _mask(64, _string_stop)
"""Bytes that end a run of plain string content: quotes, backslashes, control characters."""
beyond_ascii = _mask(64, _not_ascii)
no_spaces = _mask(32, _not_space)
no_digits = _mask(16, _not_digit)


@_intrinsic
def trailing_zeros(typing: Any, number: Any) -> Any:
    """Index of the lowest set bit of `number` (64 where there is none)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.int64), generate
