"""Testing: what tests of workflows are made of. No server, no clock, no I/O.

    given(Order, OrderPlaced(5)).when(TakePayment("o-1")).then(OrderPaid())

`given` tells one story at a time; `check_workflow` lets hypothesis make up stories and checks what must hold in all.
"""

from holdfast.runtime.testing.check import Coverage, check_workflow
from holdfast.runtime.testing.scenario import Scenario, given

__all__ = ["Coverage", "Scenario", "check_workflow", "given"]
