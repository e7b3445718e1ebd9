"""Names and units in the headers of measured tables: which column holds what."""

from __future__ import annotations

import re
from typing import NamedTuple

QUANTITIES = ("conductance", "current", "resistance")
_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12}
_BASES = {"s": "conductance", "a": "current", "ohm": "resistance", "ohms": "resistance"}
UNITS = {"conductance": "S, mS, uS, nS or pS", "current": "A, mA, uA, nA or pA"}
UNITS["resistance"] = "Ohm, kOhm or MOhm"
WORDS = {
    "conductance": "conductance g gread gmeas gcell gch readconductance leitwert",
    "current": "current i iread imeas icell ids id readcurrent strom lesestrom",
    "resistance": "resistance r rread rmeas rcell readresistance widerstand",
    "pulse": "pulse pulsenumber pulseno pulsenr pulseindex pulseid pulsecount pulses npulse n no "
    "number index step puls pulsnummer pulsnr",
    "cycle": "cycle cyclenumber cycleno cyclenr cycleindex cycleid loop repetition zyklus",
    "cell": "cell cellnumber cellno cellnr cellindex cellid device deviceid deviceno dut sample "
    "memristor zelle bauteil",
    "polarity": "polarity sign direction operation op mode type pulsetype polarität",
    "voltage": "voltage v vpulse pulsevoltage vwrite writevoltage vprog amplitude pulseamplitude "
    "vp spannung vg vgate gatevoltage",
    "read_voltage": "vread readvoltage vr lesespannung vd vds drainvoltage vbias",
}
ROLES = {word: role for role, words in WORDS.items() for word in words.split()}
OTHERS = {
    *("time", "t", "zeit", "timestamp", "date", "temperature", "temp", "width", "pulsewidth"),
    *("delay", "error", "std"),
}
# Names that count only where no column has a better one.
_WEAK = {"n", "no", "number", "index", "step", "mode", "type", "amplitude", "sample", "v"}
FILLERS = {*WORDS["conductance"].split(), *WORDS["current"].split(), "r", "resistance", "read"}


class Unit(NamedTuple):
    """A quantity and how much of its SI unit one is."""

    quantity: str
    factor: float


def role_of(header: str, weak: bool) -> str:
    """What a column holds by its name or by volts as its unit; empty for readings and others."""
    name, unit = split_unit(header)
    word = squashed(name)
    role = ROLES.get(word, "")
    if (not role or word in _WEAK) != weak or role in QUANTITIES:
        return ""
    if not role and (unit or "").strip().lower() in ("v", "mv"):
        return "read_voltage" if "read" in name.lower() else "voltage"
    return role


def split_unit(header: str) -> tuple[str, str | None]:
    """Name and unit of a header: ``G (uS)``, ``conductance_uS``, ``R/kOhm``, ``I [A]``."""
    header = header.strip()
    if bracketed := re.fullmatch(r"(.*?)\s*[\[(]\s*([^\[\]()]*?)\s*[\])]", header):
        name, unit = bracketed.groups()
        if not unit:
            return name, None
        inner, outer = split_unit(name), unit_of(unit)
        first = unit_of(inner[1] or "")
        if first is None or outer is None or first.quantity != outer.quantity:
            return name, unit
        if first != outer:
            raise ValueError(f"mixed units: column {name!r} has the attribute units={unit!r}")
        return inner[0], unit
    parts = re.fullmatch(r"(.+?)(\s*/\s*|[\s_]+)([^\s_/]+)", header)
    if parts and _is_unit(parts[3]) and _has_unit(*parts.groups()):
        return parts[1].strip(), parts[3]
    return header, None


def _has_unit(name: str, mark: str, unit: str) -> bool:
    """Whether the last word is a unit: in ``I/A``, ``current_A``, ``dev1 uS``, not ``Device A``."""
    is_quantity = ROLES.get(squashed(name)) in (*QUANTITIES, "voltage", "read_voltage")
    return len(unit) > 1 or "/" in mark or is_quantity


def _is_unit(text: str) -> bool:
    return unit_of(text) is not None or text in ("V", "mV")


def unit_of(text: str) -> Unit | None:
    """A unit of a reading; ``m`` is milli and ``M`` mega for ohms, siemens in any case."""
    text = re.sub(r"[µμ]", "u", text.strip())
    text = re.sub(r"[ΩΩ]", "ohm", text)
    parts = re.fullmatch(r"([pnumkMKPNUG]?)(s|a|ohms?)", text, re.IGNORECASE)
    if parts is None:
        return None
    prefix, base = parts[1], parts[2].lower()
    quantity = _BASES[base]
    if quantity == "resistance" and prefix in ("M", "G"):
        return Unit(quantity, 1e6 if prefix == "M" else 1e9)
    factor = _PREFIXES.get(prefix.lower())
    return None if factor is None else Unit(quantity, factor)


def squashed(name: str) -> str:
    """A name without blanks and marks, in lower case."""
    return re.sub(r"[\W_]", "", name.lower()) or ("pulse" if name.strip() == "#" else "")
