//! What a message has by name: data, state, approvals, and the usage and metadata.

use serde_json::{Map, Value, json};

use super::{
    Approval, Fold, Message, Unusable, held, read,
    size::{entry_size, most, signed, size},
    state, whole_event,
};
use crate::{
    event::{EventKind, EventRecord},
    json::Fields,
};

impl Fold {
    pub(super) fn fold_approval(&mut self, record: &EventRecord) -> Result<bool, Unusable> {
        let fields = Fields::read(record.json())?;
        let id = fields.get::<String>("approval_id").flatten().ok_or("no `approval_id`")?;
        let event = Some(whole_event(record)?);
        let old = self.message.approvals.remove(&id);
        self.grow(-old.as_ref().map_or(0, |old| held::approval(&id, old)));
        let approval = if record.kind() == EventKind::ApprovalResolved {
            Approval { requested: old.and_then(|old| old.requested), resolved: event }
        } else {
            Approval { requested: event, resolved: None }
        };
        let bytes = held::approval(&id, &approval);
        Ok(self.keep(bytes, |message| drop(message.approvals.insert(id, approval))))
    }

    /// Takes a value in the place of one that is out already, if there is room.
    fn keep(&mut self, bytes: i64, put: impl FnOnce(&mut Message)) -> bool {
        let has_room = bytes <= signed(self.room());
        if has_room {
            put(&mut self.message);
            self.grow(bytes);
        }
        has_room
    }

    /// Numbers so far; those of an event that says `"cumulative": false` are added to them.
    pub(super) fn fold_usage(&mut self, record: &EventRecord) -> Result<bool, Unusable> {
        if most(record.json()) > self.room() {
            return Ok(false);
        }
        let mut new: Map<String, Value> = read(record.json())?;
        new.remove("type");
        let adds = new.remove("cumulative") == Some(Value::Bool(false));
        let grown = match &mut self.message.usage {
            Some(usage) if adds => {
                new.into_iter().map(|(key, value)| add(usage, key, value)).sum::<i64>()
            }
            usage => held::replace_usage(usage, new),
        };
        self.grow(grown);
        Ok(true)
    }

    pub(super) fn fold_data(&mut self, record: &EventRecord) -> Result<bool, Unusable> {
        let fields = Fields::read(record.json())?;
        let name = fields.get::<String>("name").flatten().unwrap_or_default();
        let event = whole_event(record)?;
        let old = self.message.data.remove(&name);
        self.grow(-old.map_or(0, |old| held::entry(&name, old.text().len())));
        let bytes = held::entry(&name, event.text().len());
        Ok(self.keep(bytes, |message| drop(message.data.insert(name, event))))
    }

    pub(super) fn fold_metadata(&mut self, record: &EventRecord) -> Result<bool, Unusable> {
        let fields = Fields::read(record.json())?;
        let new = fields.raw("metadata").ok_or("no `metadata`")?.get().as_bytes();
        if most(new) > self.room() {
            return Ok(false);
        }
        let new: Value = read(new)?;
        if !new.is_object() {
            return Err("`metadata` is not an object".into());
        }
        let grown = state::merge(&mut self.message.metadata, new);
        self.grow(grown);
        Ok(true)
    }

    /// A snapshot that has no room takes the old state along: that is no longer true.
    pub(super) fn fold_state(&mut self, record: &EventRecord) -> Result<bool, Unusable> {
        let fields = Fields::read(record.json())?;
        let name = fields.get::<String>("name").flatten().unwrap_or_default();
        if let Some(snapshot) = fields.raw("snapshot").map(|raw| raw.get().as_bytes()) {
            let old = self.message.state.remove(&name);
            self.grow(-old.map_or(0, |old| held::entry(&name, size(&old))));
            if most(snapshot) > self.room() {
                return Ok(false);
            }
            let new: Value = read(snapshot)?;
            let bytes = held::entry(&name, size(&new));
            return Ok(self.keep(bytes, |message| drop(message.state.insert(name, new))));
        }
        let patch = fields.raw("patch").ok_or("neither `snapshot` nor `patch`")?.get().as_bytes();
        if most(patch) > self.room() {
            return Err("there is no room for the patch".into());
        }
        self.patch_state(name, read(patch)?)
    }

    fn patch_state(&mut self, name: String, patch: Value) -> Result<bool, Unusable> {
        let mut fresh = json!({});
        let room = self.room();
        let state = self.message.state.get_mut(&name);
        let is_new = state.is_none();
        let meter = &mut state::Meter { work: &mut self.work, room };
        let applied = state::apply(state.unwrap_or(&mut fresh), patch, meter);
        let mut grown = applied.map_err(|error| Unusable(error.to_string()))?;
        if is_new {
            grown += held::entry(&name, size(&json!({})));
            self.message.state.insert(name, fresh);
        }
        self.grow(grown);
        Ok(true)
    }
}

/// Adds a number to the one of the same name; what is no number replaces. Gives by how many bytes
/// that grows.
fn add(usage: &mut Map<String, Value>, key: String, value: Value) -> i64 {
    let sum = match (usage.get(&key), &value) {
        (Some(Value::Number(old)), Value::Number(new)) => match (old.as_u64(), new.as_u64()) {
            (Some(old), Some(new)) => Some(json!(old.saturating_add(new))),
            _ => old.as_f64().zip(new.as_f64()).map(|(old, new)| json!(old + new)),
        },
        _ => None,
    };
    let value = sum.unwrap_or(value);
    let before = usage.get(&key).map_or(0, |old| signed(entry_size(&key, old)));
    let grown = signed(entry_size(&key, &value)) - before;
    usage.insert(key, value);
    grown
}
