//! A message's parts, in order, any of which can go at once.

use std::{borrow::Cow, collections::BTreeMap, ops::Index};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::part::Part;

/// A part's place, for as long as it is there. Its order is that of the parts.
pub(super) type Place = u64;

/// The parts of a message, in the order in which they began. As JSON a list.
#[derive(Clone, Debug, Default)]
pub struct PartList {
    parts: BTreeMap<Place, Part>,
    next: Place,
    /// What the parts take in memory, about.
    cost: usize,
}

impl PartList {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Part> {
        self.parts.values()
    }

    /// What is said as text, in order, without what was thought.
    pub fn texts(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.iter().filter_map(Part::text)
    }

    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    pub(super) fn places(&self) -> impl Iterator<Item = (Place, &Part)> {
        self.parts.iter().map(|(place, part)| (*place, part))
    }

    pub(super) fn get(&self, place: Place) -> Option<&Part> {
        self.parts.get(&place)
    }

    pub(super) fn push(&mut self, part: Part) -> Place {
        let place = self.next;
        self.next += 1;
        self.cost += part.cost();
        self.parts.insert(place, part);
        place
    }

    /// Changes a part, if it is there.
    pub(super) fn edit<T>(
        &mut self,
        place: Place,
        change: impl FnOnce(&mut Part) -> T,
    ) -> Option<T> {
        let part = self.parts.get_mut(&place)?;
        self.cost -= part.cost();
        let done = change(part);
        self.cost += part.cost();
        Some(done)
    }

    pub(super) fn remove(&mut self, place: Place) -> Option<Part> {
        let part = self.parts.remove(&place)?;
        self.cost -= part.cost();
        Some(part)
    }
}

/// The part that stands at a position. Costs the position; panics if there are not so many.
impl Index<usize> for PartList {
    type Output = Part;

    fn index(&self, at: usize) -> &Part {
        self.iter().nth(at).expect("the message has so many parts")
    }
}

impl<'a> IntoIterator for &'a PartList {
    type Item = &'a Part;
    type IntoIter = std::collections::btree_map::Values<'a, Place, Part>;

    fn into_iter(self) -> Self::IntoIter {
        self.parts.values()
    }
}

impl FromIterator<Part> for PartList {
    fn from_iter<I: IntoIterator<Item = Part>>(parts: I) -> Self {
        let mut list = Self::default();
        for part in parts {
            list.push(part);
        }
        list
    }
}

impl PartialEq for PartList {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Serialize for PartList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

impl<'de> Deserialize<'de> for PartList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Part>::deserialize(deserializer)?.into_iter().collect())
    }
}
