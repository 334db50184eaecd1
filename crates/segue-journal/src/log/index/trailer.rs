//! The last bytes of a sealed segment.

use super::super::layout::{Seed, VERSION, u32_at, u64_at};

/// Says where the parts of the index are. Its presence says that they are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) number: u64,
    pub(crate) first_commit: u64,
    pub(crate) last_commit: u64,
    /// Where the entries begin, which is where the commits end.
    pub(crate) entries_at: u32,
    pub(crate) entries: u32,
    pub(crate) extents_at: u32,
    pub(crate) extents: u32,
    pub(crate) text_at: u32,
    pub(crate) text_len: u32,
    pub(crate) open_at: u32,
    pub(crate) open: u32,
    pub(crate) open_crc: u32,
}

impl Trailer {
    pub(crate) const BYTES: usize = 96;
    const MAGIC: [u8; 8] = *b"SEGUEEND";

    pub(crate) fn encode(&self, seed: Seed) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&Self::MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let numbers = [self.number, self.first_commit, self.last_commit];
        for (slot, number) in bytes[16..40].chunks_exact_mut(8).zip(numbers) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        let places = [
            self.entries_at,
            self.entries,
            self.extents_at,
            self.extents,
            self.text_at,
            self.text_len,
            self.open_at,
            self.open,
            self.open_crc,
        ];
        for (slot, place) in bytes[40..76].chunks_exact_mut(4).zip(places) {
            slot.copy_from_slice(&place.to_le_bytes());
        }
        let crc = seed.crc(&bytes[..92]);
        bytes[92..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The trailer in these bytes, if they are one of this segment's.
    pub(crate) fn decode(bytes: &[u8], seed: Seed) -> Option<Self> {
        let whole = bytes.len() == Self::BYTES && bytes[..8] == Self::MAGIC;
        if !whole || u32_at(bytes, 92) != seed.crc(&bytes[..92]) {
            return None;
        }
        Some(Self {
            number: u64_at(bytes, 16),
            first_commit: u64_at(bytes, 24),
            last_commit: u64_at(bytes, 32),
            entries_at: u32_at(bytes, 40),
            entries: u32_at(bytes, 44),
            extents_at: u32_at(bytes, 48),
            extents: u32_at(bytes, 52),
            text_at: u32_at(bytes, 56),
            text_len: u32_at(bytes, 60),
            open_at: u32_at(bytes, 64),
            open: u32_at(bytes, 68),
            open_crc: u32_at(bytes, 72),
        })
    }
}
