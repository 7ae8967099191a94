// SPDX-License-Identifier: BSD-3-Clause
//! The replication log: order, boundaries, retention, and many appenders at once.

use pando_replication::log::{Feed, LogLimits, LogReader, ReadError, ReplicationLog};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const SELECT_0: &[u8] = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n";
const SELECT_12: &[u8] = b"*2\r\n$6\r\nSELECT\r\n$2\r\n12\r\n";

fn own_log(backlog_bytes: u64, reader_lag_bytes_max: u64) -> Arc<ReplicationLog> {
    let log = ReplicationLog::new(LogLimits { backlog_bytes, reader_lag_bytes_max });
    log.set_feed(Feed::Own);
    Arc::new(log)
}

fn drain(reader: &mut LogReader) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let bytes = reader.peek().expect("reader is within the log");
        if bytes.is_empty() {
            return all;
        }
        all.extend_from_slice(bytes);
        let n = bytes.len();
        reader.consume(n);
    }
}

#[test]
fn nobody_pays_and_nothing_is_kept_while_off() {
    let log = Arc::new(ReplicationLog::new(LogLimits { backlog_bytes: 1024, reader_lag_bytes_max: 0 }));
    assert!(!log.is_active());
    assert_eq!(log.append(0, b"x"), 0);
    assert_eq!(log.offset(), 0);
}

#[test]
fn a_select_is_written_when_the_database_changes() {
    let log = own_log(1 << 20, 0);
    let mut reader = log.reader(0).expect("start");
    log.append(0, b"a");
    log.append(0, b"b");
    log.append_plain(b"ping");
    log.append(12, b"c");
    log.forget_db();
    let end = log.append(12, b"d");
    let expected = [SELECT_0, b"abping", SELECT_12, b"c", SELECT_12, b"d"].concat();
    assert_eq!(drain(&mut reader), expected);
    assert_eq!((end, log.offset(), reader.offset()), (expected.len() as u64, end, end));
}

#[test]
fn a_transaction_has_its_select_inside() {
    let log = own_log(1 << 20, 0);
    let mut reader = log.reader(0).expect("start");
    log.append_transaction(12, 12, b"ab");
    log.append_transaction(12, 0, b"cd");
    let end = log.append_transaction(0, 12, b"ef");
    let multi = b"*1\r\n$5\r\nMULTI\r\n".as_slice();
    let expected = [multi, SELECT_12, b"ab", multi, b"cd", multi, b"ef"].concat();
    assert_eq!(drain(&mut reader), expected);
    assert_eq!(end, expected.len() as u64);
}

#[test]
fn large_appends_cross_blocks_and_old_blocks_go() {
    let log = own_log(300_000, 1_500_000);
    let mut lagging = log.reader(0).expect("start");
    let mut reader = log.reader(0).expect("start");
    let piece: Vec<u8> = (0..700_000u32).map(|i| (i * 7 % 251) as u8).collect();
    log.append_plain(&piece);
    assert_eq!(drain(&mut reader), piece);
    for _ in 0..10 {
        log.append_plain(&piece);
        assert_eq!(drain(&mut reader), piece);
    }
    assert_eq!(lagging.peek(), Err(ReadError::Gone));
    assert_eq!(log.first_offset(), log.offset() - 300_000);
    assert_eq!(log.reader(0).err(), Some(ReadError::OutOfRange));
    assert_eq!(log.reader(log.offset() + 1).err(), Some(ReadError::OutOfRange));
    let mut late = log.reader(log.first_offset()).expect("in the backlog");
    assert_eq!(drain(&mut late), piece[piece.len() - 300_000..]);
}

#[test]
fn a_reset_starts_anywhere_and_cuts_readers_off() {
    let log = own_log(1 << 20, 0);
    let mut old = log.reader(0).expect("start");
    log.append(0, b"old");
    let start = 5_000_000_123;
    log.reset(start);
    log.set_feed(Feed::Relay);
    assert_eq!(old.peek(), Err(ReadError::Gone));
    assert_eq!(log.append(0, b"ignored: a relay takes no own writes"), start);
    assert_eq!((log.offset(), log.first_offset()), (start, start));
    let mut reader = log.reader(start).expect("start");
    for _ in 0..3 {
        let piece = vec![7u8; 300_000];
        log.relay(&piece);
        assert_eq!(drain(&mut reader), piece);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_appenders_and_a_reader_sees_one_ordered_stream() {
    const THREADS: u32 = 4;
    const EACH: u32 = 20_000;
    let log = own_log(1 << 20, 0);
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    for _ in 0..2 {
        let mut reader = log.reader(0).expect("start");
        let done = done.clone();
        let log = log.clone();
        readers.push(tokio::spawn(async move {
            let mut bytes = Vec::new();
            while !(done.load(Ordering::Acquire) && reader.offset() == log.offset()) {
                let wait = tokio::time::timeout(std::time::Duration::from_millis(5), reader.ready()).await;
                if wait.is_ok() {
                    let run = reader.peek().expect("within the log");
                    bytes.extend_from_slice(run);
                    let n = run.len();
                    reader.consume(n);
                }
            }
            bytes
        }));
    }
    let appenders: Vec<_> = (0..THREADS)
        .map(|t| {
            let log = log.clone();
            std::thread::spawn(move || {
                let mut ends = Vec::new();
                for i in 0..EACH {
                    // A frame: length, thread, number, padding of varying length.
                    let pad = (i % 97) as usize;
                    let mut frame = vec![0u8; 12 + pad];
                    frame[0..4].copy_from_slice(&((12 + pad) as u32).to_le_bytes());
                    frame[4..8].copy_from_slice(&t.to_le_bytes());
                    frame[8..12].copy_from_slice(&i.to_le_bytes());
                    frame[12..].fill(t as u8);
                    ends.push(log.append_plain(&frame));
                }
                ends
            })
        })
        .collect();
    for appender in appenders {
        let ends = appender.join().expect("appender");
        assert!(ends.is_sorted());
    }
    done.store(true, Ordering::Release);
    let first = readers.remove(0).await.expect("reader");
    assert_eq!(first, readers.remove(0).await.expect("reader"));
    let mut next = [0u32; THREADS as usize];
    let mut rest = &first[..];
    while !rest.is_empty() {
        let word = |i: usize| u32::from_le_bytes(rest[i..i + 4].try_into().expect("4 bytes"));
        let (len, t, i) = (word(0) as usize, word(4), word(8));
        assert_eq!(next[t as usize], i, "frames of one thread stay in order");
        assert!(rest[12..len].iter().all(|b| *b == t as u8));
        next[t as usize] += 1;
        rest = &rest[len..];
    }
    assert_eq!(next, [EACH; THREADS as usize]);
}

/// Run with `--ignored --nocapture`: nanoseconds per append, alone and with company, back to back and with some work
/// between two appends, beside a mutex around one copy.
#[test]
#[ignore = "a measurement"]
fn measure_append() {
    let frame = b"*3\r\n$3\r\nSET\r\n$10\r\nkey:000001\r\n$16\r\nxxxxxxxxxxxxxxxx\r\n";
    for (threads, spins) in [(1, 0), (2, 0), (4, 0), (1, 100), (2, 100), (4, 100)] {
        let log = own_log(10 << 20, 0);
        measure("reserve/copy/publish", threads, spins, &|| _ = log.append(0, frame));
        let mutex = parking_lot::Mutex::new((vec![0u8; 10 << 20], 0usize));
        measure("mutex and copy      ", threads, spins, &|| {
            let mut g = mutex.lock();
            let at = g.1 % ((10 << 20) - 100);
            g.0[at..at + frame.len()].copy_from_slice(frame);
            g.1 = at + frame.len();
        });
    }
}

fn measure(name: &str, threads: u32, spins: u32, append: &(dyn Fn() + Sync)) {
    let each = 2_000_000 / threads;
    let start = std::time::Instant::now();
    std::thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(|| {
                for _ in 0..each {
                    append();
                    for i in 0..spins {
                        std::hint::black_box(i);
                    }
                }
            });
        }
    });
    let ns = start.elapsed().as_nanos() as f64 / f64::from(each * threads);
    println!("{name}, {threads} threads, {spins} spins between: {ns:.1} ns of wall time per append");
}
