//! The conversation that a run's source is told.

use segue_core::{Conversation, Seq, fold::said::brings_history};
use segue_journal::views::{Compare, Select, Value as Cell, ViewError};
use serde_json::Value;

use crate::{
    engine::Engine,
    projection::{
        MESSAGES,
        message::{StoredMessage, place_of},
        rows,
    },
    run::RunFacts,
};

/// How many messages are read at once; each may be large.
const AT_ONCE: usize = 16;
/// How many messages of the system are told.
const MOST_SYSTEM: usize = 100;

impl Engine {
    /// What was said before the run, of at most so many bytes: the messages that stand before its
    /// own in the session and are whole by now, without those of its own input. Each is told as its
    /// runs have made it, piece by piece, so that what a client has answered to a tool call stands
    /// where it did.
    pub(crate) async fn history(
        &self,
        run: &RunFacts,
        input: &Value,
        budget: usize,
    ) -> Result<Vec<Value>, ViewError> {
        if budget == 0 || brings_history(input) {
            return Ok(Vec::new());
        }
        self.views_ended().await?;
        let before = self.place_of_run(run)?;
        let mut conversation = Conversation::new(budget, input);
        let mut query = select(run, before);
        while conversation.wants_more() {
            let rows = self.inner.views.select(&query)?;
            let stored = rows.iter().filter_map(StoredMessage::of);
            for stored in stored.filter(|stored| !is_input_of(stored, run)) {
                conversation.add_older(&stored.message);
            }
            match rows.last() {
                Some(last) if rows.len() == AT_ONCE => query.after = place_of(last),
                Some(_) | None => break,
            }
        }
        let mut of_system = select(run, before);
        of_system.filter.push(("role", Compare::Eq, Cell::Text("system".to_owned())));
        let of_system = Select { descending: false, limit: MOST_SYSTEM, ..of_system };
        let system = self.inner.views.select(&of_system)?;
        let system = system.iter().filter_map(StoredMessage::of);
        let system: Vec<_> = system.filter(|stored| !is_input_of(stored, run)).collect();
        Ok(conversation.finish(system.iter().map(|stored| &stored.message)))
    }

    /// Where the run's own message stands, or would, if it was deleted: after everything.
    fn place_of_run(&self, run: &RunFacts) -> Result<Seq, ViewError> {
        let id = rows::row_id(&run.run, run.continues.as_ref(), &run.message);
        let key = Cell::Text(rows::key(&run.tenant, id.as_str()));
        let row = self.inner.views.get(MESSAGES, &key)?;
        Ok(row.as_ref().and_then(StoredMessage::of).map_or(Seq(u64::MAX), |stored| stored.place))
    }
}

/// The session's messages before a place, the newest first.
fn select(run: &RunFacts, before: Seq) -> Select {
    let text = |text: &str| Cell::Text(text.to_owned());
    Select {
        table: MESSAGES,
        filter: vec![
            ("tenant", Compare::Eq, text(run.tenant.as_str())),
            ("session_id", Compare::Eq, text(run.session.as_str())),
            ("superseded_by", Compare::Eq, Cell::Null),
            ("place", Compare::Lt, rows::count(before.0)),
        ],
        phrases: Vec::new(),
        order_by: "place",
        descending: true,
        after: None,
        limit: AT_ONCE,
    }
}

/// Whether the run's input made the message: that is told as the input.
fn is_input_of(stored: &StoredMessage, run: &RunFacts) -> bool {
    !stored.is_of_run() && stored.message.run_id.as_ref() == Some(&run.run)
}
