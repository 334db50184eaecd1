//! Chunks: contiguous records of one stream, compressed together.
//!
//! Cardinality: one for 128 to 256 KiB of a stream's records, and for what is left of them up to
//! about ten smaller ones. Key: tenant, kind, id, incarnation, first seq. A record is `u64` time,
//! then its frame as in a segment, byte for byte.
//!
//! A stream that has little in each segment would become many tiny chunks. So what is packed is
//! put together with the chunks before it as long as these are small and less than twice as long.
//! What stays is thus a row of lengths that halve at least, at most 10 from 64 KiB down to a
//! record of a hundred bytes, and each time a record is written again its chunk is at least 1.5
//! times as long: at most 16 times in all, for a stream of such records, and not at all for one
//! that fills chunks.

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use rusqlite::{Connection, OptionalExtension, named_params, types::Type};
use segue_core::{Seq, Timestamp};

use super::{Changes, Cold, ColdError, catalogue::letter};
use crate::stream::{Incarnation, StreamKey};

/// A chunk is cut by the record that makes it this long.
const FULL_BYTES: usize = 128 << 10;
/// And before a record that would make it longer than this.
const MOST_BYTES: usize = 256 << 10;
/// A chunk that is shorter is put together with what follows it.
const SMALL_BYTES: usize = 64 << 10;
/// No chunk is longer, since `SQLite` holds no blob of a GB: what says so is damaged, and room for it
/// is not asked for.
const LARGEST_BYTES: usize = 1 << 30;
/// Fast: packing shall keep up with the writer.
const LEVEL: i32 = 1;
/// The codec's number. Persisted.
const ZSTD: i64 = 1;
/// Before a record's frame: its time.
const TIME_BYTES: usize = 8;

/// Contiguous records of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) first: Seq,
    pub(crate) count: u64,
    /// The records, uncompressed.
    pub(crate) raw: Bytes,
}

impl Chunk {
    /// The seq after its last record.
    pub(crate) fn end(&self) -> Seq {
        Seq(self.first.0 + self.count)
    }

    /// Each record's seq, time and frame, up to the first that is cut short. The caller says how
    /// long the frame is that some bytes begin with.
    pub(crate) fn records<'a>(
        &'a self,
        frame_len: impl Fn(&[u8]) -> Option<usize> + 'a,
    ) -> impl Iterator<Item = (Seq, Timestamp, Bytes)> + 'a {
        let mut at = 0;
        let mut next = move || {
            let time = self.raw.get(at..at + TIME_BYTES)?;
            let time = u64::from_le_bytes(time.try_into().ok()?);
            let start = at + TIME_BYTES;
            at = start + frame_len(self.raw.get(start..)?)?;
            (at <= self.raw.len())
                .then(|| (Timestamp::from_millis(time), self.raw.slice(start..at)))
        };
        (self.first.0..self.end().0)
            .map_while(move |seq| next().map(|(at, frame)| (Seq(seq), at, frame)))
    }
}

/// A chunk as it is stored.
struct Stored {
    first: i64,
    count: i64,
    codec: i64,
    raw_bytes: i64,
    crc: u32,
    body: Vec<u8>,
}

impl Stored {
    fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            first: row.get(0)?,
            count: row.get(1)?,
            codec: row.get(2)?,
            raw_bytes: row.get(3)?,
            crc: row.get(4)?,
            body: row.get(5)?,
        })
    }

    fn open(&self) -> Result<Chunk, ColdError> {
        let (first, count) = (Seq(self.first.cast_unsigned()), self.count.cast_unsigned());
        let damaged = |what: &str| ColdError::Damaged(format!("the chunk at {first} {what}"));
        if self.codec != ZSTD {
            return Err(damaged("has a codec that this version does not know"));
        }
        let len = usize::try_from(self.raw_bytes).ok().filter(|len| *len <= LARGEST_BYTES);
        let len = len.ok_or_else(|| damaged("has no possible length"))?;
        let raw = zstd::bulk::decompress(&self.body, len);
        let raw = raw.map_err(|_| damaged("cannot be decompressed"))?;
        if raw.len() != len || checksum(first, count, &raw) != self.crc {
            return Err(damaged("does not match its checksum"));
        }
        Ok(Chunk { first, count, raw: raw.into() })
    }
}

fn checksum(first: Seq, count: u64, raw: &[u8]) -> u32 {
    let crc = crc32c_append(crc32c(&first.0.to_le_bytes()), &count.to_le_bytes());
    crc32c_append(crc, raw)
}

/// One statement is one snapshot: the newest chunk that begins at or before a seq.
const FIND: &str = "SELECT first_seq, count, codec, raw_bytes, crc, body FROM chunk \
     WHERE tenant = ?1 AND kind = ?2 AND id = ?3 AND incarnation = ?4 AND first_seq <= ?5 \
     ORDER BY first_seq DESC LIMIT 1";

fn find(
    connection: &Connection,
    (stream, incarnation): (&StreamKey, Incarnation),
    at: Seq,
) -> Result<Option<Chunk>, ColdError> {
    let key = (
        stream.tenant(),
        letter(stream),
        stream.id(),
        incarnation.0.cast_signed(),
        at.0.cast_signed(),
    );
    let mut statement = connection.prepare_cached(FIND)?;
    let stored = statement.query_row(key, Stored::of).optional()?;
    stored.map(|stored| stored.open()).transpose()
}

impl Cold {
    /// The chunk that has a record; `None` if none has it. `Damaged` if it does not verify.
    pub(crate) fn chunk(
        &self,
        stream: &StreamKey,
        incarnation: Incarnation,
        seq: Seq,
    ) -> Result<Option<Chunk>, ColdError> {
        let found = self.read(|connection| find(connection, (stream, incarnation), seq))?;
        Ok(found.flatten().filter(|chunk| seq < chunk.end()))
    }

    /// Every chunk of a stream, in order, each whole or as what is wrong with it.
    pub(crate) fn each_chunk(
        &self,
        stream: &StreamKey,
        incarnation: Incarnation,
        mut each: impl FnMut(Result<Chunk, String>),
    ) -> Result<(), ColdError> {
        let sql = "SELECT first_seq, count, codec, raw_bytes, crc, body FROM chunk \
             WHERE tenant = ?1 AND kind = ?2 AND id = ?3 AND incarnation = ?4 ORDER BY first_seq";
        let key = (stream.tenant(), letter(stream), stream.id(), incarnation.0.cast_signed());
        let read = self.read(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(key)?;
            while let Some(row) = rows.next()? {
                each(Stored::of(row)?.open().map_err(ColdError::what));
            }
            Ok(())
        });
        read.map(drop)
    }
}

/// Cuts a stream's records into chunks and stores them.
pub(crate) struct Chunker<'a> {
    changes: &'a Changes<'a>,
    stream: &'a StreamKey,
    incarnation: Incarnation,
    first: Seq,
    count: u64,
    raw: Vec<u8>,
}

impl<'a> Chunker<'a> {
    pub(crate) fn new(
        changes: &'a Changes<'a>,
        stream: &'a StreamKey,
        incarnation: Incarnation,
    ) -> Self {
        Self { changes, stream, incarnation, first: Seq::FIRST, count: 0, raw: Vec::new() }
    }

    /// Takes the small chunks that end at `next` out of the store, to be written again together
    /// with the about `bytes` that follow. Not those that begin before `from`, which are going to be
    /// erased, and none that is damaged.
    pub(crate) fn reopen(&mut self, from: Seq, next: Seq, bytes: usize) -> Result<(), ColdError> {
        let (mut next, mut bytes, mut taken) = (next, bytes, Vec::new());
        while let Some(chunk) = self.last_before(next)? {
            let len = chunk.raw.len();
            let fits = len < SMALL_BYTES && len < 2 * bytes;
            if !fits || chunk.end() != next || chunk.first < from {
                break;
            }
            (next, bytes) = (chunk.first, bytes + len);
            taken.push(chunk);
        }
        for chunk in taken.into_iter().rev() {
            self.remove(chunk.first)?;
            if self.count == 0 {
                self.first = chunk.first;
            }
            self.count += chunk.count;
            self.raw.extend_from_slice(&chunk.raw);
        }
        Ok(())
    }

    /// Takes a record. Where it does not follow on, a new chunk begins.
    pub(crate) fn push(&mut self, seq: Seq, at: Timestamp, frame: &[u8]) -> Result<(), ColdError> {
        let long = self.raw.len() + TIME_BYTES + frame.len() > MOST_BYTES;
        if long || seq.0 != self.first.0 + self.count {
            self.cut()?;
        }
        if self.count == 0 {
            self.first = seq;
        }
        self.raw.extend_from_slice(&at.as_millis().to_le_bytes());
        self.raw.extend_from_slice(frame);
        self.count += 1;
        if self.raw.len() >= FULL_BYTES { self.cut() } else { Ok(()) }
    }

    /// Stores what is left.
    pub(crate) fn finish(mut self) -> Result<(), ColdError> {
        self.cut()
    }

    fn last_before(&self, seq: Seq) -> Result<Option<Chunk>, ColdError> {
        let key = (self.stream, self.incarnation);
        match find(&self.changes.transaction, key, seq.prev()) {
            Err(ColdError::Damaged(_)) => Ok(None),
            found => found,
        }
    }

    fn remove(&self, first: Seq) -> Result<(), ColdError> {
        let sql = "DELETE FROM chunk WHERE tenant = ?1 AND kind = ?2 AND id = ?3 \
             AND incarnation = ?4 AND first_seq = ?5";
        let key = (
            self.stream.tenant(),
            letter(self.stream),
            self.stream.id(),
            self.incarnation.0.cast_signed(),
            first.0.cast_signed(),
        );
        self.changes.transaction.prepare_cached(sql)?.execute(key)?;
        Ok(())
    }

    fn cut(&mut self) -> Result<(), ColdError> {
        if self.count == 0 {
            return Ok(());
        }
        let body = zstd::bulk::compress(&self.raw, LEVEL)?;
        // A row of the same key is of a stream whose row was lost to damage.
        let sql = "INSERT OR REPLACE INTO chunk VALUES (:tenant, :kind, :id, :incarnation, :first, \
             :count, :codec, :raw, :crc, :body)";
        let raw = i64::try_from(self.raw.len()).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(0, Type::Integer, error.into())
        })?;
        self.changes.transaction.prepare_cached(sql)?.execute(named_params! {
            ":tenant": self.stream.tenant(),
            ":kind": letter(self.stream),
            ":id": self.stream.id(),
            ":incarnation": self.incarnation.0.cast_signed(),
            ":first": self.first.0.cast_signed(),
            ":count": self.count.cast_signed(),
            ":codec": ZSTD,
            ":raw": raw,
            ":crc": checksum(self.first, self.count, &self.raw),
            ":body": body,
        })?;
        self.first = Seq(self.first.0 + self.count);
        self.count = 0;
        self.raw.clear();
        Ok(())
    }
}
