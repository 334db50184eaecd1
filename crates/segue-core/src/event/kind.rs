//! The event types, and what each one is.

/// A known event type, or [`EventKind::Opaque`] for one that this version does not know: those
/// are kept and shown as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The run was accepted and waits for its turn.
    RunQueued,
    /// The run began.
    RunStarted,
    /// Something outside of the server that the run holds from here on; recovery releases it.
    RunResource,
    /// A stop was accepted of a run that a restart would go on with.
    RunStopping,
    /// A step (one request to a model) began.
    StepStarted,
    /// A step ended.
    StepFinished,
    /// A part of text began.
    TextStart,
    /// More text of a part.
    TextDelta,
    /// A part of text ended.
    TextEnd,
    /// A part of reasoning began.
    ReasoningStart,
    /// More reasoning of a part.
    ReasoningDelta,
    /// A part of reasoning ended.
    ReasoningEnd,
    /// A tool call began.
    ToolCallStarted,
    /// More of a tool call's input.
    ToolCallInputDelta,
    /// A tool call's input is whole.
    ToolCallInputEnd,
    /// A tool call's result.
    ToolResult,
    /// Somebody has to decide.
    ApprovalRequested,
    /// Somebody decided.
    ApprovalResolved,
    /// What a client sent into the running run.
    InputReceived,
    /// A file.
    File,
    /// A source that was quoted.
    Source,
    /// Tokens and cost.
    Usage,
    /// Named custom data.
    Data,
    /// A snapshot or patch of state.
    State,
    /// Metadata of the message.
    Metadata,
    /// A log line.
    Log,
    /// A step's parts are void.
    Discard,
    /// Something is wrong, not fatally.
    Warning,
    /// The end, in order.
    RunFinished,
    /// The end, by a stop.
    RunStopped,
    /// The end, by an error.
    RunFailed,
    /// The end, cut off.
    RunInterrupted,
    /// A type this version does not know.
    Opaque,
}

impl EventKind {
    /// Every known kind with its name on the wire.
    pub const NAMES: [(EventKind, &'static str); 32] = [
        (Self::RunQueued, "run.queued"),
        (Self::RunStarted, "run.started"),
        (Self::RunResource, "run.resource"),
        (Self::RunStopping, "run.stopping"),
        (Self::StepStarted, "step.started"),
        (Self::StepFinished, "step.finished"),
        (Self::TextStart, "text.start"),
        (Self::TextDelta, "text.delta"),
        (Self::TextEnd, "text.end"),
        (Self::ReasoningStart, "reasoning.start"),
        (Self::ReasoningDelta, "reasoning.delta"),
        (Self::ReasoningEnd, "reasoning.end"),
        (Self::ToolCallStarted, "tool_call.started"),
        (Self::ToolCallInputDelta, "tool_call.input_delta"),
        (Self::ToolCallInputEnd, "tool_call.input_end"),
        (Self::ToolResult, "tool_result"),
        (Self::ApprovalRequested, "approval.requested"),
        (Self::ApprovalResolved, "approval.resolved"),
        (Self::InputReceived, "input.received"),
        (Self::File, "file"),
        (Self::Source, "source"),
        (Self::Usage, "usage"),
        (Self::Data, "data"),
        (Self::State, "state"),
        (Self::Metadata, "metadata"),
        (Self::Log, "log"),
        (Self::Discard, "discard"),
        (Self::Warning, "warning"),
        (Self::RunFinished, "run.finished"),
        (Self::RunStopped, "run.stopped"),
        (Self::RunFailed, "run.failed"),
        (Self::RunInterrupted, "run.interrupted"),
    ];

    /// The kind of this name; `Opaque` if it is none of ours.
    pub fn parse(name: &str) -> Self {
        // The hot case first: nearly every event of a run is one of these.
        if name == "text.delta" {
            return Self::TextDelta;
        }
        Self::NAMES.iter().find(|(_, known)| *known == name).map_or(Self::Opaque, |(kind, _)| *kind)
    }

    /// The name on the wire; empty for `Opaque`, whose events carry their own.
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// Whether a run ends with it.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::RunFinished | Self::RunStopped | Self::RunFailed | Self::RunInterrupted
        )
    }

    /// Whether only the engine may write it.
    pub fn is_reserved(self) -> bool {
        matches!(
            self,
            Self::RunQueued
                | Self::RunStarted
                | Self::RunResource
                | Self::RunStopping
                | Self::RunStopped
                | Self::RunInterrupted
                | Self::ApprovalResolved
                | Self::InputReceived
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_found_again() {
        for (kind, name) in EventKind::NAMES {
            assert_eq!(EventKind::parse(name), kind);
            assert_eq!(kind.as_str(), name);
        }
        assert_eq!(EventKind::parse("text.deltas"), EventKind::Opaque);
        assert_eq!(EventKind::Opaque.as_str(), "");
    }
}
