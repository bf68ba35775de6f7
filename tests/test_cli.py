"""Owns the command line: arguments, exit codes, messages, and that help costs no torch."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

import tensorstats
from tensorstats import demo
from tensorstats.__main__ import main

# Threads of a busy machine would wait for each other: the network of the demo is tiny.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tensorstats", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=ENVIRONMENT,
        check=False,
    )


def test_the_version_is_printed() -> None:
    done = command("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"tensorstats {tensorstats.__version__}\n", "")


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "demo" in capsys.readouterr().out


@pytest.mark.slow
def test_the_demo_names_its_bug_and_writes_its_picture(tmp_path: Path) -> None:
    done = command("demo", "--steps", "40", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "found dead-units at act3 since step 0" in done.stdout
    assert (tmp_path / "tensorstats-demo-dead-relu.png").stat().st_size > 10_000
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [("--help",), ("demo", "--help"), ("--version",), ("demo", "--bug", "nothing")])
def test_what_needs_no_torch_does_not_import_it(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys\nfrom tensorstats.__main__ import main\n"
        f"try:\n    main({list(arguments)!r})\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'sklearn', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("demo", "--bug", "gremlin"), "invalid choice: 'gremlin'"),
        (("demo", "--steps", "12"), f"must be at least {demo.MINIMUM_STEPS}, got 12"),
        (("demo", "--steps", "many"), "must be a whole number, got 'many'"),
        (("demo", "--seed", "-1"), "must be from 0 to 2^63 - 1, got -1"),
        (("train",), "invalid choice: 'train'"),
    ],
    ids=["bug", "few-steps", "steps", "seed", "command"],
)
def test_a_wrong_argument_is_named_with_what_is_accepted(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    if "gremlin" in arguments:
        assert all(name in error for name in demo.BUG_NAMES)


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (["torch"], "torch"),
        (["sklearn"], "scikit-learn"),
        (["torch", "matplotlib"], "torch and matplotlib"),
        (["torch", "sklearn", "matplotlib"], "torch, scikit-learn and matplotlib"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_a_missing_package_is_one_clear_error(
    missing: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name in missing else util.find_spec(name))
    assert main(["demo", "--out", str(tmp_path / "out.png")]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == f"error: the demo needs {named}\nhint: pip install 'tensorstats[demo]'\n"


def test_a_folder_that_does_not_exist_is_named_before_anything_is_trained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "nowhere" / "out.png"
    assert main(["demo", "--out", str(path)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == f"error: the picture needs a folder that exists, got {str(path)!r}\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [({"bug": "gremlin"}, "bug must be one of dead-relu, .*, got 'gremlin'"), ({"steps": 3}, "at least 40.*, got 3")],
    ids=["bug", "steps"],
)
def test_the_function_checks_what_the_command_line_would(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        demo.run(**options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error() -> None:
    # head closes the pipe after its first line, while the training is still going on.
    script = f"{sys.executable} -m tensorstats demo --bug none --steps 40 --out /dev/null | head -n 1"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert "Broken pipe" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "example", sorted((Path(__file__).parent.parent / "examples").glob("*.py")), ids=lambda p: p.stem
)
def test_every_example_runs(example: Path, tmp_path: Path) -> None:
    # Those that draw take the folder for it.
    command = [sys.executable, "-W", "error", example, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    expected = {
        "watch_a_loop": "FAILURE  frozen at 2, since step 0",
        "count_an_array": "NaN: 1, mean: 0.001249",
        "draw_pictures": "UnitActivity dim=1 units=256 updates=301",
    }
    assert expected[example.stem] in done.stdout
