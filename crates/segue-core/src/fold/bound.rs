//! A tool call's arguments, bounded: whatever a model wrote, a client can read it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::value::Json;

/// How much of a tool call's arguments a snapshot has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgumentLimits {
    /// Levels of arrays and objects. What is deeper is null.
    pub depth: usize,
    /// Entries of all arrays and objects together. The others are left out.
    pub items: usize,
    /// Bytes of a string. The rest is cut off.
    pub string: usize,
    /// Bytes of all strings and keys together, and one for each entry.
    pub bytes: usize,
}

impl Default for ArgumentLimits {
    fn default() -> Self {
        Self { depth: 32, items: 4096, string: 64 << 10, bytes: 256 << 10 }
    }
}

/// The arguments within their limits; `None` if they are as they stand.
pub(super) fn bound(json: &Json, limits: &ArgumentLimits) -> Option<Json> {
    if is_small(json.text(), limits) {
        return None;
    }
    let mut left = Left { limits, items: limits.items, bytes: limits.bytes, cut: false };
    let mut reader = serde_json::Deserializer::from_str(json.text());
    let node = Node { left: &mut left, depth: 0 };
    // A number that 64 bits cannot hold, so that nothing of it is shown.
    let value = node.deserialize(&mut reader).unwrap_or(Value::Null);
    let cut = left.cut || value.is_null();
    cut.then(|| Json::parse(&value.to_string())).flatten()
}

/// The common case, without reading it: no limit can be reached.
fn is_small(text: &str, limits: &ArgumentLimits) -> bool {
    let structure = memchr::memchr3_iter(b'[', b'{', b',', text.as_bytes()).count();
    structure < limits.depth.min(limits.items) && text.len() < limits.string.min(limits.bytes)
}

struct Left<'a> {
    limits: &'a ArgumentLimits,
    items: usize,
    bytes: usize,
    cut: bool,
}

impl Left<'_> {
    /// Takes as much of a text as there is room for.
    fn text<'t>(&mut self, text: &'t str) -> &'t str {
        let end = text.floor_char_boundary(text.len().min(self.limits.string).min(self.bytes));
        self.cut |= end < text.len();
        self.bytes -= end;
        &text[..end]
    }

    /// Takes room for an entry.
    fn item(&mut self) -> bool {
        let fits = self.items > 0 && self.bytes > 0;
        self.items = self.items.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(1);
        self.cut |= !fits;
        fits
    }
}

/// Reads a value as far as there is room. What is left out is passed over without recursion.
struct Node<'a, 'l> {
    left: &'a mut Left<'l>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(self.left.text(value).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let depth = self.depth + 1;
        let mut items = Vec::new();
        let fits = depth <= self.left.limits.depth;
        self.left.cut |= !fits;
        while fits && self.left.item() {
            match seq.next_element_seed(Node { left: self.left, depth })? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(if fits { Value::Array(items) } else { Value::Null })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let depth = self.depth + 1;
        let mut fields = Map::new();
        let fits = depth <= self.left.limits.depth;
        self.left.cut |= !fits;
        while fits && self.left.item() {
            let Some(key) = map.next_key::<String>()? else { return Ok(Value::Object(fields)) };
            let key = self.left.text(&key).to_owned();
            fields.insert(key, map.next_value_seed(Node { left: self.left, depth })?);
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(if fits { Value::Object(fields) } else { Value::Null })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const TIGHT: ArgumentLimits = ArgumentLimits { depth: 3, items: 6, string: 8, bytes: 40 };

    fn check(text: &str) -> Option<Value> {
        let bounded = bound(&Json::parse(text).expect("JSON"), &TIGHT);
        bounded.map(|json| serde_json::from_str(json.text()).expect("JSON"))
    }

    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    #[test]
    fn h15_arguments_within_their_limits_stay_as_they_are() {
        for text in ["1e999", "{}", r#"{"a":[1.50,"x"]}"#, r#""12345678""#, "[[[]]]"] {
            assert_eq!(check(text), None, "{text}");
        }
    }

    #[test]
    fn h15_arguments_are_bounded_in_depth_items_strings_and_size() {
        assert_eq!(check("[[[[1]]],2]"), Some(json!([[[null]], 2])));
        assert_eq!(check("[1,2,3,4,5,6,7,8]"), Some(json!([1, 2, 3, 4, 5, 6])));
        assert_eq!(check(r#"{"k":"éééééééé"}"#), Some(json!({"k": "éééé"})));
        let wide = format!(r#"["{0}","{0}","{0}","{0}","{0}","{0}"]"#, "x".repeat(8));
        let kept = check(&wide).expect("cut");
        assert!(kept.to_string().len() < 80 && kept.as_array().is_some_and(|list| list.len() == 5));
        assert_eq!(check("[1,[1e999],3,4]"), Some(Value::Null));
    }

    #[test]
    fn h15_no_depth_overflows_a_stack() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        let json = Json::parse(&deep(1_000_000)).expect("JSON");
        let bounded = bound(&json, &ArgumentLimits::default()).expect("cut");
        assert!(bounded.text().len() < 100);
    }

    proptest! {
        #[test]
        fn h15_whatever_comes_the_limits_hold(
            leaf in "[a-z\"\\\\é]{0,12}",
            shape in prop::collection::vec(0..3_u8, 0..40),
        ) {
            let mut value = json!(leaf);
            for step in shape {
                value = match step {
                    0 => json!([value, 1]),
                    1 => json!({ leaf.clone(): value }),
                    _ => json!([leaf, value, {}]),
                };
            }
            let json = Json::parse(&value.to_string()).expect("JSON");
            if let Some(bounded) = bound(&json, &TIGHT) {
                let bounded: Value = serde_json::from_str(bounded.text()).expect("JSON");
                prop_assert!(depth(&bounded) <= TIGHT.depth);
                prop_assert!(bounded.to_string().len() <= 4 * (TIGHT.bytes + TIGHT.items));
            } else {
                prop_assert!(depth(&value) <= TIGHT.depth);
            }
        }
    }
}
