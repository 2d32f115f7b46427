"""docs/settings.md and .env.example say what config.SETTINGS says. When they differ, the right text is printed."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import pytest

from hubbub import config
from hubbub.cli import COMMANDS

from .pages import ROOT, read, render, table

HEAD = ["variable", "flag", "default", "also read as", "what it does"]
NOWHERE = Path("/nonexistent")
HOME = "~/.local/share/hubbub"


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    found = {}
    for command in COMMANDS:
        found[command.NAME] = argparse.ArgumentParser(prog=f"hubbub {command.NAME}", allow_abbrev=False)
        command.options(found[command.NAME])
    return found


def options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """What people can give, also to a command below it; what only the launcher gives is hidden."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [
        *(action for action in parser._actions if action.help is not argparse.SUPPRESS and action not in below),
        *(option for action in below for sub in action.choices.values() for option in options(sub)),
    ]


def flags() -> dict[str, set[str]]:
    """Setting → the flags that set it, by the names of the commands' parameters."""
    found: dict[str, set[str]] = {}
    for command in commands().values():
        for option in options(command):
            if option.dest in config.BY_NAME:
                found.setdefault(option.dest, set()).add(option.option_strings[0])
    return found


def text_of(setting: config.Setting) -> str:
    """The default as it would be written in `.env`; empty when there is nothing to write."""
    if setting.name == "home":
        return HOME
    if setting.default is None:
        return ""
    if isinstance(setting.default, bool):
        return str(int(setting.default))
    return f"{setting.default:g}" if isinstance(setting.default, float) else str(setting.default)


def row(setting: config.Setting) -> list[str]:
    default = text_of(setting)
    return [
        f"`{setting.variable}`",
        ", ".join(f"`{flag}`" for flag in sorted(flags().get(setting.name, ()))),
        f"`{default}`" if default else "",
        ", ".join(f"`{alias}`" for alias in setting.aliases),
        setting.about,
    ]


def example() -> str:
    """Everything in .env.example after its introduction."""
    parts = []
    for setting in config.SETTINGS:
        also = f" Also read as {', '.join(setting.aliases)}." if setting.aliases else ""
        parts.append(f"# {setting.about}{also}\n#{setting.variable}={text_of(setting)}\n")
    return "\n".join(parts)


def load(variables: dict[str, str]) -> config.Settings:
    return config.load(environ=variables, dotenv=NOWHERE)


def test_the_settings_page_lists_every_setting_as_it_is() -> None:
    rows = [row(setting) for setting in config.SETTINGS]

    found = table(read("docs/settings.md"), "All settings")

    assert (found.head, found.rows) == (HEAD, rows), f"The right table is:\n\n{render(HEAD, rows)}\n"


def test_the_settings_page_lists_every_name_that_has_no_effect_yet() -> None:
    head = ["variable", "what happens today"]
    rows = [[f"`{name}`", f"{why[0].upper()}{why[1:]}."] for name, why in config.NOT_YET.items()]

    found = table(read("docs/settings.md"), "Names that have no effect yet")

    assert (found.head, found.rows) == (head, rows), f"The right table is:\n\n{render(head, rows)}\n"


def test_the_settings_page_names_what_only_the_build_and_the_tests_read() -> None:
    named = set(re.findall(r"`(HUBBUB_\w+)`", read("docs/settings.md").partition("## Read elsewhere")[2]))

    assert named == config.NOT_SETTINGS


def test_the_example_lists_every_setting_commented_out_with_its_default() -> None:
    text = read(".env.example")

    introduction, _, listed = text.partition("\n\n")

    assert all(line.startswith("# ") for line in introduction.splitlines())
    assert listed == example(), f"After the introduction the right text is:\n\n{example()}"


def test_the_example_with_every_line_uncommented_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    dotenv = tmp_path / ".env"
    dotenv.write_text(re.sub(r"^#(?=HUBBUB_)", "", read(".env.example"), flags=re.MULTILINE))

    loaded = config.load(environ={}, dotenv=dotenv)

    assert loaded.values == load({}).values
    told = {name for name, where in loaded.origin.items() if where != "default"}
    assert told == {setting.name for setting in config.SETTINGS if text_of(setting)}


def test_the_example_is_not_ignored_by_git_and_the_real_file_is() -> None:
    ignored = read(".gitignore").splitlines()

    assert ".env" in ignored
    assert not any(line.startswith(".env.") or line == ".env*" for line in ignored)
    assert (ROOT / ".env.example").is_file()


def _other(setting: config.Setting) -> tuple[str, Any]:
    """A text that is not the default, and the value it stands for."""
    if setting.secret:
        return "k" * 32, "k" * 32
    if isinstance(setting.default, bool):
        return ("0", False) if setting.default else ("1", True)
    for text in ("7", "HS512", "error", "script", "memory", "off", "10.0.0.7", "2048", "https://a.example", "/hubbub"):
        try:
            value = setting.parse(text)
        except ValueError:
            continue
        if value != setting.default:
            return text, value
    raise AssertionError(f"no other value is known for {setting.variable}")


@pytest.mark.parametrize("setting", config.SETTINGS, ids=lambda setting: setting.name)
def test_a_setting_is_read_under_each_of_its_names(setting: config.Setting) -> None:
    text, value = _other(setting)

    for name in (setting.variable, *setting.aliases):
        assert load({name: text}).values[setting.name] == value
        assert load({name: text}).origin[setting.name] == name


def test_the_environment_goes_before_the_file_and_a_flag_before_both(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("HUBBUB_PORT=1\nHUBBUB_TCP_PORT=2\nLOG_LEVEL=error\n")

    loaded = config.load({"port": 3}, {"HUBBUB_PORT": "4", "HUBBUB_TCP_PORT": "5"}, dotenv)

    assert (loaded.port, loaded.tcp_port, loaded.log_level) == (3, 5, "error")
