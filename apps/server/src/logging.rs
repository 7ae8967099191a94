// SPDX-License-Identifier: BSD-3-Clause
//! Log lines in Valkey's format: `pid:role date time level text`, to standard output or a file, at `loglevel`. All
//! crates log through `tracing`; this is its only subscriber. `error!` and `warn!` are Valkey's warning, `info!` its
//! notice, `debug!` its verbose, `trace!` its debug.

use parking_lot::Mutex;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
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
        let mut text = Text(String::new());
        event.record(&mut text);
        let letter = ['.', '-', '*', '#'][usize::from(rank(event.metadata().level()))];
        write_line(letter, &text.0);
    }
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_line_looks_like_valkeys() {
        let line = line('*', "Ready");
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[0], format!("{}:M", std::process::id()));
        assert_eq!(words[4].len(), "12:00:00.000".len());
        assert_eq!(words[5..], ["*", "Ready\n"]);
    }
}
