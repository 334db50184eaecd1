//! State by name: snapshots, merge patches (RFC 7386) and JSON patches (RFC 6902).
//!
//! Patches come from producers, so what they can build is bounded by [`MAX_DEPTH`] levels and by
//! the room that the fold has, and what they can cost beside their own bytes by [`MAX_WORK`]: a
//! few bytes can shift a long list, or copy and move a large value, again and again.

use json_patch::Patch;
use serde_json::{Map, Value};

use super::{
    patch::Patching,
    size::{entry_size, signed, size, spend},
};
use crate::json::MAX_DEPTH;

/// The most bytes that all patches of a run may shift, copy and move.
pub(super) const MAX_WORK: u64 = 1 << 30;

/// Why a patch was not applied. The state is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatchError {
    #[error("neither an object nor a list of operations")]
    Malformed,
    #[error("it does not fit the state")]
    DoesNotFit,
    #[error("it nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("its copies have no room")]
    TooLarge,
    #[error("the run's patches cost more than {MAX_WORK} bytes of work")]
    TooMuchWork,
}

/// What patches have cost and may take.
pub(super) struct Meter<'a> {
    /// Bytes shifted, copied and moved by all patches so far, whether they were applied or not.
    pub(super) work: &'a mut u64,
    /// How many bytes copies may add.
    pub(super) room: usize,
}

impl Meter<'_> {
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), PatchError> {
        let work = self.work.saturating_add(bytes as u64);
        if work > MAX_WORK {
            return Err(PatchError::TooMuchWork);
        }
        *self.work = work;
        Ok(())
    }

    /// The size of a value that is moved or copied. Looks at no more of it than is paid for.
    pub(super) fn weigh(&mut self, value: &Value) -> Result<usize, PatchError> {
        let left = usize::try_from(MAX_WORK - *self.work).unwrap_or(usize::MAX);
        let mut unspent = left;
        let measured = spend(value, &mut unspent);
        let bytes = left - unspent;
        self.charge(bytes)?;
        if measured { Ok(bytes) } else { Err(PatchError::TooMuchWork) }
    }
}

/// Applies a patch whole or not at all. Gives by how many bytes the state's [`size`] has grown.
pub(super) fn apply(
    state: &mut Value,
    patch: Value,
    meter: &mut Meter<'_>,
) -> Result<i64, PatchError> {
    if patch.is_object() {
        return Ok(merge(state, patch));
    }
    let patch: Patch = serde_json::from_value(patch).map_err(|_| PatchError::Malformed)?;
    Patching::new(state, meter).run(patch)
}

/// A merge patch. Gives by how many bytes the target has grown.
pub(super) fn merge(target: &mut Value, patch: Value) -> i64 {
    let Value::Object(fields) = patch else {
        let grown = signed(size(&patch)) - signed(size(target));
        *target = patch;
        return grown;
    };
    let mut grown = 0;
    if !target.is_object() {
        grown -= signed(size(target)) - signed(size_of::<Value>());
        *target = Value::Object(Map::new());
    }
    let Value::Object(own) = target else { return grown };
    for (key, value) in fields {
        if value.is_null() {
            grown -= own.remove(&key).map_or(0, |old| signed(entry_size(&key, &old)));
            continue;
        }
        let is_new = !own.contains_key(&key);
        grown += if is_new { signed(entry_size(&key, &Value::Null)) } else { 0 };
        grown += merge(own.entry(key).or_insert(Value::Null), value);
    }
    grown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const ROOM: usize = 1 << 24;

    /// Applies, and checks that the growth is told and a refusal changes nothing.
    fn go_on(state: &mut Value, patch: Value, work: &mut u64) -> Result<(), PatchError> {
        let before = state.clone();
        match apply(state, patch, &mut Meter { work, room: ROOM }) {
            Ok(grown) => {
                assert_eq!(grown, signed(size(state)) - signed(size(&before)));
                Ok(())
            }
            Err(error) => {
                assert_eq!(*state, before, "all or nothing");
                Err(error)
            }
        }
    }

    fn check(state: &Value, patch: Value) -> Result<Value, PatchError> {
        let mut next = state.clone();
        go_on(&mut next, patch, &mut 0).map(|()| next)
    }

    #[test]
    fn an_object_is_a_merge_patch() {
        let state = json!({"a": 1, "b": {"c": 2}});
        let patch = json!({"a": null, "b": {"d": [3]}});
        assert_eq!(check(&state, patch), Ok(json!({"b": {"c": 2, "d": [3]}})));
        assert_eq!(check(&state, json!({"b": 1, "a": {"x": null}})), Ok(json!({"a": {}, "b": 1})));
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
        let mut work = 0;
        let double = json!([{"op": "copy", "from": "/a", "path": "/a/b"}]);
        let deepened = (0..=MAX_DEPTH)
            .map(|_| go_on(&mut state, double.clone(), &mut work))
            .find_map(Result::err);
        assert_eq!(deepened, Some(PatchError::TooDeep));
        let mut state = json!({"a": ["x".repeat(1 << 16)]});
        let double = json!([
            {"op": "copy", "from": "/a/0", "path": "/a/-"},
            {"op": "copy", "from": "/a", "path": "/b"},
            {"op": "move", "from": "/b", "path": "/c"},
        ]);
        let grown = (0..1 << 20).find_map(|_| go_on(&mut state, double.clone(), &mut work).err());
        assert!(matches!(grown, Some(PatchError::TooLarge | PatchError::TooMuchWork)));
        assert!(work <= MAX_WORK && size(&state) < 4 * ROOM);
    }

    #[test]
    fn what_shifts_moves_and_copies_is_charged_and_nothing_else() {
        let long = vec![json!(0); 100_000];
        let mut state = json!({"a": long, "deep": {"b": 1}});
        let cost = |state: &mut Value, op: Value| {
            let mut work = 0;
            go_on(state, json!([op]), &mut work).expect("fits");
            usize::try_from(work).expect("small")
        };
        let shift = 100_000 * size_of::<Value>();
        let front = json!({"op": "add", "path": "/a/0", "value": 1});
        assert_eq!(cost(&mut state, front), shift);
        assert!(cost(&mut state, json!({"op": "remove", "path": "/a/0"})) >= shift);
        assert!(cost(&mut state, json!({"op": "move", "from": "/a", "path": "/b"})) >= shift);
        assert!(cost(&mut state, json!({"op": "copy", "from": "/b", "path": "/c"})) >= shift);
        let small = json!({"op": "move", "from": "/deep/b", "path": "/deep/c"});
        assert_eq!(cost(&mut state, small), size_of::<Value>(), "not what the state has");
        for free in [
            json!({"op": "add", "path": "/b/-", "value": [1]}),
            json!({"op": "replace", "path": "/b/0", "value": {"x": 1}}),
            json!({"op": "test", "path": "/b/0", "value": {"x": 1}}),
            json!({"op": "remove", "path": "/c"}),
        ] {
            assert_eq!(cost(&mut state, free), 0);
        }
    }

    #[test]
    fn once_all_work_is_spent_what_costs_none_is_still_applied() {
        let mut state = json!({"a": vec![0; 1000], "b": 1});
        let mut work = MAX_WORK - 100;
        for costly in [
            json!({"op": "copy", "from": "/a", "path": "/c"}),
            json!({"op": "move", "from": "/a", "path": "/c"}),
            json!({"op": "add", "path": "/a/0", "value": 1}),
            json!({"op": "remove", "path": "/a/0"}),
        ] {
            let patch = json!([{"op": "replace", "path": "/b", "value": 2}, costly]);
            assert_eq!(go_on(&mut state, patch, &mut work), Err(PatchError::TooMuchWork));
        }
        assert!(work <= MAX_WORK);
        let plain = json!([
            {"op": "add", "path": "/a/-", "value": 1},
            {"op": "replace", "path": "/b", "value": 2},
            {"op": "remove", "path": "/b"},
        ]);
        assert_eq!(go_on(&mut state, plain, &mut work), Ok(()));
    }

    fn any_op() -> impl Strategy<Value = Value> {
        let paths = vec!["", "/a", "/a/0", "/a/1", "/a/-", "/a/01", "/b", "/b/c", "/b/~1~0", "/n"];
        let path = || prop::sample::select(paths.clone());
        let values = vec![json!(1), json!([]), json!({"c": [1]}), json!([1, 2]), json!("x")];
        (0..6_u8, path(), path(), prop::sample::select(values)).prop_map(
            |(kind, path, from, value)| match kind {
                0 | 1 => json!({"op": "add", "path": path, "value": value}),
                2 => json!({"op": "remove", "path": path}),
                3 => json!({"op": "replace", "path": path, "value": value}),
                4 => json!({"op": "copy", "from": from, "path": path}),
                _ => json!({"op": "move", "from": from, "path": path}),
            },
        )
    }

    proptest! {
        /// As another implementation does it, and whatever happens with its growth told.
        #[test]
        fn patches_do_what_the_rfc_says(ops in prop::collection::vec(any_op(), 0..8)) {
            let mut state = json!({"a": [1, 2, 3], "b": {"c": [1], "/~": 2}});
            let mut expect = state.clone();
            let patch: Patch = serde_json::from_value(json!(ops)).expect("well-formed");
            let end = |op: &Value| op["from"] == "/a/-";
            prop_assume!(!ops.iter().any(end));
            let applied = go_on(&mut state, json!(ops), &mut 0);
            // One by one: it does not always find the way back from several.
            let one = |op| json_patch::patch(&mut expect, std::slice::from_ref(op));
            match patch.iter().try_for_each(one) {
                Ok(()) => prop_assert_eq!((applied, &state), (Ok(()), &expect)),
                Err(_) => prop_assert!(applied.is_err()),
            }
        }
    }
}
