//! The fixed heads of files: `FORMAT`, and a segment's head. See `docs/format.md`.

use std::path::{Path, PathBuf};

use crc32c::{crc32c, crc32c_append};

/// The version that this program writes, and the newest it reads.
pub(crate) const VERSION: u32 = 1;
/// Bytes of the `FORMAT` file.
pub(crate) const FORMAT_BYTES: usize = 40;
/// Bytes of a segment's head.
pub(crate) const HEAD_BYTES: usize = 64;

const FORMAT_MAGIC: [u8; 8] = *b"SEGUEJRN";
const HEAD_MAGIC: [u8; 8] = *b"SEGUESEG";

/// The random name of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JournalId(pub(crate) [u8; 16]);

/// What the checksums of a segment's commits, parts and trailer are continued from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn of(id: JournalId, number: u64) -> Self {
        Self(crc32c_append(crc32c(&id.0), &number.to_le_bytes()))
    }

    pub(crate) fn crc(self, bytes: &[u8]) -> u32 {
        crc32c_append(self.0, bytes)
    }
}

/// Why a head is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadHead {
    /// Written by a later version of the program.
    Newer(u32),
    /// Sound, but of another journal or segment.
    Foreign(&'static str),
    /// Not what it should be.
    Unreadable(&'static str),
}

pub(crate) fn encode_format(id: JournalId) -> [u8; FORMAT_BYTES] {
    let mut bytes = [0; FORMAT_BYTES];
    bytes[..8].copy_from_slice(&FORMAT_MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..32].copy_from_slice(&id.0);
    seal(&mut bytes);
    bytes
}

pub(crate) fn decode_format(bytes: &[u8]) -> Result<JournalId, BadHead> {
    check_head::<FORMAT_BYTES>(bytes, FORMAT_MAGIC)?;
    Ok(JournalId(array(bytes, 16)))
}

pub(crate) fn encode_head(id: JournalId, number: u64) -> [u8; HEAD_BYTES] {
    let mut bytes = [0; HEAD_BYTES];
    bytes[..8].copy_from_slice(&HEAD_MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&number.to_le_bytes());
    bytes[24..40].copy_from_slice(&id.0);
    seal(&mut bytes);
    bytes
}

/// Whether the bytes are the head of this journal's segment `number`.
pub(crate) fn check_segment_head(bytes: &[u8], id: JournalId, number: u64) -> Result<(), BadHead> {
    check_head::<HEAD_BYTES>(bytes, HEAD_MAGIC)?;
    if u64_at(bytes, 16) != number {
        return Err(BadHead::Foreign("the number in its head is another"));
    }
    if array::<16>(bytes, 24) != id.0 {
        return Err(BadHead::Foreign("it is another journal's"));
    }
    Ok(())
}

fn seal<const N: usize>(bytes: &mut [u8; N]) {
    let crc = crc32c(&bytes[..N - 4]);
    bytes[N - 4..].copy_from_slice(&crc.to_le_bytes());
}

fn check_head<const N: usize>(bytes: &[u8], magic: [u8; 8]) -> Result<(), BadHead> {
    if bytes.len() < N {
        return Err(BadHead::Unreadable("the head is cut short"));
    }
    if bytes[..8] != magic {
        return Err(BadHead::Unreadable("the magic is wrong"));
    }
    let version = u32_at(bytes, 8);
    if version > VERSION {
        return Err(BadHead::Newer(version));
    }
    if version != VERSION || u32_at(bytes, N - 4) != crc32c(&bytes[..N - 4]) {
        return Err(BadHead::Unreadable("the checksum of the head is wrong"));
    }
    Ok(())
}

/// `<dir>/0000000000000001.seg`
pub(crate) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016}.seg"))
}

/// The number in a segment's name; `None` for other files.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let plain = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// The bytes at `at`. The caller has checked the length.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// A length in memory as it is written: what the caller has bounded below 4 GiB.
pub(crate) fn u32_len(n: usize) -> u32 {
    u32::try_from(n).expect("bounded by the largest batch, far below 4 GiB")
}

/// A count read from disk as an index in memory.
pub(crate) fn index(n: u32) -> usize {
    usize::try_from(n).expect("pointers have at least 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: JournalId = JournalId([7; 16]);

    #[test]
    fn heads_round_trip() {
        assert_eq!(decode_format(&encode_format(ID)), Ok(ID));
        assert_eq!(check_segment_head(&encode_head(ID, 3), ID, 3), Ok(()));
        assert!(check_segment_head(&encode_head(ID, 3), ID, 4).is_err());
        assert!(check_segment_head(&encode_head(ID, 3), JournalId([8; 16]), 3).is_err());
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut bytes = encode_format(ID);
        bytes[8] = 2;
        assert_eq!(decode_format(&bytes), Err(BadHead::Newer(2)));
        bytes[0] = b'X';
        assert!(matches!(decode_format(&bytes), Err(BadHead::Unreadable(_))));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let whole = encode_format(ID);
        for n in 0..whole.len() {
            assert!(decode_format(&whole[..n]).is_err());
            for bit in 0..8 {
                let mut bytes = whole;
                bytes[n] ^= 1 << bit;
                assert!(decode_format(&bytes).is_err(), "byte {n} bit {bit}");
            }
        }
    }

    #[test]
    fn names_of_segments() {
        let path = segment_path(Path::new("/j"), 12);
        assert_eq!(path, Path::new("/j/0000000000000012.seg"));
        assert_eq!(segment_number("0000000000000012.seg"), Some(12));
        for other in ["FORMAT", "12.seg", "0000000000000012.tmp", "+000000000000012.seg"] {
            assert_eq!(segment_number(other), None, "{other}");
        }
    }
}
