"""Writers that are killed, run out of disk or meet another leave what was there as it was."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from tests.processes import files_limited_to
from toolkit.results import open_results, save_results
from toolkit.training import Experiment
from toolkit.writing import beside

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and signals of Linux")


@pytest.fixture(scope="module")
def tree():
    run = Experiment(rank=2, record_every=1)
    run.step()
    return run.results()


def in_process(code, *arguments, limit=None):
    """Status and last line of a Python process, its files limited to so many bytes."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=files_limited_to(limit),
        check=False,
    )
    return done.returncode, (done.stderr.splitlines() or [""])[-1]


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_a_file_that_may_not_grow_is_an_os_error(tmp_path, tree, suffix):
    path = save_results(tree, tmp_path / f"run{suffix}")
    before = open_results(path, lazy=False)
    code = """
        import sys
        from toolkit.results import open_results, save_results
        save_results(open_results(sys.argv[1], lazy=False), sys.argv[1])
    """
    status, said = in_process(code, path, limit=2000)
    assert status == 1 and "OSError" in said  # not a signal: HDF5 ended the process by SIGSEGV
    assert open_results(path, lazy=False).identical(before)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_study_on_a_full_disk_is_an_os_error(tmp_path):
    code = """
        import sys
        from pathlib import Path
        import xarray as xr
        from toolkit.reproduce.results import save_dataset
        save_dataset(xr.Dataset({"x": ("y", range(1000))}), Path(sys.argv[1]))
    """
    status, said = in_process(code, tmp_path / "c1.nc", limit=2000)
    assert status == 1 and "OSError" in said
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_is_left_alone_and_links_are_followed(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="another thing"), beside(tmp_path / "pipe"):
        pass
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    with (
        pytest.raises(ValueError, match="is a folder already"),
        beside(tmp_path / "folder") as scratch,
    ):
        scratch.write_text("file")
    assert (tmp_path / "folder" / "mine").exists() and (tmp_path / "pipe").is_fifo()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with beside(tmp_path / "link") as scratch:
        scratch.write_text("new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "new"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_scratch_of_a_killed_writer_goes_with_the_next_write(tmp_path, kind):
    path = tmp_path / "run"
    code = """
        import os, signal, sys
        from pathlib import Path
        from toolkit.writing import beside
        with beside(Path(sys.argv[1])) as scratch:
            scratch.mkdir() if sys.argv[2] == "folder" else scratch.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert in_process(code, path, kind)[0] == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    with beside(path) as scratch:
        scratch.write_text("whole")
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_folders_change_places_at_once(tmp_path):
    path = tmp_path / "run"
    for text in ("old", "new"):
        with beside(path) as scratch:
            scratch.mkdir()
            (scratch / "text").write_text(text)
            assert text == "old" or (path / "text").read_text() == "old"
    assert (path / "text").read_text() == "new"


def test_a_store_that_is_being_written_is_left_to_its_writer(tmp_path, tree):
    path = tmp_path / "run.zarr"
    run = Experiment(rank=2, record_every=1)
    with run.stream(path):
        run.step()
        with pytest.raises(ValueError, match="is being written by another run"):
            save_results(tree, path)
        code = """
            import sys
            from toolkit.training import Experiment
            with Experiment(rank=2).stream(sys.argv[1]):
                pass
        """
        status, said = in_process(code, path)
        assert status == 1 and "is being written by another run" in said
        run.step()
    assert open_results(path)["training"].sizes["step"] == 2
    save_results(tree, path)


def test_what_is_no_file_and_no_run_is_refused(tmp_path, tree):
    os.mkfifo(tmp_path / "pipe.nc")
    with pytest.raises(ValueError, match="neither a file nor a folder"):
        open_results(tmp_path / "pipe.nc")
    other = tree.copy()
    other.attrs["schema_version"] = -5
    save_results(other, tmp_path / "run.nc")
    with pytest.raises(ValueError, match="schema_version -5"):
        open_results(tmp_path / "run.nc")
