"""Temporary files: their permissions, what a kill leaves, and disks that are full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quantcal as qc
from cli_runs import environment, run, save_model, save_samples
from file_writers import SAVE, calibrator
from paths import HELPERS
from quantcal._io import temporary
from quantcal._io.temporary import TemporaryFolder, beside

posix = pytest.mark.skipif(os.name != "posix", reason="permissions and locks of POSIX")


saves = pytest.mark.parametrize("save", SAVE.values(), ids=SAVE)


@posix
def test_files_of_many_threads_have_the_permissions_of_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(mask: int) -> int:
        raise AssertionError("the umask is one of all threads")

    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", refused)
            cal = calibrator()
            threads = [
                threading.Thread(
                    target=lambda n=n: [
                        cal.save(tmp_path / f"{n}-{i}") for i in range(20)
                    ]
                )
                for n in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        SAVE["model"](tmp_path / "q.onnx")
    finally:
        os.umask(before)
    modes = {oct(file.stat().st_mode & 0o777) for file in tmp_path.iterdir()}
    assert modes == {"0o640"}
    assert len(list(tmp_path.iterdir())) == 161


def test_threads_that_write_one_file_leave_one_of_them(tmp_path: Path) -> None:
    path = tmp_path / "s.qcal"
    cals = [qc.Calibrator() for _ in range(12)]
    for number, cal in enumerate(cals):
        cal.observe("x", np.full(100, number, np.float32))
    threads = [threading.Thread(target=cal.save, args=(path,)) for cal in cals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in [cal.to_bytes() for cal in cals]
    assert list(tmp_path.iterdir()) == [path]


@saves
def test_a_file_is_on_the_disk_before_it_replaces_another(
    save: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    done: list[tuple[str, int]] = []
    plain, replace = os.fsync, Path.replace

    def synced(number: int) -> None:
        plain(number)
        done.append(("synced", os.fstat(number).st_ino))

    def replaced(self: Path, target: Path) -> Path:
        done.append(("placed", self.stat().st_ino))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    save(path)
    number = path.stat().st_ino
    assert ("placed", number) in done
    assert done.index(("synced", number)) < done.index(("placed", number))
    if os.name == "posix":
        assert done[-1] == ("synced", tmp_path.stat().st_ino)


KILLED = """
import os, signal, sys
from pathlib import Path
import quantcal as qc
import file_writers
from quantcal.onnx._write import output
def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)
Path.replace = killed
file_writers.SAVE[sys.argv[1]](Path(sys.argv[2]))
"""


@posix
@pytest.mark.parametrize("what", SAVE)
@pytest.mark.parametrize("name", ["out", "n" * 250])
def test_what_a_killed_process_left_is_removed_by_the_next_writing(
    what: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, what, str(path)],
            cwd=HELPERS,
            env=environment(),
            timeout=120,
            check=False,
            capture_output=True,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        left = [file.name for file in tmp_path.iterdir()]
        assert left
        assert all(n.startswith(".") and ".0.quantcal-tmp" in n for n in left)
    (tmp_path / ".other.0.quantcal-tmp").write_text("of another target")
    SAVE[what](path)
    found = {file.name for file in tmp_path.iterdir()}
    assert found == {name, ".other.0.quantcal-tmp"}


@posix
def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.qcal"
    with beside(path) as new:
        new.write(b"half")
        calibrator().save(path)
        assert new.path.read_bytes() == b"half"
        new.place(path)
    assert path.read_bytes() == b"half"
    assert list(tmp_path.iterdir()) == [path]


@posix
def test_a_file_of_somebody_elses_that_looks_like_ours_is_left_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s.qcal"
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".s.qcal.0.quantcal-tmp").symlink_to("mine")
    os.mkfifo(tmp_path / ".s.qcal.1.quantcal-tmp")
    (tmp_path / ".s.qcal.2.quantcal-tmp").mkdir()
    before = sorted(tmp_path.iterdir())
    calibrator().save(path)
    assert sorted(tmp_path.iterdir()) == sorted([*before, path])
    assert (tmp_path / "mine").read_text() == "mine"


@posix
def test_temporary_folders_of_killed_processes_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os, signal\n"
        "from quantcal._io.temporary import TemporaryFolder\n"
        "folder = TemporaryFolder()\n"
        "(folder.path / 'weights').write_bytes(b'x' * 1000)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    variables = environment(TMPDIR=str(tmp_path))
    subprocess.run(
        [sys.executable, "-c", code], env=variables, check=False, timeout=120
    )
    (left,) = tmp_path.iterdir()
    (tmp_path / "quantcal-mine").mkdir()
    (tmp_path / "quantcal-mine" / "lock").write_text("not ours")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = TemporaryFolder()
    assert not left.exists()
    other = TemporaryFolder()
    assert folder.path.exists()  # its process lives
    folder.close()
    assert not folder.path.exists()
    del other
    assert [file.name for file in tmp_path.iterdir()] == ["quantcal-mine"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_does_not_delete_the_folder_of_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = TemporaryFolder()
    child = os.fork()
    if not child:
        folder.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert folder.path.is_dir()
    temporary.close_folders()
    assert not folder.path.exists()


LIMITED = """
import resource, sys
from pathlib import Path
import quantcal as qc
import file_writers
import quantcal.onnx, onnx, onnxruntime
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    file_writers.SAVE[sys.argv[1]](Path(sys.argv[2]))
except qc.CalibrationError as error:
    print(error)
"""


def limited(what: str, path: Path, size: int, *lines: str) -> str:
    """Return the error of a process with a limit on the bytes in a file."""
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines) + LIMITED, what, str(path), str(size)],
        cwd=HELPERS,
        env=environment(),
        timeout=120,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize("what", SAVE)
def test_a_disk_without_room_is_reported_with_the_file_and_the_reason(
    what: str, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    patches = (
        "import onnx",
        "plain = onnx.save_model",
        "def few(*arguments):",
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (99, resource.RLIM_INFINITY))",
        "    plain(*arguments)",
        "onnx.save_model = few",
    )
    # A model's variants are written to the temporary folder first.
    message = limited(what, path, 10**6 if what == "model" else 99, *patches)
    assert message == f"{path} cannot be written: File too large"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_weights_without_room_are_reported_with_the_file_and_the_reason(
    tmp_path: Path,
) -> None:
    patches = (
        "from quantcal.onnx._graph import external_data",
        "from quantcal.onnx._write import output",
        "external_data.EXTERNAL_BYTES = 10",
        "output._MAX_FILE = 10",
        "plain = output.externalize_weights",
        "def few(*arguments):",
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))",
        "    plain(*arguments)",
        "output.externalize_weights = few",
    )
    message = limited("model", tmp_path / "q.onnx", 10**6, *patches)
    assert message == f"{tmp_path / 'q.onnx'} cannot be written: File too large"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_temporary_folder_without_room_is_named_with_the_way_out(
    tmp_path: Path,
) -> None:
    message = limited("model", tmp_path / "q.onnx", 10)
    assert message == (
        f"{tempfile.gettempdir()} cannot be written: File too large. Make room there, or "
        "set TMPDIR to another folder."
    )


def test_a_temporary_folder_that_is_missing_is_reported(tmp_path: Path) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    code = "import tempfile; tempfile.tempdir = '/nowhere'\nfrom quantcal.cli import main; main()"
    done = subprocess.run(
        [
            *(sys.executable, "-c", code, "observe", model),
            *("-o", tmp_path / "s.qcal", "--samples", data),
        ],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: /nowhere cannot be written: No such file")
    assert run("--version").code == 0
