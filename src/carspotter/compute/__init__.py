"""Run a row stage over the rows that lack its facts, on this machine or on a Ray cluster, with the same stage code."""

from carspotter.compute.run import RunSummary, run
from carspotter.compute.stage import RowStage

__all__ = ["RowStage", "RunSummary", "run"]
