"""Testing workflows: `given(...).when(...).then(...)`, a check of what must hold for every workflow, and simulation."""

from holdfast.actors.simulation.simulate import Report, Run, SimulationFailure, simulate
from holdfast.actors.simulation.store import MemoryStore
from holdfast.actors.simulation.trouble import Faults
from holdfast.runtime.testing import Coverage, Scenario, check_workflow, given

__all__ = [
    "Coverage",
    "Faults",
    "MemoryStore",
    "Report",
    "Run",
    "Scenario",
    "SimulationFailure",
    "check_workflow",
    "given",
    "simulate",
]
