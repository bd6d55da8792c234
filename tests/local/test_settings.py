"""Settings come from the environment; bad ones are refused with the name of the variable."""

from pathlib import Path

import pytest

from ponte.errors import StackError
from ponte.local.settings import Settings, cores

ROOT = Path("/somewhere/ponte")


def test_an_empty_environment_means_the_defaults() -> None:
    settings = Settings.from_environment({}, ROOT)
    assert settings == Settings(root=ROOT, home=ROOT / ".ponte")
    assert settings.ui_url == "http://127.0.0.1:8080"


def test_empty_values_mean_the_defaults() -> None:
    assert Settings.from_environment({"PONTE_UI_PORT": "", "PONTE_HOME": ""}, ROOT) == Settings(
        root=ROOT, home=ROOT / ".ponte"
    )


def test_variables_are_read(tmp_path: Path) -> None:
    environment = {"PONTE_HOME": str(tmp_path), "PONTE_UI_PORT": "8081", "PONTE_UI_HOST": "::"}
    settings = Settings.from_environment(environment, ROOT)
    assert (settings.home, settings.ui_port, settings.ui_host) == (tmp_path, 8081, "::")
    assert settings.ui_url == "http://[::1]:8081", "an address to connect to, not one to listen on"


def test_every_core_scores_and_libraries_are_preloaded_unless_told_otherwise() -> None:
    settings = Settings.from_environment({}, ROOT)
    assert (settings.score_slots, settings.preload) == (cores(), 1)
    told = Settings.from_environment({"PONTE_SCORE_SLOTS": "1", "PONTE_PRELOAD": "0"}, ROOT)
    assert (told.score_slots, told.preload) == (1, 0)


@pytest.mark.parametrize(("name", "value"), [("PONTE_SCORE_SLOTS", "0"), ("PONTE_PRELOAD", "yes")])
def test_no_slots_and_other_words_are_refused(name: str, value: str) -> None:
    with pytest.raises(StackError, match=f"{name}: got '{value}'"):
        Settings.from_environment({name: value}, ROOT)


@pytest.mark.parametrize("value", ["0", "65536", "-1", "http", "80 80", "8080.0", "८०८०"])
def test_a_bad_port_is_refused_by_name(value: str) -> None:
    with pytest.raises(StackError) as refused:
        Settings.from_environment({"PONTE_UI_PORT": value}, ROOT)
    assert f"PONTE_UI_PORT: got {value!r}, expected a whole number from 1 to 65535." in str(refused.value)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(StackError, match=r"(?s)PONTE_UI_PORT.*PONTE_PARALLELISM"):
        Settings.from_environment({"PONTE_UI_PORT": "x", "PONTE_PARALLELISM": "0"}, ROOT)


def test_two_settings_cannot_have_one_port() -> None:
    with pytest.raises(StackError, match="PONTE_LOG_PORT: got 8080, which PONTE_UI_PORT has already"):
        Settings.from_environment({"PONTE_LOG_PORT": "8080"}, ROOT)


@pytest.mark.parametrize("home", ["/somewhere/ponte", "/somewhere", "/"])
def test_a_home_that_contains_the_repository_is_refused(home: str) -> None:
    with pytest.raises(StackError, match="PONTE_HOME"):
        Settings.from_environment({"PONTE_HOME": home}, ROOT)
