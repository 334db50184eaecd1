use super::{file::to_usize, *};

fn disk_with_file() -> (FaultyDisk, Arc<dyn DiskFile>) {
    let disk = FaultyDisk::new(7);
    disk.create_dir(Path::new("/d")).expect("create_dir");
    disk.sync_dir(Path::new("/")).expect("sync_dir");
    let file = disk.create(Path::new("/d/f")).expect("create");
    (disk, file)
}

fn read(disk: &FaultyDisk) -> Option<Vec<u8>> {
    let file = disk.open(Path::new("/d/f")).ok()?;
    let mut into = vec![0; to_usize(file.size().ok()?)];
    file.read_at(&mut into, 0).ok()?;
    Some(into)
}

#[test]
fn a_power_loss_keeps_what_was_synced_and_named() {
    let (disk, file) = disk_with_file();
    file.write_at(b"one", 0).expect("write");
    file.sync().expect("sync");
    assert_eq!(read(&disk.power_loss(Survival::Nothing)), None, "the name was not synced");
    disk.sync_dir(Path::new("/d")).expect("sync_dir");
    file.write_at(b"two", 3).expect("write");
    assert_eq!(read(&disk), Some(b"onetwo".to_vec()));
    assert_eq!(read(&disk.power_loss(Survival::Nothing)), Some(b"one".to_vec()));
}

#[test]
fn a_failed_sync_shows_what_is_not_durable() {
    let (disk, file) = disk_with_file();
    disk.sync_dir(Path::new("/d")).expect("sync_dir");
    file.write_at(b"one", 0).expect("write");
    disk.fail_sync();
    assert!(file.sync().is_err());
    file.sync().expect("a later sync says nothing of it");
    disk.restart();
    assert_eq!(read(&disk), Some(b"one".to_vec()));
    assert_eq!(read(&disk.power_loss(Survival::Torn)), Some(Vec::new()));
    file.write_at(b"one", 0).expect("write");
    file.sync().expect("sync");
    assert_eq!(read(&disk.power_loss(Survival::Nothing)), Some(b"one".to_vec()));
}

#[test]
fn a_crash_fails_everything_after_it() {
    let (disk, file) = disk_with_file();
    disk.crash_at(disk.steps() + 1);
    file.write_at(b"one", 0).expect("write");
    assert!(file.sync().is_err());
    assert!(disk.create(Path::new("/d/g")).is_err());
}

#[test]
fn torn_writes_tear_at_sectors() {
    let (disk, file) = disk_with_file();
    disk.sync_dir(Path::new("/d")).expect("sync_dir");
    file.write_at(&vec![1; 64 * SECTOR], 100).expect("write");
    let image = read(&disk.power_loss(Survival::Torn)).expect("the name is durable");
    let whole = |sector: &[u8]| sector.iter().all(|byte| *byte == sector[0]);
    let sectors: Vec<&[u8]> = image[SECTOR..].chunks_exact(SECTOR).collect();
    assert!(sectors.iter().all(|sector| whole(sector)));
    assert!(sectors.iter().any(|sector| sector[0] == 0), "something is lost");
    assert!(sectors.iter().any(|sector| sector[0] == 1), "something is kept");
}

#[test]
fn a_full_disk_takes_no_more_and_takes_again_when_freed() {
    let (disk, file) = disk_with_file();
    disk.set_free(Some(4));
    file.write_at(b"abc", 0).expect("write");
    assert!(crate::disk::is_full(&file.write_at(b"def", 3).expect_err("full")));
    assert!(crate::disk::is_full(&file.allocate(100).expect_err("full")));
    file.write_at(b"xyz", 0).expect("overwriting needs no room");
    file.set_len(0).expect("set_len");
    assert_eq!(disk.free(Path::new("/")).expect("free"), 4);
    file.allocate(4).expect("allocate");
}

#[test]
fn a_lock_is_free_after_its_holder() {
    let (disk, _) = disk_with_file();
    let lock = disk.lock(Path::new("/d/l")).expect("lock");
    assert!(disk.lock(Path::new("/d/l")).expect("lock").is_none());
    drop(lock);
    assert!(disk.lock(Path::new("/d/l")).expect("lock").is_some());
}
