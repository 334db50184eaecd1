//! The suite, over the log as it runs and over one that is driven.

use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

use super::super::{Durability, Log, LogOptions, Step, Writer};
use crate::{
    api::Journal,
    conformance::{Fixture, ManualClock},
    disk::FaultyDisk,
};

/// Threads, a real disk, level `disk`, segments of the usual kind but small.
struct Threaded {
    _dir: TempDir,
    clock: Arc<ManualClock>,
    options: LogOptions,
    log: Arc<Log>,
}

impl Threaded {
    fn new(durability: Durability) -> Self {
        Self::with(durability, 16 << 10, u64::MAX)
    }

    /// Everything that can be packed is packed at once.
    fn packing() -> Self {
        Self::with(Durability::Os, 4 << 10, 0)
    }

    fn with(durability: Durability, segment_bytes: u64, hot_bytes: u64) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let clock = Arc::new(ManualClock::new(1_000));
        let fatal = Arc::new(|why: &str| panic!("the log failed: {why}"));
        let mut options = LogOptions::new(dir.path().join("data"), clock.clone(), fatal);
        (options.segment_bytes, options.hot_bytes) = (segment_bytes, hot_bytes);
        options.reserve_bytes = 1 << 10;
        options.durability = durability;
        let log = Log::open(options.clone()).expect("a new log");
        Self { _dir: dir, clock, options, log }
    }
}

impl Fixture for Threaded {
    fn journal(&self) -> Arc<dyn Journal> {
        self.log.clone()
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn reopen(&mut self) {
        self.log.close();
        self.log = Log::open(self.options.clone()).expect("the log again");
    }
}

/// No threads, a disk in memory, but for the cold store.
struct Stepped {
    _dir: TempDir,
    clock: Arc<ManualClock>,
    options: LogOptions,
    log: Arc<Log>,
    writer: Mutex<Writer>,
}

impl Stepped {
    fn new(hot_bytes: u64) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let clock = Arc::new(ManualClock::new(1_000));
        let fatal = Arc::new(|why: &str| panic!("the log failed: {why}"));
        let mut options = LogOptions::new("/data".into(), clock.clone(), fatal);
        options.disk = Arc::new(FaultyDisk::new(1));
        options.cold = dir.path().join("cold.db");
        options.hot_bytes = hot_bytes;
        options.segment_bytes = 4 << 10;
        options.reserve_bytes = 1 << 10;
        options.seed = Some(3);
        let (log, writer) = Log::open_manual(options.clone()).expect("a new log");
        Self { _dir: dir, clock, options, log, writer: Mutex::new(writer) }
    }
}

impl Fixture for Stepped {
    fn journal(&self) -> Arc<dyn Journal> {
        self.log.clone()
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn reopen(&mut self) {
        self.log.close();
        self.settle();
        let (log, writer) = Log::open_manual(self.options.clone()).expect("the log again");
        (self.log, self.writer) = (log, Mutex::new(writer));
    }

    fn settle(&self) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        while writer.step() == Step::Worked {}
        while self.log.step_keeper() == Step::Worked {}
        while self.log.step_packer() == Step::Worked {}
    }
}

mod on_a_real_disk {
    use super::{Durability, Threaded};
    crate::journal_conformance!(Threaded::new(Durability::Disk));
}

mod at_level_os {
    use super::{Durability, Threaded};
    crate::journal_conformance!(Threaded::new(Durability::Os));
}

mod driven_by_the_test {
    use super::Stepped;
    crate::journal_conformance!(Stepped::new(u64::MAX));
}

mod packed {
    use super::Stepped;
    crate::journal_conformance!(Stepped::new(0));
}

mod packed_beside {
    use super::Threaded;
    crate::journal_conformance!(Threaded::packing());
}
