"""Trace names: what spans that are rebuilt from a log are called, and their attributes. The one list of them."""

#: The name of the instrumentation, as collectors show it.
SCOPE = "holdfast.trace"
SERVICE = "holdfast"

# What live traces have too is spelt as there; what a log alone can tell comes on top.

#: Span names: an operation and a destination, of low cardinality.
INSTANCE_SPAN = "instance {workflow}"
COMMAND_SPAN = "decide {workflow}"
EFFECT_SPAN = "run {name}"
TIMER_SPAN = "wait {workflow}"
DEAD_LETTER_SPAN = "bury {kind}"

#: The instance: `type/key`. The same in every span of its life, live or rebuilt.
CONVERSATION_ID = "messaging.message.conversation_id"
#: The id of the command or the effect, as a message.
MESSAGE_ID = "messaging.message.id"
WORKFLOW_TYPE = "workflow.type"
WORKFLOW_KEY = "workflow.key"
RUN_STATE = "workflow.run_state"
SEQ = "workflow.seq"
COMMAND_ID = "workflow.command.id"
COMMAND = "workflow.command"
CAUSE = "workflow.command.cause"
SENDER = "workflow.command.sender"
EVENTS = "workflow.events"
EFFECT = "workflow.effect"
EFFECT_ID = "workflow.effect.id"
ATTEMPTS = "workflow.attempt"
TIMER = "workflow.timer.key"
TIMER_DUE = "workflow.timer.due"
STATUS = "workflow.status"
REASON = "workflow.reason"
DEAD_LETTER_ID = "workflow.dead_letter.id"
#: Set on every span that was rebuilt from a log, so that it is not taken for one of a running worker.
REBUILT = "workflow.rebuilt"
