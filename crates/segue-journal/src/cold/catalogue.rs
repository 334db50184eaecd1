//! The catalogue: each stream as it was at the end of the last packed segment.
//!
//! Cardinality: one row a stream. Replaced when a segment that changed the stream is packed,
//! removed when one that deleted it is. Its checksum covers the key and every number.

use crc32c::{crc32c, crc32c_append};
use rusqlite::{Connection, OptionalExtension, named_params, types::FromSql};
use segue_core::Seq;

use super::{Changes, Cold, ColdError};
use crate::{
    api::{Position, StreamInfo, Tail},
    log::{decode_producers, encode_producers},
    state::StreamState,
    stream::{Epoch, Incarnation, StreamKey, StreamKind},
};

/// A stream of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) stream: StreamKey,
    pub(crate) state: StreamState,
    /// The last commit that changed it.
    pub(crate) changed: u64,
    /// Records before it are in chunks.
    pub(crate) cold_until: Seq,
}

/// The columns in their order, which [`decode`] goes by.
const FIND: &str = "SELECT * FROM stream WHERE tenant = ?1 AND kind = ?2 AND id = ?3";

impl Cold {
    /// The stream, if it is in the catalogue. `Damaged` if its row does not match its checksum.
    pub(crate) fn find(&self, stream: &StreamKey) -> Result<Option<Row>, ColdError> {
        Ok(self.read(|connection| find(connection, stream))?.flatten())
    }

    /// Every stream, each with its row or with what is wrong with it.
    pub(crate) fn each_stream(
        &self,
        each: impl FnMut(Result<Row, String>),
    ) -> Result<(), ColdError> {
        self.read(|connection| for_each(connection, "SELECT * FROM stream", each)).map(drop)
    }

    /// The runs that were open at the end of the last packed segment.
    pub(crate) fn open_runs(&self) -> Result<Vec<Row>, ColdError> {
        // Its index has only these: a start must not look at every run that ever was.
        let sql = "SELECT * FROM stream INDEXED BY stream_open WHERE kind = 'r' AND closed = 0";
        let mut open = Vec::new();
        self.read(|connection| {
            for_each(connection, sql, |row| match row {
                Ok(row) => open.push(row),
                Err(what) => count_damage(&what),
            })
        })?;
        Ok(open)
    }

    /// The streams of a kind that were changed after `since`.
    pub(crate) fn changed_since(
        &self,
        since: Position,
        kind: StreamKind,
    ) -> Result<Vec<StreamKey>, ColdError> {
        if self.packed().commit <= since.0 {
            return Ok(Vec::new());
        }
        let letter = kind.letter();
        let keys = self.read(|connection| {
            let sql = "SELECT tenant, kind, id FROM stream WHERE kind = ?1 AND changed > ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query((letter, since.0.cast_signed()))?;
            let mut keys = Vec::new();
            while let Some(row) = rows.next()? {
                match key(row) {
                    Ok(key) => keys.push(key),
                    Err(error) if error.is_damage() => count_damage(&error.what()),
                    Err(error) => return Err(error),
                }
            }
            Ok(keys)
        });
        Ok(keys?.unwrap_or_default())
    }
}

impl Changes<'_> {
    /// The stream, if it is in the catalogue. One whose row is damaged is none: what is packed
    /// now puts a sound one in its place.
    pub(crate) fn find(&self, stream: &StreamKey) -> Result<Option<Row>, ColdError> {
        match find(&self.transaction, stream) {
            Err(ColdError::Damaged(what)) => {
                count_damage(&what);
                Ok(None)
            }
            found => found,
        }
    }

    /// Puts a stream in.
    pub(crate) fn put(&self, row: &Row) -> Result<(), ColdError> {
        let StreamInfo { incarnation, epoch, available_from, tail } = row.state.info;
        let mut producers = Vec::new();
        encode_producers(&row.state.producers, &mut producers);
        let fields = Fields {
            numbers: [
                incarnation.0,
                epoch.0,
                available_from.0,
                tail.next.0,
                u64::from(tail.closed),
                row.changed,
                row.cold_until.0,
                row.state.producers.len() as u64,
            ],
            producers,
        };
        let [incarnation, epoch, from, next, closed, changed, until, count] =
            fields.numbers.map(u64::cast_signed);
        let sql = "INSERT OR REPLACE INTO stream VALUES (:tenant, :kind, :id, :incarnation, :epoch, \
                   :from, :next, :closed, :changed, :until, :count, :producers, :crc)";
        self.transaction.prepare_cached(sql)?.execute(named_params! {
            ":tenant": row.stream.tenant(),
            ":kind": letter(&row.stream),
            ":id": row.stream.id(),
            ":incarnation": incarnation,
            ":epoch": epoch,
            ":from": from,
            ":next": next,
            ":closed": closed,
            ":changed": changed,
            ":until": until,
            ":count": count,
            ":crc": fields.crc(&row.stream),
            ":producers": fields.producers,
        })?;
        Ok(())
    }

    /// Takes a stream out.
    pub(crate) fn remove(&self, stream: &StreamKey) -> Result<(), ColdError> {
        let sql = "DELETE FROM stream WHERE tenant = ?1 AND kind = ?2 AND id = ?3";
        let key = (stream.tenant(), letter(stream), stream.id());
        self.transaction.prepare_cached(sql)?.execute(key)?;
        Ok(())
    }
}

pub(super) fn letter(stream: &StreamKey) -> &'static str {
    stream.kind().letter()
}

fn count_damage(what: &str) {
    metrics::counter!("segue_journal_corrupt_reads_total").increment(1);
    tracing::error!(what, "a row of the catalogue is damaged, and passed over");
}

/// Calls `each` for every row, and for a damaged one with what is wrong.
fn for_each(
    connection: &Connection,
    sql: &str,
    mut each: impl FnMut(Result<Row, String>),
) -> Result<(), ColdError> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        match decode(row) {
            Ok(row) => each(Ok(row)),
            Err(error) if error.is_damage() => each(Err(error.what())),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn find(connection: &Connection, stream: &StreamKey) -> Result<Option<Row>, ColdError> {
    let key = (stream.tenant(), letter(stream), stream.id());
    let mut statement = connection.prepare_cached(FIND)?;
    statement.query_row(key, |row| Ok(decode(row))).optional()?.transpose()
}

/// What a row's checksum covers, beside the key.
struct Fields {
    numbers: [u64; 8],
    producers: Vec<u8>,
}

impl Fields {
    fn crc(&self, stream: &StreamKey) -> u32 {
        let crc = crc32c(stream.as_str().as_bytes());
        let numbers = self.numbers.iter();
        let crc = numbers.fold(crc, |crc, number| crc32c_append(crc, &number.to_le_bytes()));
        crc32c_append(crc, &self.producers)
    }
}

/// A value that is not of the column's type is damage like a wrong checksum.
fn column<T: FromSql>(row: &rusqlite::Row<'_>, at: usize) -> Result<T, ColdError> {
    row.get(at).map_err(|error| match error {
        rusqlite::Error::SqliteFailure(..) => ColdError::Sql(error),
        error => ColdError::Damaged(error.to_string()),
    })
}

/// The first three columns.
fn key(row: &rusqlite::Row<'_>) -> Result<StreamKey, ColdError> {
    let part = |at| column::<String>(row, at);
    let text = format!("{}/{}/{}", part(0)?, part(1)?, part(2)?);
    StreamKey::parse(&text).ok_or_else(|| ColdError::Damaged(format!("{text} is no stream")))
}

fn decode(row: &rusqlite::Row<'_>) -> Result<Row, ColdError> {
    let stream = key(row)?;
    let mut fields = Fields { numbers: [0; 8], producers: column(row, 11)? };
    for (at, number) in fields.numbers.iter_mut().enumerate() {
        *number = column(row, at + 3).map(i64::cast_unsigned)?;
    }
    let damaged = || ColdError::Damaged(format!("the row of {stream} does not verify"));
    if column::<u32>(row, 12)? != fields.crc(&stream) {
        return Err(damaged());
    }
    let [incarnation, epoch, from, next, closed, changed, until, count] = fields.numbers;
    let info = StreamInfo {
        incarnation: Incarnation(incarnation),
        epoch: Epoch(epoch),
        available_from: Seq(from),
        tail: Tail { next: Seq(next), closed: closed != 0 },
    };
    let count = u32::try_from(count).map_err(|_| damaged())?;
    let producers = decode_producers(&fields.producers, count).ok_or_else(damaged)?;
    let state = StreamState { info, producers };
    Ok(Row { stream, state, changed, cold_until: Seq(until) })
}
