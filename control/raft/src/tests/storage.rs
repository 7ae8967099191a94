// SPDX-License-Identifier: BSD-3-Clause
//! The log file and the snapshot on their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, RaftLogReader, StorageError};
use pando_env::{Disk, Env, SeededRng, SimDisk, TcpNet, VirtualClock};
use pando_topology::NodeId;

use super::world::{cluster_id, join};
use crate::log::{LOG_FILE, Limits, Log};
use crate::machine::{Machine, Store};
use crate::record;
use crate::root_machine::{self, RootMachine};
use crate::snapshot::{self, Pair, Pairs};
use crate::types::{Entry, Membership, Payload, RootAddress, SnapshotMeta, StoredMembership, Types, Vote, log_id};

const LIMITS: Limits = Limits { bytes_max: 1 << 20, entries_max: 1000 };

fn env(disk: &SimDisk) -> Env {
    Env {
        net: Arc::new(TcpNet),
        disk: Arc::new(disk.clone()),
        clock: Arc::new(VirtualClock::new(0, 0)),
        rng: Arc::new(SeededRng::new(1)),
    }
}

fn path() -> PathBuf {
    Path::new("/roots").join(LOG_FILE)
}

async fn open(disk: &SimDisk) -> std::io::Result<Log> {
    Log::open(&env(disk), Path::new("/roots"), cluster_id(), LIMITS, false, None).await
}

struct Builder;

impl StoreBuilder<Types, Log, Store, ()> for Builder {
    async fn build(&self) -> Result<((), Log, Store), StorageError<Types>> {
        let disk = SimDisk::new();
        let log = open(&disk).await.unwrap();
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let store = Store::open(&disk, Path::new("/roots"), Box::new(Ignoring)).await.unwrap();
        Ok(((), log, store))
    }
}

/// The suite applies entries in any order; the real machine would not stand for it.
struct Ignoring;

impl Machine for Ignoring {
    fn apply(&mut self, _index: u64, _fields: &[Bytes]) -> Result<Vec<u8>, String> {
        Ok(Vec::new())
    }
    fn skip(&mut self, _index: u64) {}
    fn freeze(&self) -> Box<dyn ExactSizeIterator<Item = Pair> + Send> {
        Box::new(std::iter::empty())
    }
    fn restore(&mut self, _pairs: Pairs) -> Result<(), String> {
        Ok(())
    }
    fn publish(&mut self) {}
}

#[tokio::test]
async fn the_library_finds_no_fault_in_the_storage() {
    Suite::test_all(Builder).await.unwrap();
}

fn entry(term: u64, index: u64) -> Entry {
    let payload = match index % 3 {
        0 => EntryPayload::Blank,
        1 => EntryPayload::Normal(Payload(vec![Bytes::from_static(b"kind"), Bytes::from(format!("x\r\n{index}"))])),
        _ => {
            let address = RootAddress { node: NodeId::from_bytes([7; 20]), host: "h".to_owned(), port: 1 };
            let nodes = BTreeMap::from([(5, address)]);
            EntryPayload::Membership(Membership::new(vec![[5].into()], nodes).unwrap())
        }
    };
    Entry { log_id: log_id(term, index), payload }
}

async fn entries(log: &mut Log) -> Vec<Entry> {
    log.try_get_log_entries(..).await.unwrap()
}

/// A log with entries 1 to 9 of term 1, the last three taken back and written again in term 2.
async fn write_sample(disk: &SimDisk) -> Vec<Entry> {
    let mut log = open(disk).await.unwrap();
    log.save_vote(&Vote::new(1, 5)).await.unwrap();
    log.blocking_append((1..=9).map(|index| entry(1, index))).await.unwrap();
    log.truncate_after(Some(log_id(1, 6))).await.unwrap();
    log.save_vote(&Vote::new_committed(2, 5)).await.unwrap();
    log.blocking_append((7..=8).map(|index| entry(2, index))).await.unwrap();
    log.save_committed(Some(log_id(2, 7))).await.unwrap();
    log.purge(log_id(1, 2)).await.unwrap();
    log.save_vote(&Vote::new_committed(3, 5)).await.unwrap();
    entries(&mut log).await
}

#[tokio::test]
async fn a_log_opened_again_is_the_same() {
    let disk = SimDisk::new();
    let written = write_sample(&disk).await;
    assert_eq!(written.iter().map(|e| e.log_id.index).collect::<Vec<_>>(), [3, 4, 5, 6, 7, 8]);
    disk.crash(&SeededRng::new(3));
    let mut log = open(&disk).await.unwrap();
    assert_eq!(entries(&mut log).await, written);
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(3, 5)));
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(2, 7)));
    let ends = log.get_log_state().await.unwrap();
    assert_eq!((ends.last_purged_log_id, ends.last_log_id), (Some(log_id(1, 2)), Some(log_id(2, 8))));
    // It goes on from there.
    log.blocking_append([entry(3, 9)]).await.unwrap();
    drop(log);
    let mut log = open(&disk).await.unwrap();
    assert_eq!(entries(&mut log).await.len(), 7);
}

#[tokio::test]
async fn a_torn_end_is_cut_and_damage_before_it_is_fatal() {
    let disk = SimDisk::new();
    write_sample(&disk).await;
    let file = disk.read(&path()).await.unwrap();
    let whole = record::parse(&file).unwrap();
    assert_eq!(whole.good_bytes, file.len() as u64);
    let mut batch_ends = 0;
    for length in 0..file.len() {
        match record::parse(&file[..length]) {
            Ok(parsed) => {
                assert!(parsed.good_bytes <= length as u64);
                batch_ends += usize::from(parsed.good_bytes == length as u64);
            }
            // Only the first batch, which is written with the file, must be whole.
            Err(e) => assert!(length < 200, "cut at {length}: {e}"),
        }
    }
    assert!(batch_ends >= 6, "{batch_ends}");
    let last_batch =
        (0..file.len()).rev().find(|n| record::parse(&file[..*n]).is_ok_and(|p| p.good_bytes == *n as u64));
    let last_batch = last_batch.expect("it has several");
    let mut taken_for_torn = 0;
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 0x20;
        let result = record::parse(&damaged);
        if at < last_batch {
            assert!(result.is_err(), "damage at {at} was not noticed");
        } else {
            let parsed = result.expect("the end is judged by who opens it");
            assert_eq!(parsed.good_bytes, last_batch as u64);
            assert_ne!(parsed.end, record::End::Whole, "damage at {at} was not noticed");
            taken_for_torn += usize::from(parsed.end == record::End::Torn);
        }
    }
    // Only what looks like a longer argument or line than there is.
    assert!(taken_for_torn <= 8, "{taken_for_torn} of {}", file.len() - last_batch);
    for length in last_batch + 1..file.len() {
        assert_eq!(record::parse(&file[..length]).expect("a torn end").end, record::End::Torn, "cut at {length}");
    }
    // A group of one starts without a damaged end, a member of a larger one does not.
    let mut damaged = file.clone();
    damaged[file.len() - 20] ^= 0x20;
    disk.overwrite(&path(), damaged.clone());
    assert_eq!(open(&disk).await.err().map(|error| error.kind()), Some(std::io::ErrorKind::InvalidData));
    Log::open(&env(&disk), Path::new("/roots"), cluster_id(), LIMITS, true, None).await.unwrap();
    // A whole page of zeros in the middle.
    let mut damaged = file.clone();
    damaged[300..500].fill(0);
    disk.overwrite(&path(), damaged);
    assert!(open(&disk).await.is_err());
    // A torn end is cut from the file, too.
    disk.overwrite(&path(), file[..file.len() - 3].to_vec());
    let mut log = open(&disk).await.unwrap();
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(2, 5)), "the third vote was torn");
    drop(log);
    assert_eq!(record::parse(&disk.read(&path()).await.unwrap()).unwrap().end, record::End::Whole);
    // The file of another cluster is not ours.
    let other = pando_topology::ClusterId::from_bytes([9; 20]);
    assert!(Log::open(&env(&disk), Path::new("/roots"), other, LIMITS, false, None).await.is_err());
}

#[tokio::test]
async fn many_appends_share_a_sync() {
    let disk = SimDisk::with_sync_latency(std::time::Duration::from_millis(5));
    let mut log = open(&disk).await.unwrap();
    let before = disk.sync_count();
    let mut waits = Vec::new();
    for index in 1..=100 {
        let (tx, rx) = openraft_signal();
        log.append([entry(1, index)], openraft::storage::IOFlushed::signal(tx)).await.unwrap();
        assert_eq!(entries(&mut log).await.len(), index as usize, "readable at once");
        waits.push(rx);
    }
    for wait in waits {
        wait.await.unwrap().unwrap();
    }
    assert!(disk.sync_count() - before <= 3, "{} syncs", disk.sync_count() - before);
}

type Signal = std::io::Result<()>;

fn openraft_signal()
-> (openraft::alias::OneshotSenderOf<Types, Signal>, openraft::alias::OneshotReceiverOf<Types, Signal>) {
    use openraft::type_config::TypeConfigExt;
    Types::oneshot()
}

/// Freezes the format of the log: a changed byte means files of older builds cannot be read.
#[test]
fn golden_log_bytes() {
    let mut out = Vec::new();
    record::put_owner(&mut out, record::Owner { cluster: cluster_id(), voter: 7 });
    record::put_vote(&mut out, &Vote::new_committed(2, 7));
    record::put_entry(&mut out, &entry(2, 3)).unwrap();
    record::put_entry(&mut out, &entry(2, 4)).unwrap();
    record::put_truncate(&mut out, 4, 5);
    record::put_committed(&mut out, &log_id(2, 3));
    record::put_purged(&mut out, &log_id(2, 3));
    record::close_batch(&mut out, 0);
    let cluster = "c1".repeat(20);
    let expected = format!(
        "*8\r\n$4\r\nHSET\r\n$14\r\nmetaspace:raft\r\n$6\r\nformat\r\n$1\r\n1\r\n$7\r\ncluster\r\n$40\r\n{cluster}\r\n$5\r\nvoter\r\n$1\r\n7\r\n\
         *4\r\n$4\r\nHSET\r\n$14\r\nmetaspace:raft\r\n$4\r\nvote\r\n$5\r\n2 7 1\r\n\
         *6\r\n$4\r\nHSET\r\n$17\r\nmetaspace:entry:3\r\n$9\r\nraft-term\r\n$1\r\n2\r\n$10\r\nraft-blank\r\n$1\r\n1\r\n\
         *6\r\n$4\r\nHSET\r\n$17\r\nmetaspace:entry:4\r\n$9\r\nraft-term\r\n$1\r\n2\r\n$4\r\nkind\r\n$4\r\nx\r\n4\r\n\
         *3\r\n$3\r\nDEL\r\n$17\r\nmetaspace:entry:4\r\n$17\r\nmetaspace:entry:5\r\n\
         *4\r\n$4\r\nHSET\r\n$14\r\nmetaspace:raft\r\n$9\r\ncommitted\r\n$3\r\n2 3\r\n\
         *4\r\n$4\r\nHSET\r\n$14\r\nmetaspace:raft\r\n$6\r\npurged\r\n$3\r\n2 3\r\n\
         #pando-raft 0 528 335147d0\r\n"
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn a_snapshot_image_round_trips_and_notices_damage() {
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(3, 42)),
        last_membership: StoredMembership::new(
            Some(log_id(1, 1)),
            Membership::new(vec![[5].into()], [(5, RootAddress::default())].into_iter().collect::<BTreeMap<_, _>>())
                .unwrap(),
        ),
    };
    let (mut machine, _map) = RootMachine::new();
    for number in 0..3 {
        machine.apply(number + 1, &root_machine::encode(&join(number)).0).unwrap();
    }
    let pairs = machine.freeze().collect();
    let image = snapshot::encode(&meta, &pairs).unwrap();
    assert_eq!(snapshot::decode(&image).unwrap(), (meta, pairs.clone()));
    let (mut other, map) = RootMachine::new();
    other.restore(pairs).unwrap();
    other.publish();
    assert_eq!(map.borrow().nodes().len(), 3);
    for at in 0..image.len() {
        let mut damaged = image.to_vec();
        damaged[at] ^= 1;
        assert!(snapshot::decode(&damaged).is_err(), "damage at {at} was not noticed");
        assert!(snapshot::decode(&image[..at]).is_err());
    }
}
