"""Run a row stage over the rows that lack its facts, on this machine or on a Ray cluster, with the same stage code."""

from carspotter.compute.run import RunSummary, in_order, run, spread
from carspotter.compute.stage import Row, RowStage

__all__ = ["Row", "RowStage", "RunSummary", "in_order", "run", "spread"]
