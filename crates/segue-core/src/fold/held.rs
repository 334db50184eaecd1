//! What a fold holds beside its parts.

use serde_json::{Map, Value};

use super::{
    Approval, Json, Message,
    size::{fields_size, signed, size},
};

/// What a map takes for an entry beside its name and its value, about.
const ENTRY: usize = 96;

/// All of it, anew.
pub(super) fn of(message: &Message, steps: &[String]) -> usize {
    let data = message.data.iter().map(|(name, json)| entry(name, json.text().len()));
    let state = message.state.iter().map(|(name, value)| entry(name, size(value)));
    let approvals = message.approvals.iter().map(|(id, both)| approval(id, both));
    let steps = steps.iter().map(|step| entry(step, 0));
    let named: i64 = data.chain(state).chain(approvals).chain(steps).sum();
    let usage = message.usage.as_ref().map_or(0, fields_size);
    usize::try_from(named).unwrap_or(0) + usage + size(&message.metadata)
}

/// A value by name.
pub(super) fn entry(name: &str, bytes: usize) -> i64 {
    signed(ENTRY + name.len() + bytes)
}

pub(super) fn approval(id: &str, approval: &Approval) -> i64 {
    let len = |json: &Option<Json>| json.as_ref().map_or(0, |json| json.text().len());
    entry(id, len(&approval.requested) + len(&approval.resolved))
}

/// Puts numbers in the place of older ones. Gives by how many bytes they are more.
pub(super) fn replace_usage(
    usage: &mut Option<Map<String, Value>>,
    new: Map<String, Value>,
) -> i64 {
    let bytes = |usage: Option<&Map<String, Value>>| signed(usage.map_or(0, fields_size));
    let before = bytes(usage.as_ref());
    let grown = bytes(Some(&new)) - before;
    *usage = Some(new);
    grown
}
