"""Following a run, and what an interrupt leaves a user with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bothways.errors import ConfigError
from bothways.terminal import SafeConsole
from bothways.training import follow as module
from bothways.training.follow import check_following, follow
from bothways.training.reports import Report, StageReport


def interrupted() -> Iterator[Report]:
    yield StageReport("tokenizer")
    raise KeyboardInterrupt


@pytest.mark.parametrize("in_notebook", [False, True])
def test_a8_an_interrupt_states_how_to_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], in_notebook: bool
) -> None:
    out = tmp_path / "m.bundle"
    monkeypatch.setattr(
        module, "SafeConsole", lambda file: SafeConsole(file=file, force_jupyter=in_notebook, width=500)
    )
    lines: list[str] = []
    monkeypatch.setattr(SafeConsole, "print", lambda _, line, **__: lines.append(line))
    with pytest.raises(KeyboardInterrupt) as caught:
        follow(out, {}, interrupted(), check_following(True, None, None))
    line = f"interrupted: train again with the same arguments to continue (kept in {out}.run)"
    assert caught.value.__notes__ == [line]
    assert lines == ["tokenizer", *([line] if in_notebook else [])]
    assert capsys.readouterr().out == ""


def test_what_a_user_wants_to_see_is_checked_before_a_run(tmp_path: Path) -> None:
    found = check_following(False, str(tmp_path / "curves.png"), ["tensorboard"])
    assert (found.progress, found.plot) == (False, tmp_path / "curves.png")
    assert [target.kind for target in found.targets] == ["tensorboard"]
    with pytest.raises(ConfigError, match=r"^--log-to 'comet': "):
        check_following(True, None, "comet")
