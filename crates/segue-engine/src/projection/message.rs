//! The table of messages, and how its rows become what clients see.

use std::collections::BTreeMap;

use segue_core::{
    MessageId, RunId, Seq, SessionId, TenantId,
    fold::{Approval, Json, Message, MessageStatus, PartList, Role},
};
use segue_journal::views::{Change, Row, Table, Value as Cell};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rows::{
    count, count_of, int, json, key, of_json, of_word, text, text_of, time, time_of, word,
};

/// The table of messages.
pub(crate) const MESSAGES: &str = "messages";

/// A row a message. `place` orders a session's messages: the seq of the record of its stream that
/// made the message, so that no clock does. `named` has its data, states and approvals as JSON.
/// `fold` says up to where of its run's stream the row is folded, null before and of a message that
/// no run makes; with the other cells it is the whole [`Fold`](segue_core::Fold). A message that
/// several runs make has a row for each: `continues` of all but the first has the key of that one.
pub(super) const TABLE: Table = Table {
    name: MESSAGES,
    columns: &[
        text("key"),
        text("tenant"),
        text("id"),
        text("session_id"),
        text("run_id"),
        text("role"),
        text("status"),
        int("place"),
        int("version"),
        text("superseded_by"),
        int("is_summary"),
        text("parts"),
        text("named"),
        text("usage"),
        text("metadata"),
        int("created_at"),
        int("updated_at"),
        text("fold"),
        text("continues"),
    ],
    indexes: &[
        &["tenant", "session_id", "place"],
        &["tenant", "session_id", "status"],
        &["tenant", "role", "created_at"],
        &["continues", "place"],
    ],
    is_searched: true,
};

/// A longer text is found by its first words only.
const SEARCHED_BYTES: usize = 1 << 20;

const PLACE: usize = 7;
const CREATED_AT: usize = 15;
const CONTINUES: usize = 18;

/// A message's row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredMessage {
    pub(crate) message: Message,
    /// Where it stands in its session.
    pub(crate) place: Seq,
    /// Of a message that a run makes: up to where.
    pub(crate) fold: Option<String>,
    /// The message of which it is a later piece, made by another run.
    pub(crate) continues: Option<MessageId>,
}

/// What a message has by name.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Named {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    data: BTreeMap<String, Json>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    state: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    approvals: BTreeMap<String, Approval>,
}

impl Named {
    fn is_empty(&self) -> bool {
        self.data.is_empty() && self.state.is_empty() && self.approvals.is_empty()
    }
}

impl StoredMessage {
    /// Whether a run makes it.
    pub(crate) fn is_of_run(&self) -> bool {
        self.message.is_of_run()
    }

    pub(crate) fn of(row: &Row) -> Option<Self> {
        let named: Named = of_json(&row[12]).unwrap_or_default();
        let id = |at: usize| text_of(row.get(at)?);
        let message = Message {
            id: MessageId::parse(id(2)?).ok()?,
            session_id: Some(SessionId::parse(id(3)?).ok()?),
            run_id: id(4).and_then(|id| RunId::parse(id).ok()),
            role: Role::parse(id(5)?)?,
            status: of_word::<MessageStatus>(&row[6])?,
            version: Seq(count_of(row.get(8))?),
            superseded_by: id(9).and_then(|id| MessageId::parse(id).ok()),
            is_summary: row.get(10) == Some(&Cell::Int(1)),
            parts: of_json::<PartList>(&row[11])?,
            data: named.data,
            state: named.state,
            approvals: named.approvals,
            usage: of_json(&row[13]),
            metadata: of_json(&row[14]).unwrap_or(Value::Null),
            created_at: time_of(&row[CREATED_AT])?,
            updated_at: time_of(&row[16])?,
        };
        let place = Seq(count_of(row.get(PLACE))?);
        let fold = id(17).map(str::to_owned);
        let continues = id(CONTINUES).and_then(|key| {
            let (_, id) = key.split_once('/')?;
            MessageId::parse(id).ok()
        });
        Some(Self { message, place, fold, continues })
    }

    pub(crate) fn row(&self, tenant: &TenantId) -> Row {
        let Self { message, place, fold, continues } = self;
        let text = |text: Option<&str>| text.map_or(Cell::Null, |text| Cell::Text(text.to_owned()));
        let mut row = vec![
            Cell::Text(key(tenant, message.id.as_str())),
            Cell::Text(tenant.to_string()),
            Cell::Text(message.id.to_string()),
            text(message.session_id.as_ref().map(SessionId::as_str)),
            text(message.run_id.as_ref().map(RunId::as_str)),
            word(Some(&message.role)),
            Cell::Null,
            count(place.0),
            Cell::Null,
            text(message.superseded_by.as_ref().map(MessageId::as_str)),
            Cell::Int(i64::from(message.is_summary)),
        ];
        row.resize(TABLE.columns.len(), Cell::Null);
        for (name, cell) in content(message) {
            let at = TABLE.columns.iter().position(|column| column.name == name);
            row[at.expect("content names columns of the table")] = cell;
        }
        row[17] = text(fold.as_deref());
        row[CONTINUES] = text(continues.as_ref().map(|id| key(tenant, id.as_str())).as_deref());
        row
    }
}

/// The cells that a message's own content fills: what a run's events change of it.
pub(super) fn content(message: &Message) -> Vec<(&'static str, Cell)> {
    let named = Named {
        data: message.data.clone(),
        state: message.state.clone(),
        approvals: message.approvals.clone(),
    };
    vec![
        ("status", word(Some(&message.status))),
        ("version", count(message.version.0)),
        ("parts", json(Some(&message.parts))),
        ("named", if named.is_empty() { Cell::Null } else { json(Some(&named)) }),
        ("usage", json(message.usage.as_ref())),
        ("metadata", json(Some(&message.metadata))),
        ("created_at", time(message.created_at)),
        ("updated_at", time(message.updated_at)),
    ]
}

/// The words by which a message is found: those of its text.
pub(super) fn index(key: Cell, message: &Message) -> Change {
    Change::Index { table: MESSAGES, key, text: text_of_message(message) }
}

/// What a message says, a line a part, as far as it is searched.
pub(crate) fn text_of_message(message: &Message) -> String {
    let mut text = String::new();
    for said in message.parts.texts() {
        let room = SEARCHED_BYTES.saturating_sub(text.len());
        text.push_str(&said[..said.floor_char_boundary(room)]);
        text.push('\n');
    }
    text
}

/// The place of a message's row among its session's.
pub(crate) fn place_of(row: &Row) -> Option<(Cell, Cell)> {
    Some((row.get(PLACE)?.clone(), row.first()?.clone()))
}

/// The place after `row` in a list, as clients carry it: `<cell>:<key>`.
pub(crate) fn page_after(row: &Row, by_place: bool) -> Option<String> {
    match (row.get(if by_place { PLACE } else { CREATED_AT })?, row.first()?) {
        (Cell::Int(at), Cell::Text(key)) => Some(format!("{at}:{key}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use segue_core::{EventRecord, Fold, Timestamp};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_is_its_message() {
        let run = RunId::parse("r").expect("valid");
        let mut fold = Fold::new(&run, Seq::FIRST);
        for (seq, event) in [
            json!({"type": "run.started", "session_id": "s", "message_id": "m"}),
            json!({"type": "text.delta", "part": "p", "text": "a\0'b"}),
            json!({"type": "data", "name": "n", "value": 1.5}),
            json!({"type": "state", "snapshot": {"x": 1}}),
            json!({"type": "approval.requested", "approval_id": "a"}),
            json!({"type": "usage", "input": 1}),
        ]
        .iter()
        .enumerate()
        {
            let record = EventRecord::encode(&segue_core::Event::build(event));
            let record = EventRecord::decode(record).expect("valid");
            let seq = Seq(seq as u64 + 1);
            fold.apply(seq, Timestamp::from_millis(seq.0), &record).expect("the next one");
        }
        let mut message = fold.message().clone();
        for (is_summary, superseded_by) in [(false, None), (true, Some(message.id.clone()))] {
            message = Message { is_summary, superseded_by, ..message };
            let fold = is_summary.then(|| "{}".to_owned());
            let continues = is_summary.then(|| MessageId::parse("m0").expect("valid"));
            let stored = StoredMessage { message: message.clone(), place: Seq(7), fold, continues };
            let row = stored.row(&TenantId::local());
            assert_eq!(row.len(), TABLE.columns.len());
            assert_eq!(StoredMessage::of(&row), Some(stored));
            assert_eq!(page_after(&row, true), Some("7:default/m".into()));
        }
    }
}
