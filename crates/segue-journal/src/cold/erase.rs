//! What is to be erased: noted at once, done in small steps, also after a restart.
//!
//! Cardinality: one row for each stream with chunks that nobody can read any more; removed with
//! the last of them. Key: tenant, kind, id, incarnation. Value: the seq before which chunks go.

use rusqlite::OptionalExtension;
use segue_core::Seq;

use super::{Changes, Cold, ColdError, catalogue::letter};
use crate::stream::{Incarnation, StreamKey};

/// Chunks that one step drops, so that no transaction is large.
const CHUNKS: u32 = 64;

/// Chunks that nobody can read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Erasure {
    pub(crate) stream: StreamKey,
    pub(crate) incarnation: Incarnation,
    /// The first seq that stays; `None`: the stream was deleted.
    pub(crate) before: Option<Seq>,
}

/// A row of the table: key columns, incarnation, seq.
type Noted = (String, String, String, i64, i64);

impl Cold {
    /// There is something to erase.
    pub(crate) fn has_erasures(&self) -> Result<bool, ColdError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM erase)";
        let some = self.read(|connection| {
            Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
        })?;
        Ok(some.unwrap_or(false))
    }
}

impl Changes<'_> {
    /// A commit made records unreadable that may be here: the stream begins later in the catalogue,
    /// and chunks before that go. A deleted stream stays there, empty, until its deletion is packed:
    /// older segments may still have records of it.
    pub(crate) fn erase(&self, erasure: &Erasure) -> Result<(), ColdError> {
        let Some(mut row) = self.find(&erasure.stream)? else { return Ok(()) };
        let info = &mut row.state.info;
        let from = erasure.before.unwrap_or(info.tail.next).min(info.tail.next);
        if info.incarnation != erasure.incarnation || from <= info.available_from {
            return Ok(());
        }
        info.available_from = from;
        row.cold_until = row.cold_until.max(from);
        self.put(&row)?;
        self.note_erasure(&Erasure { before: Some(from), ..erasure.clone() })
    }

    /// Notes that chunks are to go.
    pub(crate) fn note_erasure(&self, erasure: &Erasure) -> Result<(), ColdError> {
        let Erasure { stream, incarnation, before } = erasure;
        let sql = "INSERT INTO erase VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT DO UPDATE SET before = max(before, excluded.before)";
        let before = before.map_or(i64::MAX, |before| before.0.cast_signed());
        let incarnation = incarnation.0.cast_signed();
        let key = (stream.tenant(), letter(stream), stream.id(), incarnation, before);
        self.transaction.prepare_cached(sql)?.execute(key)?;
        Ok(())
    }

    /// Notes that all chunks of a name are to go, but for those of this incarnation.
    pub(crate) fn note_others(
        &self,
        stream: &StreamKey,
        but: Option<Incarnation>,
    ) -> Result<(), ColdError> {
        let sql = "INSERT INTO erase SELECT DISTINCT tenant, kind, id, incarnation, ?5 FROM chunk \
             WHERE tenant = ?1 AND kind = ?2 AND id = ?3 AND incarnation IS NOT ?4 \
             ON CONFLICT DO UPDATE SET before = excluded.before";
        let but = but.map(|incarnation| incarnation.0.cast_signed());
        let key = (stream.tenant(), letter(stream), stream.id(), but, i64::MAX);
        self.transaction.prepare_cached(sql)?.execute(key)?;
        Ok(())
    }

    /// Drops some of the chunks that are to go. Gives how many; zero if nothing is left to do.
    pub(crate) fn drop_chunks(&self) -> Result<u64, ColdError> {
        let mut dropped = 0;
        while dropped < u64::from(CHUNKS) {
            let Some(noted) = self.next_erasure()? else { break };
            let sql = "DELETE FROM chunk WHERE rowid IN (SELECT rowid FROM chunk \
                 WHERE tenant = ?1 AND kind = ?2 AND id = ?3 AND incarnation = ?4 \
                 AND first_seq + count <= ?5 ORDER BY first_seq LIMIT ?6)";
            let (tenant, kind, id, incarnation, before) = &noted;
            let wanted = (tenant, kind, id, incarnation, before, CHUNKS);
            let n = self.transaction.prepare_cached(sql)?.execute(wanted)?;
            dropped += n as u64;
            if n < CHUNKS as usize {
                self.forget(&noted)?;
            }
        }
        Ok(dropped)
    }

    fn next_erasure(&self) -> Result<Option<Noted>, ColdError> {
        let sql = "SELECT tenant, kind, id, incarnation, before FROM erase LIMIT 1";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let noted = statement.query_row([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        });
        Ok(noted.optional()?)
    }

    fn forget(&self, (tenant, kind, id, incarnation, _): &Noted) -> Result<(), ColdError> {
        let sql = "DELETE FROM erase WHERE tenant = ?1 AND kind = ?2 AND id = ?3 \
             AND incarnation = ?4";
        self.transaction.prepare_cached(sql)?.execute((tenant, kind, id, incarnation))?;
        Ok(())
    }
}
