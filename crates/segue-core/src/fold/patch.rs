//! JSON patches (RFC 6902), each whole or not at all.

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use super::{
    size::{ENTRY, depth, signed, size},
    state::{Meter, PatchError},
};
use crate::json::MAX_DEPTH;

/// A list of operations that is being applied.
pub(super) struct Patching<'s, 'm, 'w> {
    state: &'s mut Value,
    meter: &'m mut Meter<'w>,
    /// How to take back what was done, in order.
    undo: Vec<Undo>,
    /// By how much the state would have grown had nothing been taken out of it.
    grown: i64,
}

/// Takes one step back. Values that were taken out are here, so that they are neither copied nor
/// looked at unless the patch is applied.
enum Undo {
    /// A value was put where none was.
    Put(String),
    /// A value was put in place of this one.
    Swapped(String, Value),
    /// This value was taken away.
    Taken(String, Value),
    /// The value that the next step back takes out was here.
    Moved(String),
}

impl Undo {
    /// The size of what is no longer in the state.
    fn kept(&self) -> i64 {
        match self {
            Self::Put(_) | Self::Moved(_) => 0,
            Self::Swapped(_, old) | Self::Taken(_, old) => signed(size(old)),
        }
    }
}

impl<'s, 'm, 'w> Patching<'s, 'm, 'w> {
    pub(super) fn new(state: &'s mut Value, meter: &'m mut Meter<'w>) -> Self {
        Self { state, meter, undo: Vec::new(), grown: 0 }
    }

    /// Applies all operations or none. Gives by how many bytes the state has grown.
    pub(super) fn run(mut self, patch: Patch) -> Result<i64, PatchError> {
        match patch.0.into_iter().try_for_each(|op| self.apply(op)) {
            Ok(()) => Ok(self.grown - self.undo.iter().map(Undo::kept).sum::<i64>()),
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    fn apply(&mut self, op: PatchOperation) -> Result<(), PatchError> {
        match op {
            PatchOperation::Add(op) => self.add(op.path.as_str(), op.value),
            PatchOperation::Replace(op) => self.replace(op.path.as_str(), op.value),
            PatchOperation::Remove(op) => {
                let (path, old) = (op.path.as_str(), self.take(op.path.as_str())?);
                self.undo.push(Undo::Taken(path.to_owned(), old));
                Ok(())
            }
            PatchOperation::Move(op) => self.shift(op.from.as_str(), op.path.as_str()),
            PatchOperation::Copy(op) => {
                let value = self.state.pointer(op.from.as_str()).ok_or(PatchError::DoesNotFit)?;
                let bytes = self.meter.weigh(value)?;
                if self.grown + signed(bytes) > signed(self.meter.room) {
                    return Err(PatchError::TooLarge);
                }
                let value = value.clone();
                self.add(op.path.as_str(), value)
            }
            PatchOperation::Test(op) => match self.state.pointer(op.path.as_str()) {
                Some(value) if *value == op.value => Ok(()),
                _ => Err(PatchError::DoesNotFit),
            },
        }
    }

    /// What is put in was sent, or weighed.
    fn add(&mut self, path: &str, value: Value) -> Result<(), PatchError> {
        fits_depth(path, &value)?;
        let bytes = signed(size(&value));
        let undo = self.put(path, value).map_err(|(error, _)| error)?;
        self.grown += bytes;
        self.undo.push(undo);
        Ok(())
    }

    fn replace(&mut self, path: &str, value: Value) -> Result<(), PatchError> {
        fits_depth(path, &value)?;
        let place = self.state.pointer_mut(path).ok_or(PatchError::DoesNotFit)?;
        self.grown += signed(size(&value));
        let old = std::mem::replace(place, value);
        self.undo.push(Undo::Swapped(path.to_owned(), old));
        Ok(())
    }

    fn shift(&mut self, from: &str, path: &str) -> Result<(), PatchError> {
        let value = self.state.pointer(from).filter(|_| !from.is_empty());
        let value = value.ok_or(PatchError::DoesNotFit)?;
        self.meter.weigh(value)?;
        fits_depth(path, value)?;
        if path == from {
            return Ok(());
        }
        if path.strip_prefix(from).is_some_and(|rest| rest.starts_with('/')) {
            return Err(PatchError::DoesNotFit);
        }
        let value = self.take(from)?;
        self.undo.push(Undo::Moved(from.to_owned()));
        match self.put(path, value) {
            Ok(undo) => {
                self.undo.push(undo);
                Ok(())
            }
            Err((error, value)) => {
                self.undo.pop();
                self.undo.push(Undo::Taken(from.to_owned(), value));
                Err(error)
            }
        }
    }

    /// Puts a value in; gives it back if it has no place.
    fn put(&mut self, path: &str, value: Value) -> Result<Undo, (PatchError, Value)> {
        if path.is_empty() {
            return Ok(Undo::Swapped(String::new(), std::mem::replace(self.state, value)));
        }
        match place(self.state, path) {
            Some((Value::Object(fields), key)) => {
                let bytes = signed(ENTRY + key.len());
                Ok(match fields.insert(key, value) {
                    Some(old) => Undo::Swapped(path.to_owned(), old),
                    None => {
                        self.grown += bytes;
                        Undo::Put(path.to_owned())
                    }
                })
            }
            Some((Value::Array(items), key)) => {
                let end = items.len();
                let at = if key == "-" { Some(end) } else { index(&key) };
                let Some(at) = at.filter(|at| *at <= end) else {
                    return Err((PatchError::DoesNotFit, value));
                };
                if let Err(error) = self.meter.charge((end - at) * size_of::<Value>()) {
                    return Err((error, value));
                }
                items.insert(at, value);
                let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                Ok(Undo::Put(format!("{parent}/{at}")))
            }
            _ => Err((PatchError::DoesNotFit, value)),
        }
    }

    fn take(&mut self, path: &str) -> Result<Value, PatchError> {
        match place(self.state, path) {
            Some((Value::Object(fields), key)) => {
                let old = fields.remove(&key).ok_or(PatchError::DoesNotFit)?;
                self.grown -= signed(ENTRY + key.len());
                Ok(old)
            }
            Some((Value::Array(items), key)) => {
                let at = index(&key).filter(|at| *at < items.len());
                let at = at.ok_or(PatchError::DoesNotFit)?;
                self.meter.charge((items.len() - at) * size_of::<Value>())?;
                Ok(items.remove(at))
            }
            _ => Err(PatchError::DoesNotFit),
        }
    }

    /// Each step finds what the one that it takes back has left.
    fn roll_back(self) {
        let mut carried = Value::Null;
        for step in self.undo.into_iter().rev() {
            match step {
                Undo::Put(path) => carried = uninsert(self.state, &path).unwrap_or_default(),
                Undo::Swapped(path, old) => {
                    if let Some(place) = self.state.pointer_mut(&path) {
                        carried = std::mem::replace(place, old);
                    }
                }
                Undo::Taken(path, old) => reinsert(self.state, &path, old),
                Undo::Moved(path) => reinsert(self.state, &path, std::mem::take(&mut carried)),
            }
        }
    }
}

fn uninsert(state: &mut Value, path: &str) -> Option<Value> {
    match place(state, path)? {
        (Value::Object(fields), key) => fields.remove(&key),
        (Value::Array(items), key) => index(&key).map(|at| items.remove(at)),
        _ => None,
    }
}

fn reinsert(state: &mut Value, path: &str, value: Value) {
    match place(state, path) {
        Some((Value::Object(fields), key)) => drop(fields.insert(key, value)),
        Some((Value::Array(items), key)) => {
            if let Some(at) = index(&key) {
                items.insert(at, value);
            }
        }
        _ => {}
    }
}

/// What holds the value at `path`, and the key in it. `None` of the whole state.
fn place<'a>(state: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (parent, key) = path.rsplit_once('/')?;
    Some((state.pointer_mut(parent)?, key.replace("~1", "/").replace("~0", "~")))
}

/// A place in a list: no sign, and no zeros before it.
fn index(key: &str) -> Option<usize> {
    let is_plain = key == "0" || key.starts_with(|first: char| matches!(first, '1'..='9'));
    key.parse().ok().filter(|_| is_plain)
}

fn fits_depth(path: &str, value: &Value) -> Result<(), PatchError> {
    let place = path.matches('/').count();
    if place + depth(value) > MAX_DEPTH { Err(PatchError::TooDeep) } else { Ok(()) }
}
