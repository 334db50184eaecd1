//! What runs say laid over the rows of their messages, and messages that several runs make.

use segue_core::{Seq, TenantId, fold::Message};
use segue_journal::{
    StreamKey,
    views::{Compare, Select, Value as Cell, ViewError},
};
use serde_json::{Map, Value};

use crate::{
    engine::Engine,
    projection::{MESSAGES, message::StoredMessage, rows},
    query::MAX_LIMIT,
};

impl Engine {
    /// The messages of which these are the rows: as they are by now, with all of their pieces.
    pub(super) async fn as_they_are(
        &self,
        tenant: &TenantId,
        firsts: Vec<StoredMessage>,
    ) -> Result<Vec<Message>, ViewError> {
        let mut pieces = Vec::with_capacity(firsts.len());
        for (at, first) in firsts.into_iter().enumerate() {
            let later = if first.is_of_run() { self.later(tenant, &first)? } else { Vec::new() };
            pieces.push((at, first.message));
            pieces.extend(later.into_iter().map(|message| (at, message)));
        }
        self.lay_over(tenant, &mut pieces).await?;
        let (mut messages, mut last) = (Vec::<Message>::new(), None);
        for (at, piece) in pieces {
            match messages.last_mut().filter(|_| last == Some(at)) {
                Some(message) => append(message, piece),
                None => messages.push(piece),
            }
            last = Some(at);
        }
        Ok(messages)
    }

    /// What other runs have said of the message after its first one, in order.
    fn later(&self, tenant: &TenantId, first: &StoredMessage) -> Result<Vec<Message>, ViewError> {
        let key = Cell::Text(rows::key(tenant, first.message.id.as_str()));
        let rows = self.inner.views.select(&Select {
            table: MESSAGES,
            filter: vec![("continues", Compare::Eq, key)],
            phrases: Vec::new(),
            order_by: "place",
            descending: false,
            after: None,
            limit: MAX_LIMIT,
        })?;
        let is_superseded = first.message.superseded_by.is_some();
        let stays = |piece: &Message| is_superseded || piece.superseded_by.is_none();
        let pieces = rows.iter().filter_map(StoredMessage::of).map(|stored| stored.message);
        Ok(pieces.filter(stays).collect())
    }

    /// A row without an end may be behind: what its run has said by now is laid over it.
    async fn lay_over(
        &self,
        tenant: &TenantId,
        pieces: &mut [(usize, Message)],
    ) -> Result<(), ViewError> {
        let is_open = |message: &Message| message.is_of_run() && !message.status.is_terminal();
        let pieces = pieces.iter_mut().map(|(_, message)| message);
        let open: Vec<&mut Message> = pieces.filter(|message| is_open(message)).collect();
        if open.is_empty() {
            return Ok(());
        }
        let runs = open.iter().filter_map(|message| message.run_id.as_ref());
        let runs = runs.map(|run| StreamKey::run(tenant, run)).collect();
        for (message, said) in open.into_iter().zip(self.says_now(runs).await?) {
            if let Some(said) = said {
                let stored = std::mem::replace(message, said);
                message.id = stored.id;
                message.session_id = stored.session_id;
                message.superseded_by = stored.superseded_by;
                message.is_summary = stored.is_summary;
            }
        }
        Ok(())
    }
}

/// The message goes on with what another run says of it. Versions count the events of all of its
/// runs, so that they only rise.
fn append(message: &mut Message, piece: Message) {
    message.run_id = piece.run_id;
    message.status = piece.status;
    message.version = Seq(message.version.0.saturating_add(piece.version.0));
    message.parts = message.parts.iter().chain(&piece.parts).cloned().collect();
    message.data.extend(piece.data);
    message.state.extend(piece.state);
    message.approvals.extend(piece.approvals);
    if let Some(usage) = piece.usage {
        add(message.usage.get_or_insert_default(), usage);
    }
    if let (Value::Object(metadata), Value::Object(more)) = (&mut message.metadata, piece.metadata)
    {
        metadata.extend(more);
    }
    message.updated_at = message.updated_at.max(piece.updated_at);
}

/// Numbers are summed, of anything else the later one counts.
fn add(usage: &mut Map<String, Value>, more: Map<String, Value>) {
    for (name, value) in more {
        let sum = match (usage.get(&name), &value) {
            (Some(Value::Number(before)), Value::Number(now)) => sum(before, now),
            _ => None,
        };
        usage.insert(name, sum.unwrap_or(value));
    }
}

fn sum(before: &serde_json::Number, now: &serde_json::Number) -> Option<Value> {
    let whole = before.as_u64().zip(now.as_u64()).and_then(|(a, b)| a.checked_add(b));
    whole.map(Value::from).or_else(|| Some((before.as_f64()? + now.as_f64()?).into()))
}

#[cfg(test)]
mod tests {
    use segue_core::{RunId, fold::MessageStatus};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_goes_on_with_the_later_run() {
        let run = |id: &str| RunId::parse(id).expect("valid");
        let of = |id: &str, version, usage: Value| Message {
            usage: usage.as_object().cloned(),
            metadata: json!({id: version, "both": id}),
            parts: serde_json::from_value(json!([{"type": "text", "text": id}])).expect("parts"),
            ..Message::of_run(&run(id), Seq(version))
        };
        let mut message = of("a", 3, json!({"input": 1, "cost": 0.5, "model": "x"}));
        let id = message.id.clone();
        let end = of("b", 2, json!({"input": 2, "cost": 1, "model": "y", "output": 7}));
        append(&mut message, Message { status: MessageStatus::Complete, ..end });
        let shown = serde_json::to_value(&message).expect("JSON");
        assert_eq!((message.id, message.version), (id, Seq(5)));
        assert_eq!((&shown["run_id"], &shown["status"]), (&json!("b"), &json!("complete")));
        let usage = json!({"input": 3, "cost": 1.5, "model": "y", "output": 7});
        assert_eq!(shown["usage"], usage);
        assert_eq!(shown["metadata"], json!({"a": 3, "b": 2, "both": "b"}));
        assert_eq!(shown["parts"].as_array().expect("a list").len(), 2);
    }
}
