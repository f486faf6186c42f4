from __future__ import annotations

from pathlib import Path

import pytest
from report_fakes import mixed_study, study

from veriquant.report import ReportPaths, write_report
from veriquant.results import StudyResult


@pytest.fixture(scope="session")
def result() -> StudyResult:
    return study()


@pytest.fixture(scope="session")
def paths(result: StudyResult, tmp_path_factory: pytest.TempPathFactory) -> ReportPaths:
    return write_report(result, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> ReportPaths:
    """A study with mixed precision: few groups in one network, 130 at eight candidates in the other."""
    return write_report(mixed_study(), tmp_path_factory.mktemp("mixed"))


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> ReportPaths:
    """A synthetic study of a network whose name is markup, written to a folder that does not exist yet."""
    result = study(HOSTILE, synthetic=True)
    result.networks[0].variants[3].notes.append(HOSTILE)
    result.networks[0].variants[3].layers[0].name = HOSTILE
    folder: Path = tmp_path_factory.mktemp("report") / "new" / "folder"
    return write_report(result, folder)


HOSTILE = '</script><script>window.hacked = true</script><img src=x onerror="window.hacked = true">|`*'
