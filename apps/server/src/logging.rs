// SPDX-License-Identifier: BSD-3-Clause
//! Log lines in Valkey's format: `pid:role date time level text`, to standard output or a file, at `loglevel`. All
//! crates log through `tracing`; this is its only subscriber. `error!` and `warn!` are Valkey's warning, `info!` its
//! notice, `debug!` its verbose, `trace!` its debug.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

static THRESHOLD: AtomicU8 = AtomicU8::new(2);
static IS_REPLICA: AtomicBool = AtomicBool::new(false);
static FILE: Mutex<String> = Mutex::new(String::new());

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Rank of a tracing level: Valkey's debug, verbose, notice, warning.
fn rank(level: &Level) -> u8 {
    match *level {
        Level::TRACE => 0,
        Level::DEBUG => 1,
        Level::INFO => 2,
        _ => 3,
    }
}

/// Sets the threshold by the value of `loglevel`.
pub fn set_level(name: &str) {
    let threshold = match name {
        "debug" => 0,
        "verbose" => 1,
        "warning" => 3,
        "nothing" => 4,
        _ => 2,
    };
    THRESHOLD.store(threshold, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

/// Sets the file (empty: standard output).
pub fn set_file(path: &str) {
    path.clone_into(&mut FILE.lock());
}

/// Tells which letter stands for the role in each line.
pub fn set_replica(is_replica: bool) {
    IS_REPLICA.store(is_replica, Ordering::Relaxed);
}

/// Installs the subscriber. A second call (in tests) changes nothing.
pub fn install() {
    let subscriber = tracing_subscriber::registry().with(Lines);
    // Fails only if a subscriber is there already, which then goes on.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// One line for a moment and a level letter.
fn line(letter: char, text: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = super::os::local_time(now.as_secs() as i64);
    let month = MONTHS.get(time.month as usize).unwrap_or(&"???");
    let role = if IS_REPLICA.load(Ordering::Relaxed) { 'S' } else { 'M' };
    format!(
        "{}:{role} {:02} {month} {} {:02}:{:02}:{:02}.{:03} {letter} {text}\n",
        std::process::id(),
        time.day,
        time.year,
        time.hour,
        time.minute,
        time.second,
        now.subsec_millis(),
    )
}

/// Writes a line whatever the level is; for panics, and for what must be said before the level is known.
pub fn write_line(letter: char, text: &str) {
    let line = line(letter, text);
    let path = FILE.lock();
    // A log that cannot be written must not stop the server.
    if path.is_empty() {
        let _ = std::io::stdout().lock().write_all(line.as_bytes());
    } else if let Ok(mut file) = std::fs::File::options().append(true).create(true).open(path.as_str()) {
        // Opened for each line, so that a rotated file is let go.
        let _ = file.write_all(line.as_bytes());
    }
}

struct Lines;

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        } else {
            let _ = write!(self.0, " {}={value:?}", field.name());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.0.push_str(value);
        } else {
            let _ = write!(self.0, " {}={value}", field.name());
        }
    }
}

/// Libraries explain themselves at levels that mean something else to an operator.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("pando")
}

/// A library says the same thing at most so often: an unreachable peer is reported at each attempt, many a second.
const REPEAT: Duration = Duration::from_secs(10);

/// What libraries said last: where in their code, when, and how often it was left out since.
static SAID: Mutex<Said> = Mutex::new(BTreeMap::new());

type Said = BTreeMap<(&'static str, u32), (Instant, u64)>;

/// Whether to write what a library says; then how often the same was left out before.
fn is_news(said: &mut Said, now: Instant, place: (&'static str, u32)) -> Option<u64> {
    match said.entry(place) {
        Entry::Vacant(new) => {
            new.insert((now, 0));
            Some(0)
        }
        Entry::Occupied(mut known) => {
            let (last, left_out) = known.get_mut();
            if now.saturating_duration_since(*last) < REPEAT {
                *left_out += 1;
                return None;
            }
            *last = now;
            Some(std::mem::take(left_out))
        }
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let rank = rank(metadata.level());
        rank >= THRESHOLD.load(Ordering::Relaxed) && (is_ours(metadata) || rank >= 3)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match THRESHOLD.load(Ordering::Relaxed) {
            0 => LevelFilter::TRACE,
            1 => LevelFilter::DEBUG,
            2 => LevelFilter::INFO,
            3 => LevelFilter::WARN,
            _ => LevelFilter::OFF,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut left_out = 0;
        if !is_ours(metadata) {
            let place = (metadata.file().unwrap_or(metadata.target()), metadata.line().unwrap_or(0));
            match is_news(&mut SAID.lock(), Instant::now(), place) {
                Some(count) => left_out = count,
                None => return,
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        if left_out > 0 {
            let _ = write!(text.0, " ({left_out} more of these before)");
        }
        let letter = ['.', '-', '*', '#'][usize::from(rank(metadata.level()))];
        write_line(letter, &text.0);
    }
}

#[cfg(test)]
mod tests {
    use super::{REPEAT, is_news, line};
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    #[test]
    fn what_libraries_repeat_is_left_out_for_a_while() {
        let mut said = BTreeMap::new();
        let start = Instant::now();
        let (one, other) = (("a.rs", 1), ("a.rs", 2));
        for (after_ms, place, expected) in [
            (0, one, Some(0)),
            (1, one, None),
            (2, one, None),
            (2, other, Some(0)),
            (REPEAT.as_millis() as u64, one, Some(2)),
            (REPEAT.as_millis() as u64 + 1, one, None),
        ] {
            assert_eq!(is_news(&mut said, start + Duration::from_millis(after_ms), place), expected);
        }
    }

    #[test]
    fn a_line_looks_like_valkeys() {
        let line = line('*', "Ready");
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[0], format!("{}:M", std::process::id()));
        assert_eq!(words[4].len(), "12:00:00.000".len());
        assert_eq!(words[5..], ["*", "Ready\n"]);
    }
}
