"""Tables as laboratories write them, of cells that follow no formula and no simulator of ours.

The state rises as a quarter of a sine and falls as its mirror image; readings have noise of 0.3 %.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

LOW, HIGH = 2e-6, 2e-5
UP, DOWN = 50, 40


class LabTable(NamedTuple):
    """A file, what the reader must be told, and what it says; values that the device must have."""

    write: object
    layout: dict
    said: str
    cells: int = 1


def readings(cells=1, cycles=4, seed=0):
    """One reading a row: cell, cycle, pulse (after it), sign and siemens."""
    rng = np.random.default_rng(seed)
    rise = np.sin(0.5 * np.pi * np.arange(1, UP + 1) / UP)
    fall = 1.0 - np.sin(0.5 * np.pi * np.arange(1, DOWN + 1) / DOWN)
    state, sign = np.concatenate([rise, fall]), np.repeat([1, -1], [UP, DOWN])
    rows = []
    for cell in range(1, cells + 1):
        for cycle in range(1, cycles + 1):
            noisy = (LOW + (HIGH - LOW) * state) * (1 + 0.003 * rng.normal(size=len(state)))
            pulse = np.arange(1, len(state) + 1)
            rows.append(
                pd.DataFrame(
                    {"cell": cell, "cycle": cycle, "pulse": pulse, "sign": sign, "g": noisy}
                )
            )
    return pd.concat(rows, ignore_index=True)


def text(frame, sep=",", decimal=".", above="", below="", units=None, encoding="utf-8"):
    """Bytes of a table of text."""
    header, *rows = frame.to_csv(index=False, sep=sep, decimal=decimal).splitlines()
    lines = [header, *([sep.join(units)] if units else []), *rows]
    return (above + "\n".join(lines) + "\n" + below).encode(encoding)


def plain():
    data = readings()
    return text(pd.DataFrame({"Pulse": range(1, len(data) + 1), "Conductance (uS)": data.g * 1e6}))


def current_at_a_voltage_column():
    data = readings(cells=2)
    return text(
        pd.DataFrame(
            {
                "Device": [f"D{cell}" for cell in data.cell],
                "V_pulse (V)": 1.2 * data.sign,
                "V_read (V)": 0.1,
                "I_read (A)": data.g * 0.1,
            }
        )
    )


def current_at_a_given_voltage():
    data = readings()
    volts = np.where(data.sign > 0, -2.5, 2.0)  # negative pulses potentiate
    columns = {"Pulse #": data.pulse, "Vpulse (V)": volts, "I_read [nA]": data.g * 0.1e9}
    return text(pd.DataFrame(columns), sep="\t")


def resistance():
    data = readings()
    operation = np.where(data.sign > 0, "SET", "RESET")
    number = np.arange(len(data))
    columns = {"No.": number, "Operation": operation, "R (kOhm)": 1e-3 / data.g}
    return text(pd.DataFrame(columns))


def ltp_beside_ltd():
    data = readings(cycles=1)
    rise, fall = (data.g[data.sign == sign].to_numpy() * 1e6 for sign in (1, -1))
    count = max(UP, DOWN)
    columns = {"LTP (µS)": rise, "LTD (µS)": np.append(fall, [np.nan] * (count - DOWN))}
    return text(pd.DataFrame({"Pulse": range(1, count + 1)} | columns), sep="\t")


def a_column_a_device():
    data = readings(cells=3)
    columns = {f"Dev {cell} (µS)": part.g.to_numpy() * 1e6 for cell, part in data.groupby("cell")}
    frame = pd.DataFrame({"Puls": range(1, 1 + 4 * (UP + DOWN))} | columns)
    return text(frame, sep=";", decimal=",", encoding="cp1252")


def utf_16_below_an_instruments_lines():
    data = readings()
    above = "Keithley 4200A-SCS, SN 1234567\r\nTest: LTP/LTD, 0.1 V\nDate\t2024-05-03 12:30:11\n\n"
    columns = {"Index": range(len(data)), "Vg": 0.5 * data.sign, "G(S)": data.g}
    return text(pd.DataFrame(columns), sep="\t", above=above, encoding="utf-16")


def blanks_below_a_comment():
    data = readings()
    table = np.column_stack([data.cycle, data.pulse, data.sign, 1e9 * data.g])
    lines = [f"{int(c):6d} {int(p):6d}  {int(s):+d}  {g:12.6E}" for c, p, s, g in table]
    return ("# cycle pulse polarity G (nS)\n" + "\n".join(lines) + "\n").encode()


def units_in_a_row_and_a_footer():
    data = readings(cells=2)
    columns = {
        "Cell": data.cell,
        "Type": np.where(data.sign > 0, "P", "D"),
        "Time": np.arange(len(data)) * 1e-3,
        "Conductance": data.g * 1e6,
    }
    frame, below = pd.DataFrame(columns), "\n\nEnd of measurement\nOperator: Müller, approved\n"
    made = text(frame, units=["-", "", "s", "µS"], below=below, encoding="utf-8-sig").decode()
    return made.replace("\n2,", "\n\n2,", 1).encode()


def ones_and_zeros():
    data = readings()
    columns = {
        "pulse": data.pulse,
        "type": (data.sign > 0).astype(int),
        "conductance_uS": 1e6 * data.g,
    }
    return text(pd.DataFrame(columns))


def missing_readings():
    data = readings()
    current = (data.g * 0.2).map("{:.6e}".format)
    current[[7, 8, 120]], current[[60]], current[[200]] = "9.9e37", "", "NaN"
    columns = {
        "cycle": data.cycle,
        "pulse": data.pulse,
        "polarity": data.sign,
        "Current/A": current,
    }
    return text(pd.DataFrame(columns), sep=";")


def workbook():
    import io

    data = readings(cells=2)
    sign = np.where(data.sign > 0, "LTP", "LTD")
    columns = {"Sample": data.cell, "Polarity": sign, "Conductance (µS)": data.g * 1e6}
    target = io.BytesIO()
    with pd.ExcelWriter(target, engine="openpyxl") as book:
        pd.DataFrame(columns).to_excel(book, index=False, startrow=3)
        book.sheets["Sheet1"]["A1"] = "Analog switching, wafer 7"
    return target.getvalue()


def names_of_ones_own():
    data = readings()
    columns = {"Puls": data.pulse, "Lauf": data.cycle, "Wert 1": data.sign, "Wert 2": data.g * 1e6}
    return text(pd.DataFrame(columns), sep=";", decimal=",")


OWN = {"conductance": "Wert 2", "polarity": "Wert 1", "cycle": "Lauf"}
TABLES = {
    "plain": LabTable(plain, {}, "turns of the readings"),
    "current at a voltage column": LabTable(
        current_at_a_voltage_column, {}, "read voltage of 0.1 V in 'V_read", 2
    ),
    "current at a given voltage": LabTable(
        current_at_a_given_voltage, {"read_voltage": 0.1}, "negative potentiates"
    ),
    "resistance": LabTable(resistance, {}, "resistance in kOhm"),
    "LTP beside LTD": LabTable(ltp_beside_ltd, {}, "polarity by column"),
    "a column a device": LabTable(a_column_a_device, {}, "of 3 devices", 3),
    "UTF-16": LabTable(utf_16_below_an_instruments_lines, {}, "sign of 'Vg'"),
    "blanks": LabTable(blanks_below_a_comment, {}, "conductance in nS"),
    "units in a row": LabTable(units_in_a_row_and_a_footer, {}, "2 lines below", 2),
    "ones and zeros": LabTable(ones_and_zeros, {"polarities": {1: "up", 0: "down"}}, "4 cycles"),
    "missing readings": LabTable(missing_readings, {"read_voltage": 0.2}, "5 readings missing"),
    "workbook": LabTable(workbook, {}, "conductance in µS", 2),
    "own names": LabTable(
        names_of_ones_own, {"columns": OWN, "unit": "uS"}, "conductance in uS in 'Wert 2'"
    ),
}


def write(table: LabTable, folder: Path) -> Path:
    """The table as a file."""
    data = table.write()
    path = folder / ("table.xlsx" if data[:2] == b"PK" else "table.csv")
    path.write_bytes(data)
    return path
