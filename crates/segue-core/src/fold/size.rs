//! What values take in memory.

use serde_json::{Map, Value};

/// What an object takes for an entry beside its key's text and its value, about.
pub(super) const ENTRY: usize = 48;

/// How many levels a value has. Its own are bounded, so the recursion is.
pub(super) fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// About how many bytes a value takes in memory.
pub(super) fn size(value: &Value) -> usize {
    let mut unspent = usize::MAX;
    spend(value, &mut unspent);
    usize::MAX - unspent
}

/// Whether a value takes at most `most` bytes. Looks at no more of it.
pub(super) fn fits(value: &Value, mut most: usize) -> bool {
    spend(value, &mut most)
}

/// Takes a value's size off `unspent`; false, and nothing is left, if that does not suffice.
pub(super) fn spend(value: &Value, unspent: &mut usize) -> bool {
    let own = size_of::<Value>() + value.as_str().map_or(0, str::len);
    pay(own, unspent)
        && match value {
            Value::Array(items) => items.iter().all(|item| spend(item, unspent)),
            Value::Object(fields) => fields
                .iter()
                .all(|(key, value)| pay(ENTRY + key.len(), unspent) && spend(value, unspent)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        }
}

fn pay(bytes: usize, unspent: &mut usize) -> bool {
    let left = unspent.checked_sub(bytes);
    *unspent = left.unwrap_or(0);
    left.is_some()
}

/// About how many bytes an entry of an object takes.
pub(super) fn entry_size(key: &str, value: &Value) -> usize {
    ENTRY + key.len() + size(value)
}

/// About how many bytes an object's fields take.
pub(super) fn fields_size(fields: &Map<String, Value>) -> usize {
    fields.iter().map(|(key, value)| entry_size(key, value)).sum()
}

/// The most that the values of a JSON text can take, without reading it.
pub(super) fn most(json: &[u8]) -> usize {
    let values = 1 + memchr::memchr3_iter(b'[', b'{', b',', json).count();
    json.len() + values * (size_of::<Value>() + ENTRY)
}

/// A size as a difference. Sizes are of memory, so that they fit.
pub(super) fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
