//! Reading a session out.

use std::{collections::HashSet, collections::VecDeque, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use segue_core::{
    EventRecord, MessageId, RunId, Seq, SessionId, TenantId, Timestamp, lifecycle::Lifecycle,
};
use segue_journal::{Journal, ReadError, ReadLimit, Record, StreamKey};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{End, Head, LEFT_OUT, RunHead, Sum, VERSION};
use crate::{engine::Engine, known::hex_of};

/// An export on its way: what was in the session when it began and had ended by then.
pub struct Export {
    journal: Arc<dyn Journal>,
    tenant: TenantId,
    session: StreamKey,
    /// The session's records before this one.
    until: Seq,
    left_out: LeftOut,
    runs: VecDeque<RunHead>,
    next: Next,
    lines: u64,
    digest: Sha256,
}

/// What comes next.
enum Next {
    Head(Head),
    Run { run: RunHead, seq: Seq },
    Session { seq: Seq },
    End,
    Over,
}

/// What does not travel.
#[derive(Default)]
struct LeftOut {
    deleted: HashSet<MessageId>,
    /// Runs that have ended: the others are left out.
    ended: HashSet<RunId>,
}

impl Engine {
    /// Begins an export. `None` if the tenant has no such session.
    pub fn export_session(
        &self,
        tenant: &TenantId,
        session: &SessionId,
    ) -> Result<Option<Export>, ReadError> {
        let journal = self.inner.journal.clone();
        let stream = StreamKey::session(tenant, session);
        if self.inner.supervisor.is_gone(&stream) {
            return Ok(None);
        }
        let until = match journal.info(&stream) {
            Err(ReadError::NotFound(_)) => return Ok(None),
            info => info?.tail.next,
        };
        let mut left_out = LeftOut::default();
        let mut runs = Vec::new();
        each_record(&*journal, &stream, until, |record| left_out.note(&record, &mut runs))?;
        runs.retain(|run| left_out.ended.contains(run));
        let heads = runs.iter().map(|run| head_of(&*journal, tenant, run));
        let heads = heads.collect::<Result<Vec<_>, _>>()?;
        let head = Head { segue_export: VERSION, session_id: session.clone(), runs: heads.clone() };
        Ok(Some(Export {
            journal,
            tenant: tenant.clone(),
            session: stream,
            until,
            left_out,
            runs: heads.into(),
            next: Next::Head(head),
            lines: 0,
            digest: Sha256::new(),
        }))
    }
}

fn head_of(journal: &dyn Journal, tenant: &TenantId, run: &RunId) -> Result<RunHead, ReadError> {
    let info = journal.info(&StreamKey::run(tenant, run))?;
    Ok(RunHead { run_id: run.clone(), from: info.available_from, last_seq: info.tail.next.prev() })
}

fn each_record(
    journal: &dyn Journal,
    stream: &StreamKey,
    until: Seq,
    mut each: impl FnMut(EventRecord),
) -> Result<(), ReadError> {
    let mut from = Seq::FIRST;
    while from < until {
        let page = journal.read(stream, from, ReadLimit::default())?;
        let Some(last) = page.records.last() else { break };
        from = last.seq.next();
        let before = page.records.into_iter().take_while(|record| record.seq < until);
        before.filter_map(|record| EventRecord::decode(record.bytes).ok()).for_each(&mut each);
    }
    Ok(())
}

impl LeftOut {
    fn note(&mut self, record: &EventRecord, runs: &mut Vec<RunId>) {
        match Lifecycle::from_record(record) {
            Some(Lifecycle::MessageDeleted { message_id }) => drop(self.deleted.insert(message_id)),
            Some(Lifecycle::RunCreated { run_id, .. }) => runs.push(run_id),
            Some(Lifecycle::RunEnded { run_id, .. }) => drop(self.ended.insert(run_id)),
            Some(_) | None => {}
        }
    }

    fn has(&self, record: &EventRecord) -> bool {
        match Lifecycle::from_record(record) {
            Some(
                Lifecycle::MessageCreated { message, .. } | Lifecycle::MessageUpdated { message },
            ) => self.deleted.contains(&message.id),
            Some(
                Lifecycle::RunCreated { run_id, .. }
                | Lifecycle::RunChanged { run_id, .. }
                | Lifecycle::MessageFinal { run_id },
            ) => !self.ended.contains(&run_id),
            Some(Lifecycle::SessionDeleted { .. }) => true,
            Some(_) | None => false,
        }
    }
}

impl Export {
    /// The next lines; `None` at the end. An error means that what was given so far is no export:
    /// without its last line it can not be taken for one.
    pub fn next_lines(&mut self) -> Result<Option<Bytes>, ReadError> {
        let mut out = BytesMut::new();
        while out.is_empty() {
            match std::mem::replace(&mut self.next, Next::Over) {
                Next::Head(head) => {
                    self.line(&mut out, &json!(head).to_string());
                    self.next = self.next_run();
                }
                Next::Run { run, seq } => self.run_lines(&mut out, run, seq)?,
                Next::Session { seq } => self.session_lines(&mut out, seq)?,
                Next::End => {
                    let sha256 = hex_of(&self.digest.clone().finalize());
                    let end = End { end: Sum { lines: self.lines, sha256 } };
                    self.line(&mut out, &json!(end).to_string());
                }
                Next::Over => return Ok(None),
            }
        }
        self.digest.update(&out);
        Ok(Some(out.freeze()))
    }

    fn next_run(&mut self) -> Next {
        match self.runs.pop_front() {
            Some(run) => Next::Run { seq: run.from, run },
            None => Next::Session { seq: Seq::FIRST },
        }
    }

    fn line(&mut self, out: &mut BytesMut, json: &str) {
        out.put_slice(json.as_bytes());
        out.put_u8(b'\n');
        self.lines += 1;
    }

    fn run_lines(&mut self, out: &mut BytesMut, run: RunHead, seq: Seq) -> Result<(), ReadError> {
        let stream = StreamKey::run(&self.tenant, &run.run_id);
        let page = self.journal.read(&stream, seq, ReadLimit::default())?;
        let mut seq = seq;
        for record in page.records {
            let (at, json) = parts_of(&stream, &record)?;
            let id = &run.run_id;
            let line =
                format!(r#"{{"run_id":"{id}","seq":{},"at":"{at}","event":{json}}}"#, record.seq);
            self.line(out, &line);
            seq = record.seq.next();
        }
        self.next = if seq > run.last_seq { self.next_run() } else { Next::Run { run, seq } };
        Ok(())
    }

    fn session_lines(&mut self, out: &mut BytesMut, seq: Seq) -> Result<(), ReadError> {
        let (session, until) = (self.session.clone(), self.until);
        let page = self.journal.read(&session, seq, ReadLimit::default())?;
        let mut seq = seq;
        for record in page.records.into_iter().take_while(|record| record.seq < until) {
            let (at, json) = parts_of(&session, &record)?;
            let event = EventRecord::decode(record.bytes).ok();
            let is_left_out = event.is_some_and(|event| self.left_out.has(&event));
            let json = if is_left_out { json!({"type": LEFT_OUT}).to_string() } else { json };
            let line = format!(r#"{{"seq":{},"at":"{at}","record":{json}}}"#, record.seq);
            self.line(out, &line);
            seq = record.seq.next();
        }
        self.next = if seq >= self.until { Next::End } else { Next::Session { seq } };
        Ok(())
    }
}

/// A record's time and its JSON.
fn parts_of(stream: &StreamKey, record: &Record) -> Result<(Timestamp, String), ReadError> {
    let damaged = |what: String| ReadError::Corrupt { seq: record.seq, what };
    let event = EventRecord::decode(record.bytes.clone());
    let event = event.map_err(|error| damaged(format!("{stream}: {error}")))?;
    let json = String::from_utf8(event.json().to_vec());
    let json = json.map_err(|_| damaged(format!("{stream}: not text")))?;
    Ok((event.time(record.at), json))
}
