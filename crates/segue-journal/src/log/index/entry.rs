//! An entry of the index, its extents and its text.

use std::{collections::BTreeMap, ops::Range};

use crc32c::crc32c;
use segue_core::{ProducerId, Seq, Timestamp};

use super::super::{
    commit::Extent,
    layout::{array, index, u16_at, u32_at, u32_len, u64_at},
};
use crate::{
    api::{ProducerState, StreamInfo, Tail},
    state::StreamState,
    stream::{Epoch, Incarnation, StreamKey},
};

pub(super) const ENTRY_BYTES: usize = 88;
pub(super) const EXTENT_BYTES: usize = 32;
const PRODUCER_BYTES: usize = 34;

const CLOSED: u16 = 1;
const DELETED: u16 = 2;

/// A stream at a segment's end, as it goes into the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) stream: StreamKey,
    /// `None`: it was deleted in this segment.
    pub(crate) state: Option<StreamState>,
    /// The last commit that changed it. One of an earlier segment: it is here as an open run.
    pub(crate) changed: u64,
    /// Its records in this segment, by seq.
    pub(crate) extents: Vec<Extent>,
}

/// A stream at a segment's end, as it was found in the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) stream: StreamKey,
    /// `None`: it was deleted.
    pub(crate) state: Option<StreamState>,
    /// The last commit that changed it.
    pub(crate) changed: u64,
    /// The first record in this segment; zero if there is none.
    pub(crate) first: Seq,
    pub(crate) extents: Range<u32>,
}

/// FNV-1a with a final mix, so that the high bits, which the search goes by, are spread evenly.
pub(super) fn hash(key: &StreamKey) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key.as_str().bytes() {
        h = (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^ (h >> 33)
}

/// What is kept in memory of a hash: in the order of the whole ones.
pub(super) fn short(hash: u64) -> u32 {
    u32::try_from(hash >> 32).expect("the upper half of 64 bits")
}

/// Writes an entry whose text begins at `text_at` and whose extents begin with number `extent`.
pub(super) fn encode_entry(
    leaf: &Leaf,
    text_at: u32,
    extent: u32,
    text: &[u8],
) -> [u8; ENTRY_BYTES] {
    let mut bytes = [0; ENTRY_BYTES];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let (flags, mut producers) = (encode_flags(leaf), 0);
    put(0, &hash(&leaf.stream).to_le_bytes());
    if let Some(StreamState { info, producers: known }) = &leaf.state {
        put(8, &info.incarnation.0.to_le_bytes());
        put(16, &info.available_from.0.to_le_bytes());
        put(24, &info.tail.next.0.to_le_bytes());
        put(32, &info.epoch.0.to_le_bytes());
        producers = u32_len(known.len());
    }
    let first = leaf.extents.first().map_or(0, |extent| extent.first.0);
    put(40, &first.to_le_bytes());
    put(48, &extent.to_le_bytes());
    put(52, &u32_len(leaf.extents.len()).to_le_bytes());
    put(56, &text_at.to_le_bytes());
    put(60, &u32_len(text.len()).to_le_bytes());
    let key_len = u16::try_from(leaf.stream.as_str().len()).expect("a key has at most 259 bytes");
    put(64, &key_len.to_le_bytes());
    put(66, &flags.to_le_bytes());
    put(68, &producers.to_le_bytes());
    put(72, &leaf.changed.to_le_bytes());
    put(80, &crc32c(text).to_le_bytes());
    let crc = crc32c(&bytes[..84]);
    bytes[84..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn encode_flags(leaf: &Leaf) -> u16 {
    match &leaf.state {
        None => DELETED,
        Some(state) if state.info.tail.closed => CLOSED,
        Some(_) => 0,
    }
}

/// Appends the key and the producers.
pub(super) fn encode_text(leaf: &Leaf, into: &mut Vec<u8>) {
    into.extend_from_slice(leaf.stream.as_str().as_bytes());
    if let Some(state) = &leaf.state {
        encode_producers(&state.producers, into);
    }
}

/// Appends a stream's producers.
pub(crate) fn encode_producers(
    producers: &BTreeMap<ProducerId, ProducerState>,
    into: &mut Vec<u8>,
) {
    for (id, producer) in producers {
        let ProducerState { epoch, last_seq, range: (first, last) } = *producer;
        for number in [epoch, last_seq, first.0, last.0] {
            into.extend_from_slice(&number.to_le_bytes());
        }
        let id_len = u16::try_from(id.as_str().len()).expect("an id has at most 128 bytes");
        into.extend_from_slice(&id_len.to_le_bytes());
        into.extend_from_slice(id.as_str().as_bytes());
    }
}

pub(super) fn encode_extent(extent: &Extent) -> [u8; EXTENT_BYTES] {
    let mut bytes = [0; EXTENT_BYTES];
    bytes[..8].copy_from_slice(&extent.first.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&extent.at.as_millis().to_le_bytes());
    bytes[16..20].copy_from_slice(&extent.offset.to_le_bytes());
    bytes[20..24].copy_from_slice(&extent.bytes.to_le_bytes());
    bytes[24..28].copy_from_slice(&extent.count.to_le_bytes());
    let crc = crc32c(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

pub(super) fn decode_extent(bytes: &[u8]) -> Option<Extent> {
    (u32_at(bytes, 28) == crc32c(&bytes[..28])).then(|| Extent {
        first: Seq(u64_at(bytes, 0)),
        at: Timestamp::from_millis(u64_at(bytes, 8)),
        offset: u32_at(bytes, 16),
        bytes: u32_at(bytes, 20),
        count: u32_at(bytes, 24),
    })
}

/// An entry's bytes, verified; not so its text.
pub(super) struct RawEntry([u8; ENTRY_BYTES]);

impl RawEntry {
    /// Of exactly [`ENTRY_BYTES`] bytes, if they match their checksum.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        (u32_at(bytes, 84) == crc32c(&bytes[..84])).then(|| Self(array(bytes, 0)))
    }

    /// Where its text is in the segment's.
    pub(super) fn text(&self) -> Range<usize> {
        let start = index(u32_at(&self.0, 56));
        start..start + index(u32_at(&self.0, 60))
    }

    /// The entry, if its text matches its checksum.
    pub(super) fn decode(&self, text: &[u8]) -> Option<Entry> {
        let raw = &self.0;
        if u32_at(raw, 80) != crc32c(text) {
            return None;
        }
        let flags = u16_at(raw, 66);
        let (key, producers) = text.split_at_checked(usize::from(u16_at(raw, 64)))?;
        let state = (flags & DELETED == 0).then_some(StreamState {
            info: StreamInfo {
                incarnation: Incarnation(u64_at(raw, 8)),
                epoch: Epoch(u64_at(raw, 32)),
                available_from: Seq(u64_at(raw, 16)),
                tail: Tail { next: Seq(u64_at(raw, 24)), closed: flags & CLOSED != 0 },
            },
            producers: decode_producers(producers, u32_at(raw, 68))?,
        });
        let first_extent = u32_at(raw, 48);
        Some(Entry {
            stream: StreamKey::parse(std::str::from_utf8(key).ok()?)?,
            state,
            changed: u64_at(raw, 72),
            first: Seq(u64_at(raw, 40)),
            extents: first_extent..first_extent.checked_add(u32_at(raw, 52))?,
        })
    }
}

/// The `n` producers in a text. `None` if it is not of as many.
pub(crate) fn decode_producers(
    mut text: &[u8],
    n: u32,
) -> Option<BTreeMap<ProducerId, ProducerState>> {
    let mut producers = BTreeMap::new();
    for _ in 0..n {
        let (head, rest) = text.split_at_checked(PRODUCER_BYTES)?;
        let (id, rest) = rest.split_at_checked(usize::from(u16_at(head, 32)))?;
        let state = ProducerState {
            epoch: u64_at(head, 0),
            last_seq: u64_at(head, 8),
            range: (Seq(u64_at(head, 16)), Seq(u64_at(head, 24))),
        };
        producers.insert(ProducerId::parse(std::str::from_utf8(id).ok()?).ok()?, state);
        text = rest;
    }
    Some(producers)
}
