//! Building the index of a segment.

use std::{io, sync::Arc};

use crc32c::crc32c;

use super::{
    super::{layout::u32_len, segment::Segment},
    Sealed, Trailer,
    entry::{
        ENTRY_BYTES, EXTENT_BYTES, Leaf, encode_entry, encode_extent, encode_text, hash, short,
    },
};
use crate::{disk::untrusted, state::StreamState, stream::StreamKind};

/// Writes the index of a segment behind its commits, which end at `end`, and seals it.
pub(crate) fn write(
    segment: Arc<Segment>,
    mut leaves: Vec<Leaf>,
    commits: (u64, u64),
    end: u64,
) -> io::Result<Sealed> {
    leaves.sort_by_cached_key(|leaf| (hash(&leaf.stream), leaf.stream.clone()));
    let hashes = leaves.iter().map(|leaf| short(hash(&leaf.stream))).collect();
    let (index, trailer) = build(&leaves, end, segment.number, commits);
    segment.file.write_at(&index, end)?;
    segment.file.sync().map_err(untrusted)?;
    // Only now: a trailer that can be read stands for an index that is durable.
    let behind = end + index.len() as u64;
    let bytes = trailer.encode(segment.seed);
    segment.file.write_at(&bytes, behind)?;
    segment.file.set_len(behind + bytes.len() as u64)?;
    segment.file.sync().map_err(untrusted)?;
    Ok(Sealed { segment, trailer, hashes })
}

/// The index's bytes, which belong at `at`, and the trailer that goes behind them. The leaves are
/// in order.
fn build(leaves: &[Leaf], at: u64, number: u64, commits: (u64, u64)) -> (Vec<u8>, Trailer) {
    let (mut entries, mut extents) = (Vec::with_capacity(leaves.len() * ENTRY_BYTES), Vec::new());
    let (mut text, mut open) = (Vec::new(), Vec::new());
    for (n, leaf) in leaves.iter().enumerate() {
        let from = text.len();
        encode_text(leaf, &mut text);
        let extent = u32_len(extents.len() / EXTENT_BYTES);
        entries.extend_from_slice(&encode_entry(leaf, u32_len(from), extent, &text[from..]));
        for found in &leaf.extents {
            extents.extend_from_slice(&encode_extent(found));
        }
        if is_open_run(leaf) {
            open.extend_from_slice(&u32_len(n).to_le_bytes());
        }
    }
    let mut place = Place(at);
    let trailer = Trailer {
        number,
        first_commit: commits.0,
        last_commit: commits.1,
        entries_at: place.take(entries.len()),
        entries: u32_len(leaves.len()),
        extents_at: place.take(extents.len()),
        extents: u32_len(extents.len() / EXTENT_BYTES),
        text_at: place.take(text.len()),
        text_len: u32_len(text.len()),
        open_at: place.take(open.len()),
        open: u32_len(open.len() / 4),
        open_crc: crc32c(&open),
    };
    ([entries, extents, text, open].concat(), trailer)
}

/// Recovery looks at these.
fn is_open_run(leaf: &Leaf) -> bool {
    let open = |state: &StreamState| !state.info.tail.closed;
    leaf.stream.kind() == StreamKind::Run && leaf.state.as_ref().is_some_and(open)
}

/// Hands out places in the file, one behind the other.
struct Place(u64);

impl Place {
    fn take(&mut self, len: usize) -> u32 {
        let at = u32::try_from(self.0).expect("a segment is far smaller than 4 GiB");
        self.0 += len as u64;
        at
    }
}
