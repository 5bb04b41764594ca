"""Imports and the start of the command, each in a fresh interpreter.

`import quantcal` is compared with `import numpy`, and so is its first use, which imports numpy
too. The command is compared with an interpreter that does nothing. Only what comes on top
counts. `python -m benches.system.importing` prints minima beside onnxruntime and torch, which
are the better figures on a busy machine.
"""

from __future__ import annotations

import subprocess
import sys
import time

from benches.harness.figures import Sheet

_PROGRAM = """
import time
start = time.perf_counter()
{}
print(time.perf_counter() - start)
"""

_NUMPY = "import numpy"
_OURS = "import quantcal"
_USED = "import quantcal; quantcal.Calibrator"
_OTHERS = ("import onnxruntime", "import torch")

_NOTHING = ("-c", "pass")
_COMMANDS = {
    "--version": ("-m", "quantcal", "--version"),
    "--help": ("-m", "quantcal", "--help"),
    "quantize --help": ("-m", "quantcal", "quantize", "--help"),
}


def _seconds(code: str) -> float:
    """Return the time of statements, without the start of the interpreter."""
    program = [sys.executable, "-c", _PROGRAM.format(code)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _whole(arguments: tuple[str, ...]) -> float:
    """Return the time of a whole process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    return time.perf_counter() - start


def _in_turns(
    rounds: int, codes: tuple[str, ...]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return the times of imports, and of commands beyond an empty interpreter."""
    imports: dict[str, list[float]] = {code: [] for code in codes}
    commands: dict[str, list[float]] = {name: [] for name in ("", *_COMMANDS)}
    for turn in range(rounds + 1):
        imported = {code: _seconds(code) for code in imports}
        started = {name: _whole(_COMMANDS.get(name, _NOTHING)) for name in commands}
        if turn:  # the first fills the file system's caches
            for code, seconds in imported.items():
                imports[code].append(seconds)
            for name, seconds in started.items():
                commands[name].append(seconds)
    return imports, commands


def main(*, smoke: bool) -> Sheet:
    """Time imports and commands in turns."""
    imports, commands = _in_turns(2 if smoke else 15, (_NUMPY, _OURS, _USED))
    sheet = Sheet("importing")
    yardstick = (_NUMPY, imports[_NUMPY])
    sheet.add(_NUMPY, "fresh process", imports[_NUMPY], unit="ms", per=1e-3)
    for code in (_OURS, _USED):
        sheet.add(
            code,
            "fresh process",
            imports[code],
            unit="ms",
            per=1e-3,
            yardstick=yardstick,
        )
    sheet.ratio(_OURS, "of import numpy", imports[_OURS], imports[_NUMPY], at_most=1.25)
    sheet.ratio(_USED, "of import numpy", imports[_USED], imports[_NUMPY])
    empty = commands.pop("")
    for name, limit in zip(_COMMANDS, (150, 300, 300), strict=True):
        beyond = [ours - none for ours, none in zip(commands[name], empty, strict=True)]
        sheet.add(
            f"quantcal {name}",
            "beyond an empty interpreter",
            beyond,
            unit="ms",
            per=1e-3,
            at_most=limit,
            yardstick=yardstick,
        )
    return sheet


def _print_minima(rounds: int) -> None:
    codes = (_NUMPY, _OURS, _USED, *_OTHERS)
    found = []
    for code in codes:
        try:
            _seconds(code)
        except subprocess.CalledProcessError:
            continue  # not installed
        found.append(code)
    imports, commands = _in_turns(rounds, tuple(found))
    empty = min(commands.pop(""))
    print(f"| an empty interpreter | {1000 * empty:.0f} ms |")
    for code, seconds in imports.items():
        print(f"| `{code}` | + {1000 * min(seconds):.0f} ms |")
    for name, seconds in commands.items():
        print(f"| `quantcal {name}` | + {1000 * (min(seconds) - empty):.0f} ms |")


if __name__ == "__main__":
    _print_minima(25)
