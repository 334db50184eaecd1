//! Names of streams.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    fmt,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher},
    sync::{Arc, LazyLock},
};

use segue_core::{RunId, SessionId, TenantId, id::check_id};

/// What a stream holds. The letters are persisted in keys and stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StreamKind {
    /// A run's events. The only kind whose open flag asks for recovery.
    Run,
    /// A session's lifecycle records.
    Session,
    /// A tenant's sessions, created and deleted, and its deletions under way.
    Catalogue,
    /// The name of an erased run, which is never given again: closed and without records.
    Erased,
    /// Anybody's bytes.
    Raw,
}

impl StreamKind {
    /// Every kind.
    pub const ALL: [StreamKind; 5] =
        [Self::Run, Self::Session, Self::Catalogue, Self::Erased, Self::Raw];

    /// The persisted letter.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Run => "r",
            Self::Session => "s",
            Self::Catalogue => "c",
            Self::Erased => "e",
            Self::Raw => "w",
        }
    }

    fn of_letter(letter: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.letter() == letter)
    }
}

/// The name of a stream: `<tenant>/<kind letter>/<id>`, at most 259 bytes.
///
/// Cheap to clone and to look up. The tenant comes first in every stored key, so that no read or
/// write can reach another tenant's data by a forgotten condition.
#[derive(Clone)]
pub struct StreamKey {
    text: Arc<str>,
    /// Of the text, under this process's seed: a key is looked up about ten times a commit.
    hash: u64,
}

/// Clients choose ids, so the hash is seeded. It never leaves the process.
static SEED: LazyLock<foldhash::fast::RandomState> = LazyLock::new(Default::default);

/// A map by stream.
pub(crate) type KeyMap<V> = HashMap<StreamKey, V, BuildHasherDefault<KeyHasher>>;
/// A set of streams.
pub(crate) type KeySet = HashSet<StreamKey, BuildHasherDefault<KeyHasher>>;

/// Takes the hash that a key has.
#[derive(Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = SEED.hash_one(bytes);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Hash for StreamKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl PartialEq for StreamKey {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.text == other.text
    }
}

impl Eq for StreamKey {}

impl PartialOrd for StreamKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for StreamKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl StreamKey {
    /// The stream of a run's events.
    pub fn run(tenant: &TenantId, run: &RunId) -> Self {
        Self::new(tenant, StreamKind::Run, run.as_str())
    }

    /// The stream of a session's lifecycle records.
    pub fn session(tenant: &TenantId, session: &SessionId) -> Self {
        Self::new(tenant, StreamKind::Session, session.as_str())
    }

    /// The tenant's catalogue of sessions.
    pub fn catalogue(tenant: &TenantId) -> Self {
        Self::new(tenant, StreamKind::Catalogue, "sessions")
    }

    /// The tenant's deletions that are not done.
    pub fn deletions(tenant: &TenantId) -> Self {
        Self::new(tenant, StreamKind::Catalogue, "deletions")
    }

    /// The tombstone of a run. `digest` stands for the run's id: at most 128 letters and digits.
    pub fn erased(tenant: &TenantId, digest: &str) -> Self {
        Self::new(tenant, StreamKind::Erased, digest)
    }

    fn new(tenant: &TenantId, kind: StreamKind, id: &str) -> Self {
        Self::of_text(&[tenant.as_str(), kind.letter(), id].join("/"))
    }

    fn of_text(text: &str) -> Self {
        Self { text: text.into(), hash: SEED.hash_one(text) }
    }

    /// Reads a stored key back. `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        let (tenant, letter, id) = (parts.next()?, parts.next()?, parts.next()?);
        StreamKind::of_letter(letter)?;
        (check_id(tenant).is_ok() && check_id(id).is_ok()).then(|| Self::of_text(text))
    }

    /// The stored form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whose data it is.
    pub fn tenant(&self) -> &str {
        self.text.split('/').next().unwrap_or_default()
    }

    /// What it holds.
    pub fn kind(&self) -> StreamKind {
        self.text.split('/').nth(1).and_then(StreamKind::of_letter).unwrap_or(StreamKind::Raw)
    }

    /// The id within tenant and kind.
    pub fn id(&self) -> &str {
        self.text.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A random number fixed at a stream's creation: tells a stream from an erased one of the same
/// name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub u64);

/// The fence of a stream's writer. Only ever raised, and only by who owns the stream; an append
/// with a lower one is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_inverts_display_and_begins_with_the_tenant() {
        let tenant = TenantId::local();
        let run = RunId::parse("r.1").expect("valid");
        let key = StreamKey::run(&tenant, &run);
        assert_eq!(key.as_str(), "default/r/r.1");
        assert_eq!(StreamKey::parse(key.as_str()), Some(key.clone()));
        assert_eq!((key.tenant(), key.kind(), key.id()), ("default", StreamKind::Run, "r.1"));
    }

    #[test]
    fn o06_a_name_that_leads_out_of_its_place_is_no_stream() {
        for id in [".", "..", "", "/", "a/../b", "../r/a", "a\0"] {
            assert_eq!(StreamKey::parse(&format!("default/r/{id}")), None, "{id:?}");
        }
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        for text in ["", "default", "default/r", "default/x/1", "default/r/", "a/rr/1", "d/r/a/b"] {
            assert_eq!(StreamKey::parse(text), None, "{text}");
        }
    }
}
