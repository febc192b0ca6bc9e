"""Testing workflows: `given(...).when(...).then(...)`, and a check of what must hold for every workflow."""

from holdfast.runtime.testing import Coverage, Scenario, check_workflow, given

__all__ = ["Coverage", "Scenario", "check_workflow", "given"]
