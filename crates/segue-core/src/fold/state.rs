//! State by name: snapshots, merge patches (RFC 7386) and JSON patches (RFC 6902).
//!
//! Patches come from producers, so what they can build is bounded: by [`MAX_DEPTH`] levels, and by
//! [`MAX_COPIED`] bytes that `copy` may add in a run, for a few of those double a state each time.

use json_patch::{Patch, PatchOperation};
use serde_json::{Map, Value};

use crate::json::MAX_DEPTH;

/// The most bytes that the `copy` operations of all patches of a run may add.
pub(super) const MAX_COPIED: u64 = 64 << 20;

/// Why a patch was not applied. The state is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatchError {
    #[error("neither an object nor a list of operations")]
    Malformed,
    #[error("it does not fit the state")]
    DoesNotFit,
    #[error("it nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("its copies add more than {MAX_COPIED} bytes")]
    TooLarge,
}

/// Applies a patch whole or not at all. `copied` counts what copies have added.
pub(super) fn apply(state: &mut Value, patch: Value, copied: &mut u64) -> Result<(), PatchError> {
    if patch.is_object() {
        json_patch::merge(state, &patch);
        return Ok(());
    }
    let patch: Patch = serde_json::from_value(patch).map_err(|_| PatchError::Malformed)?;
    let misfit = |_| PatchError::DoesNotFit;
    if !moves(&patch) {
        patch.iter().try_for_each(|op| check(state, op, copied))?;
        return json_patch::patch(state, &patch).map_err(misfit);
    }
    let before = state.clone();
    let applied = patch.iter().try_for_each(|op| {
        check(state, op, copied)?;
        json_patch::patch(state, std::slice::from_ref(op)).map_err(misfit)
    });
    if applied.is_err() {
        *state = before;
    }
    applied
}

/// Whether what an operation adds depends on the ones before it, so that they are applied one by
/// one and a failure may leave a half. Without such operations a patch costs no copy of the state.
fn moves(patch: &Patch) -> bool {
    patch.iter().any(|op| matches!(op, PatchOperation::Move(_) | PatchOperation::Copy(_)))
}

fn check(state: &Value, op: &PatchOperation, copied: &mut u64) -> Result<(), PatchError> {
    let moved = |from: &str| state.pointer(from).ok_or(PatchError::DoesNotFit);
    let (path, value) = match op {
        PatchOperation::Add(add) => (add.path.as_str(), &add.value),
        PatchOperation::Replace(replace) => (replace.path.as_str(), &replace.value),
        PatchOperation::Move(op) => (op.path.as_str(), moved(op.from.as_str())?),
        PatchOperation::Copy(op) => {
            let value = moved(op.from.as_str())?;
            *copied = copied.saturating_add(size(value) as u64);
            (op.path.as_str(), value)
        }
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(()),
    };
    if *copied > MAX_COPIED {
        return Err(PatchError::TooLarge);
    }
    let place = path.matches('/').count();
    if place + depth(value) > MAX_DEPTH { Err(PatchError::TooDeep) } else { Ok(()) }
}

/// How many levels a value has. Its own are bounded, so the recursion is.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// About how many bytes a value takes.
pub(super) fn size(value: &Value) -> usize {
    let own = size_of::<Value>();
    own + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(fields) => fields_size(fields),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// About how many bytes an object's fields take.
pub(super) fn fields_size(fields: &Map<String, Value>) -> usize {
    fields.iter().map(|(key, value)| key.len() + size(value)).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(state: &Value, patch: Value) -> Result<Value, PatchError> {
        let mut next = state.clone();
        let applied = apply(&mut next, patch, &mut 0);
        if applied.is_err() {
            assert_eq!(&next, state, "all or nothing");
        }
        applied.map(|()| next)
    }

    #[test]
    fn an_object_is_a_merge_patch() {
        let state = json!({"a": 1, "b": {"c": 2}});
        let patch = json!({"a": null, "b": {"d": [3]}});
        assert_eq!(check(&state, patch), Ok(json!({"b": {"c": 2, "d": [3]}})));
    }

    #[test]
    fn a_list_is_a_json_patch_whole_or_not_at_all() {
        let state = json!({"list": [1]});
        let add = json!({"op": "add", "path": "/list/-", "value": 2});
        let copy = json!({"op": "copy", "from": "/list", "path": "/twin"});
        let bad = json!({"op": "remove", "path": "/nothing"});
        let both = json!({"list": [1, 2], "twin": [1, 2]});
        assert_eq!(check(&state, json!([add, copy])), Ok(both));
        assert_eq!(check(&state, json!([add, copy, bad])), Err(PatchError::DoesNotFit));
        assert_eq!(check(&state, json!([bad])), Err(PatchError::DoesNotFit));
        assert_eq!(check(&state, json!([{"op": "grow"}])), Err(PatchError::Malformed));
        assert_eq!(check(&state, json!("x")), Err(PatchError::Malformed));
    }

    #[test]
    fn patches_cannot_build_without_a_bound() {
        let mut state = json!({"a": {}});
        let mut copied = 0;
        let double = json!([{"op": "copy", "from": "/a", "path": "/a/b"}]);
        let deepened = (0..=MAX_DEPTH)
            .map(|_| apply(&mut state, double.clone(), &mut copied))
            .find_map(Result::err);
        assert_eq!(deepened, Some(PatchError::TooDeep));
        let mut state = json!({"a": ["x".repeat(1 << 16)]});
        let double = json!([{"op": "copy", "from": "/a", "path": "/a/-"}]);
        let grown = (0..64).find_map(|_| apply(&mut state, double.clone(), &mut copied).err());
        assert!(matches!(grown, Some(PatchError::TooLarge | PatchError::TooDeep)));
        assert!((size(&state) as u64) < 2 * MAX_COPIED);
    }
}
