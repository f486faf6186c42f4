"""Studies: networks × recipes × benchmarks, kept by content, resumed after a kill."""

from veriquant.study.config import StudyConfig, load_study, parse_study
from veriquant.study.run import read_result, run_study

__all__ = ["StudyConfig", "load_study", "parse_study", "read_result", "run_study"]
