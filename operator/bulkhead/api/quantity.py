"""Kubernetes quantities such as `500m`, `1.5Gi` and `12e6`.

The grammar and the canonical form are those of k8s.io/apimachinery/pkg/api/resource: no precision is lost, no
fractional digits are written, the suffix is as large as possible, and the family of the suffix is kept. The API server
does not bring every spelling into that form (it keeps 1.250 as it is), but it leaves the canonical form alone.
"""

import re
from dataclasses import dataclass
from decimal import ROUND_UP, Context, Decimal
from functools import total_ordering
from typing import Final, Literal

Family = Literal["DecimalSI", "BinarySI", "DecimalExponent"]

LARGEST: Final = Decimal(2**63 - 1)
SMALLEST_STEP: Final = Decimal("1e-9")
MAX_LENGTH: Final = 64
"""Characters. No quantity that means something is longer, and the bound keeps exponents small."""

_FORM = re.compile(r"([+-]?)([0-9]+\.?[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,3})?")
_BINARY: Final = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY_NAMES: Final = {power: suffix for suffix, power in _BINARY.items()}
_DECIMAL_NAMES: Final = {power: suffix for suffix, power in _DECIMAL.items()}
_EXACT: Final = Context(prec=200, rounding=ROUND_UP)


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """A number and the family of suffixes it is written with. Compares by the number alone: `1Gi` is `1024Mi`."""

    value: Decimal
    family: Family

    @classmethod
    def parse(cls, text: str) -> "Quantity":
        """Reads a quantity; digits finer than a billionth are rounded away from zero, as the API server does.

        Raises:
            ValueError: the text is no quantity, or its magnitude is over 2^63-1.
        """
        match = _FORM.fullmatch(text) if len(text) <= MAX_LENGTH else None
        if match is None:
            raise ValueError(f"{text[:MAX_LENGTH]!r} is not a quantity; accepted are numbers such as 500m, 2 or 1.5Gi")
        sign, digits, suffix = match[1], match[2], match[3] or ""
        number = Decimal(digits if sign != "-" else f"-{digits}")
        family: Family = "DecimalSI"
        if suffix in _BINARY:
            family = "BinarySI"
            number = _EXACT.multiply(number, Decimal(1024 ** _BINARY[suffix]))
        elif suffix in _DECIMAL:
            number = _EXACT.scaleb(number, _DECIMAL[suffix])
        else:
            family = "DecimalExponent"
            number = _EXACT.scaleb(number, int(suffix[1:]))
        if abs(number) > LARGEST:
            raise ValueError(f"{text!r} is too large; accepted are quantities up to 2^63-1")
        return cls(_EXACT.quantize(number, SMALLEST_STEP), family)

    @property
    def is_whole(self) -> bool:
        """Whether the number has no fraction."""
        return self.value == self.value.to_integral_value()

    def __str__(self) -> str:
        """The canonical form, as the API server prints it."""
        if not self.value:
            return "0"
        if self.family == "BinarySI" and self.is_whole and abs(self.value) >= 1024:
            mantissa, power = _strip(int(self.value), 1024, limit=6)
            return f"{mantissa}{_BINARY_NAMES.get(power, '')}"
        nanos = int(_EXACT.scaleb(self.value, 9))
        # The suffixes go in steps of a thousand, so only whole thousands move into the exponent.
        mantissa, thousands = _strip(nanos, 1000, limit=9)
        exponent = thousands * 3 - 9
        if self.family == "DecimalExponent":
            return f"{mantissa}e{exponent}" if exponent else str(mantissa)
        return f"{mantissa}{_DECIMAL_NAMES[exponent]}"

    def __eq__(self, other: object) -> bool:
        """Compares the numbers."""
        return self.value == other.value if isinstance(other, Quantity) else NotImplemented

    def __lt__(self, other: "Quantity") -> bool:
        """Compares the numbers."""
        return self.value < other.value

    def __hash__(self) -> int:
        """Agrees with equality."""
        return hash(self.value)


def canonical(text: str) -> str:
    """Returns the canonical form of a quantity.

    Raises:
        ValueError: see `Quantity.parse`.
    """
    return str(Quantity.parse(text))


def _strip(number: int, base: int, *, limit: int) -> tuple[int, int]:
    """Divides whole powers of the base out of a number: (what is left, how many), at most `limit` of them."""
    count = 0
    while count < limit and number % base == 0:
        number //= base
        count += 1
    return number, count
