//! A commit's bytes: head, parts, records. See `docs/format.md`.

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use segue_core::{ProducerId, Seq, Timestamp};

use super::layout::{Seed, index, u16_at, u32_at, u32_len, u64_at};
use crate::{
    api::ProducerClaim,
    stream::{Epoch, Incarnation, StreamKey},
};

/// Bytes of a commit's head.
pub(crate) const COMMIT_HEAD: usize = 40;
/// Bytes before a record's payload.
pub(crate) const FRAME_HEAD: usize = 8;
const COMMIT_MAGIC: u32 = u32::from_le_bytes(*b"SGCM");
const PART_HEAD: usize = 40;
const PRODUCER_BLOCK: usize = 26;
/// An extent is ended by the record that makes it this long, so that reading from the middle of
/// a large part does not walk all of it.
const EXTENT_BYTES: usize = 64 << 10;

/// What is done to a stream besides appending. The bits are persisted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(pub(crate) u16);

impl Flags {
    pub(crate) const CREATE: Flags = Flags(1);
    pub(crate) const CLOSE: Flags = Flags(2);
    pub(crate) const PRODUCER: Flags = Flags(4);
    pub(crate) const TRIM: Flags = Flags(8);
    pub(crate) const DELETE: Flags = Flags(16);

    pub(crate) fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 != 0
    }

    /// With `flag` set if `on`.
    #[must_use]
    pub(crate) fn with(self, flag: Flags, on: bool) -> Flags {
        if on { Flags(self.0 | flag.0) } else { self }
    }
}

/// What a part says of its stream, without its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartFacts {
    pub(crate) stream: StreamKey,
    pub(crate) incarnation: Incarnation,
    pub(crate) epoch: Epoch,
    pub(crate) flags: Flags,
    /// The first record's seq; the tail if there is none; for a trim the first seq that stays.
    pub(crate) first_seq: Seq,
    pub(crate) records: u32,
    pub(crate) producer: Option<ProducerClaim>,
}

impl PartFacts {
    /// The tail after the part's records.
    pub(crate) fn next(&self) -> Seq {
        Seq(self.first_seq.0 + u64::from(self.records))
    }
}

/// Where contiguous records of one part are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) first: Seq,
    pub(crate) at: Timestamp,
    /// Of the first record's frame, in the file.
    pub(crate) offset: u32,
    /// Of all its frames.
    pub(crate) bytes: u32,
    pub(crate) count: u32,
}

impl Extent {
    /// The seq after its last record.
    pub(crate) fn end(&self) -> Seq {
        Seq(self.first.0 + u64::from(self.count))
    }
}

/// The checksum that those of a stream's records are continued from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordSeed(u32);

impl RecordSeed {
    pub(crate) fn of(stream: &StreamKey, incarnation: Incarnation) -> Self {
        let crc = crc32c(stream.as_str().as_bytes());
        Self(crc32c_append(crc, &incarnation.0.to_le_bytes()))
    }

    pub(crate) fn crc(self, seq: Seq, at: Timestamp, payload: &[u8]) -> u32 {
        let mut place = [0; 16];
        place[..8].copy_from_slice(&seq.0.to_le_bytes());
        place[8..].copy_from_slice(&at.as_millis().to_le_bytes());
        crc32c_append(crc32c_append(self.0, &place), payload)
    }
}

/// The most bytes that a part takes in a commit.
pub(crate) fn part_bound(stream: &StreamKey, producer: Option<&ProducerClaim>) -> usize {
    let producer = producer.map_or(0, |claim| PRODUCER_BLOCK + claim.id.as_str().len());
    PART_HEAD + stream.as_str().len() + producer
}

/// Builds a commit in a buffer that is used again.
#[derive(Debug, Default)]
pub(crate) struct CommitBuffer {
    bytes: Vec<u8>,
    parts: u32,
}

impl CommitBuffer {
    /// Empties it and begins a commit.
    pub(crate) fn begin(&mut self) {
        self.bytes.clear();
        self.bytes.resize(COMMIT_HEAD, 0);
        self.parts = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts == 0
    }

    /// Adds a part; gives its extents to `found`, with offsets from the commit's begin.
    pub(crate) fn part(
        &mut self,
        seed: Seed,
        at: Timestamp,
        facts: &PartFacts,
        records: (RecordSeed, &[Bytes]),
        mut found: impl FnMut(Extent),
    ) {
        let (record_seed, records) = records;
        self.part_head(seed, facts, records);
        self.parts += 1;
        let mut open = Extents::new(facts.first_seq, at, self.bytes.len());
        for record in records {
            let crc = record_seed.crc(open.next(), at, record);
            self.bytes.extend_from_slice(&u32_len(record.len()).to_le_bytes());
            self.bytes.extend_from_slice(&crc.to_le_bytes());
            self.bytes.extend_from_slice(record);
            open.push(self.bytes.len(), &mut found);
        }
        open.finish(&mut found);
    }

    fn part_head(&mut self, seed: Seed, facts: &PartFacts, records: &[Bytes]) {
        let key = facts.stream.as_str().as_bytes();
        let frames = records.iter().map(|record| FRAME_HEAD + record.len()).sum();
        let start = self.bytes.len();
        let mut head = [0; PART_HEAD];
        head[4..6].copy_from_slice(&u16_len(key).to_le_bytes());
        head[6..8].copy_from_slice(&facts.flags.0.to_le_bytes());
        head[8..16].copy_from_slice(&facts.incarnation.0.to_le_bytes());
        head[16..24].copy_from_slice(&facts.epoch.0.to_le_bytes());
        head[24..32].copy_from_slice(&facts.first_seq.0.to_le_bytes());
        head[32..36].copy_from_slice(&u32_len(records.len()).to_le_bytes());
        head[36..40].copy_from_slice(&u32_len(frames).to_le_bytes());
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(key);
        if let Some(claim) = &facts.producer {
            self.producer(claim);
        }
        let crc = seed.crc(&self.bytes[start + 4..]);
        self.bytes[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    }

    fn producer(&mut self, claim: &ProducerClaim) {
        let id = claim.id.as_str().as_bytes();
        for number in [claim.epoch, claim.first_seq, claim.last_seq] {
            self.bytes.extend_from_slice(&number.to_le_bytes());
        }
        self.bytes.extend_from_slice(&u16_len(id).to_le_bytes());
        self.bytes.extend_from_slice(id);
    }

    /// Completes the padding and the head; gives how many bytes there are to write.
    pub(crate) fn finish(&mut self, seed: Seed, number: u64, at: Timestamp) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let body = &self.bytes[COMMIT_HEAD..];
        let (body_len, body_crc) = (u32_len(body.len()), crc32c(body));
        let head = &mut self.bytes[..COMMIT_HEAD];
        head[..4].copy_from_slice(&COMMIT_MAGIC.to_le_bytes());
        head[4..8].copy_from_slice(&body_len.to_le_bytes());
        head[8..16].copy_from_slice(&number.to_le_bytes());
        head[16..24].copy_from_slice(&at.as_millis().to_le_bytes());
        head[24..28].copy_from_slice(&self.parts.to_le_bytes());
        head[28..32].copy_from_slice(&body_crc.to_le_bytes());
        let crc = seed.crc(&head[..36]);
        head[36..].copy_from_slice(&crc.to_le_bytes());
        self.bytes.len() as u64
    }

    /// The bytes of a finished commit, with so many zeros behind them.
    pub(crate) fn with_zeros(&mut self, zeros: u64) -> &[u8] {
        let zeros = usize::try_from(zeros).expect("less than a segment");
        self.bytes.resize(self.bytes.len() + zeros, 0);
        &self.bytes
    }
}

fn u16_len(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).expect("keys and ids have at most 259 bytes")
}

/// Cuts a part's records into extents.
struct Extents {
    extent: Extent,
    end: usize,
}

impl Extents {
    fn new(first: Seq, at: Timestamp, offset: usize) -> Self {
        let extent = Extent { first, at, offset: u32_len(offset), bytes: 0, count: 0 };
        Self { extent, end: offset }
    }

    /// The seq of the record that comes next.
    fn next(&self) -> Seq {
        self.extent.end()
    }

    /// Takes a record whose frame ends at `end`.
    fn push(&mut self, end: usize, found: &mut impl FnMut(Extent)) {
        self.extent.bytes += u32_len(end - self.end);
        self.extent.count += 1;
        self.end = end;
        if index(self.extent.bytes) >= EXTENT_BYTES {
            let next = Self::new(self.next(), self.extent.at, end);
            found(std::mem::replace(self, next).extent);
        }
    }

    fn finish(self, found: &mut impl FnMut(Extent)) {
        if self.extent.count > 0 {
            found(self.extent);
        }
    }
}

/// A commit's head that verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommitHead {
    pub(crate) number: u64,
    pub(crate) at: Timestamp,
    pub(crate) parts: u32,
    pub(crate) body_len: u32,
    body_crc: u32,
}

impl CommitHead {
    /// The head in these bytes, if it is one of this segment's.
    pub(crate) fn decode(bytes: &[u8], seed: Seed) -> Option<Self> {
        if bytes.len() < COMMIT_HEAD || u32_at(bytes, 0) != COMMIT_MAGIC {
            return None;
        }
        (u32_at(bytes, 36) == seed.crc(&bytes[..36])).then(|| Self {
            number: u64_at(bytes, 8),
            at: Timestamp::from_millis(u64_at(bytes, 16)),
            parts: u32_at(bytes, 24),
            body_len: u32_at(bytes, 4),
            body_crc: u32_at(bytes, 28),
        })
    }

    /// Whether these bytes begin as a head does; cheaper than decoding.
    pub(crate) fn may_begin(bytes: &[u8]) -> bool {
        bytes.starts_with(&COMMIT_MAGIC.to_le_bytes())
    }

    pub(crate) fn is_body(&self, body: &[u8]) -> bool {
        body.len() == index(self.body_len) && crc32c(body) == self.body_crc
    }

    /// Bytes of the whole commit.
    pub(crate) fn total(&self) -> u64 {
        COMMIT_HEAD as u64 + u64::from(self.body_len)
    }
}

/// A part as it was read.
#[derive(Debug)]
pub(crate) struct ReadPart {
    pub(crate) facts: PartFacts,
    pub(crate) extents: Vec<Extent>,
    /// Every record matched its checksum.
    pub(crate) sound: bool,
}

/// Reads the parts of a body one after the other; ends at the first that does not verify.
pub(crate) struct Parts<'a> {
    body: &'a [u8],
    /// Of the body in the file.
    offset: u64,
    at: Timestamp,
    seed: Seed,
    /// Look at each record's checksum too.
    verify: bool,
    pos: usize,
    left: u32,
}

impl<'a> Parts<'a> {
    /// The parts of `body`, which stands behind `head`, a commit at `offset` of its file.
    pub(crate) fn new(head: &CommitHead, body: &'a [u8], offset: u64, seed: Seed) -> Self {
        let offset = offset + COMMIT_HEAD as u64;
        Self { body, offset, at: head.at, seed, verify: false, pos: 0, left: head.parts }
    }

    /// Verifies records, too.
    pub(crate) fn verify(self) -> Self {
        Self { verify: true, ..self }
    }

    fn part(&mut self) -> Option<ReadPart> {
        let (facts, len, frames) = decode_part(self.body.get(self.pos..)?, self.seed)?;
        let start = self.pos + len;
        let end = start.checked_add(frames).filter(|end| *end <= self.body.len())?;
        let (extents, sound) = self.extents(&facts, start, end);
        self.pos = end;
        Some(ReadPart { facts, extents, sound })
    }

    /// Walks the frames; a frame whose length leads astray ends the walk, and what is behind it
    /// has no extent.
    fn extents(&self, facts: &PartFacts, start: usize, end: usize) -> (Vec<Extent>, bool) {
        let seed = RecordSeed::of(&facts.stream, facts.incarnation);
        let base = usize::try_from(self.offset).expect("offsets have 32 bits");
        let mut extents = Vec::new();
        let mut open = Extents::new(facts.first_seq, self.at, base + start);
        let (mut pos, mut sound) = (start, true);
        for _ in 0..facts.records {
            let Some(frame) = Frame::decode(&self.body[pos..end]) else {
                sound = false;
                break;
            };
            sound &= !self.verify || frame.crc == seed.crc(open.next(), self.at, frame.payload);
            pos += frame.len();
            open.push(base + pos, &mut |extent| extents.push(extent));
        }
        open.finish(&mut |extent| extents.push(extent));
        (extents, sound && pos == end)
    }
}

impl Iterator for Parts<'_> {
    type Item = ReadPart;

    fn next(&mut self) -> Option<ReadPart> {
        self.left = self.left.checked_sub(1)?;
        let part = self.part();
        if part.is_none() {
            self.left = 0;
        }
        part
    }
}

/// A record's frame.
pub(crate) struct Frame<'a> {
    pub(crate) crc: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame that `bytes` begin with, if they are long enough.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let head = bytes.get(..FRAME_HEAD)?;
        let len = index(u32_at(head, 0));
        let payload = bytes.get(FRAME_HEAD..FRAME_HEAD.checked_add(len)?)?;
        Some(Self { crc: u32_at(head, 4), payload })
    }

    /// Bytes of the frame.
    pub(crate) fn len(&self) -> usize {
        FRAME_HEAD + self.payload.len()
    }
}

/// Bytes of the frame that `bytes` begin with, if they are long enough.
pub(crate) fn frame_len(bytes: &[u8]) -> Option<usize> {
    Frame::decode(bytes).map(|frame| frame.len())
}

/// A part's facts, the bytes before its records, and the bytes of its records.
fn decode_part(bytes: &[u8], seed: Seed) -> Option<(PartFacts, usize, usize)> {
    let head = bytes.get(..PART_HEAD)?;
    let flags = Flags(u16_at(head, 6));
    let key_end = PART_HEAD + usize::from(u16_at(head, 4));
    let key = bytes.get(PART_HEAD..key_end)?;
    let block = producer_block(flags, &bytes[key_end..])?;
    let end = key_end + block.len();
    if u32_at(head, 0) != seed.crc(&bytes[4..end]) {
        return None;
    }
    let producer = if block.is_empty() { None } else { Some(decode_producer(block)?) };
    let facts = PartFacts {
        stream: StreamKey::parse(std::str::from_utf8(key).ok()?)?,
        incarnation: Incarnation(u64_at(head, 8)),
        epoch: Epoch(u64_at(head, 16)),
        flags,
        first_seq: Seq(u64_at(head, 24)),
        records: u32_at(head, 32),
        producer,
    };
    Some((facts, end, index(u32_at(head, 36))))
}

/// Empty without a producer.
fn producer_block(flags: Flags, bytes: &[u8]) -> Option<&[u8]> {
    if !flags.has(Flags::PRODUCER) {
        return Some(&[]);
    }
    let fixed = bytes.get(..PRODUCER_BLOCK)?;
    bytes.get(..PRODUCER_BLOCK + usize::from(u16_at(fixed, 24)))
}

fn decode_producer(block: &[u8]) -> Option<ProducerClaim> {
    let id = std::str::from_utf8(&block[PRODUCER_BLOCK..]).ok()?;
    Some(ProducerClaim {
        id: ProducerId::parse(id).ok()?,
        epoch: u64_at(block, 0),
        first_seq: u64_at(block, 8),
        last_seq: u64_at(block, 16),
    })
}
