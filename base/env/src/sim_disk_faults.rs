// SPDX-License-Identifier: BSD-3-Clause
//! What can go wrong with a simulated disk beside a power cut: it is slow, fails, is full, flips bits, or
//! lies about what it has made durable.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Rng, SimDisk};

/// The state of the device.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Every sync (and replacement of a file) fails, as with a dying device.
    pub failing_syncs: bool,
    /// Everything fails, reads too.
    pub failing: bool,
    /// Bytes that can still be written before the device is full.
    pub room: Option<usize>,
    /// Added to each sync.
    pub slow: Duration,
    /// A crash may leave blocks of zeros in what was not synced.
    pub holes: bool,
    /// Syncs say that they have worked and do nothing.
    pub lying: bool,
}

impl Faults {
    /// How many of so many bytes can be written, and the error if those are not all.
    pub fn on_write(&mut self, len: usize) -> (usize, io::Result<()>) {
        if self.failing {
            return (0, Err(io::Error::other("simulated write failure")));
        }
        match &mut self.room {
            Some(room) if *room < len => {
                let allowed = std::mem::take(room);
                (allowed, Err(io::ErrorKind::StorageFull.into()))
            }
            Some(room) => {
                *room -= len;
                (len, Ok(()))
            }
            None => (len, Ok(())),
        }
    }

    pub fn on_sync(&self) -> io::Result<()> {
        match self.failing || self.failing_syncs {
            true => Err(io::Error::other("simulated sync failure")),
            false => Ok(()),
        }
    }

    pub fn on_read(&self) -> io::Result<()> {
        match self.failing {
            true => Err(io::Error::other("simulated read failure")),
            false => Ok(()),
        }
    }
}

impl SimDisk {
    /// Makes every later sync fail (or work again).
    pub fn set_failing_syncs(&self, failing: bool) {
        self.state().faults.failing_syncs = failing;
    }

    /// Makes every later operation fail (or work again).
    pub fn set_failing(&self, failing: bool) {
        self.state().faults.failing = failing;
    }

    /// Leaves room for so many bytes; `None` for any number.
    pub fn set_room(&self, bytes: Option<usize>) {
        self.state().faults.room = bytes;
    }

    /// Every sync takes so much longer.
    pub fn set_slow(&self, by: Duration) {
        self.state().faults.slow = by;
    }

    /// Crashes may leave blocks of zeros in what was not synced, beside cutting it.
    pub fn set_holes(&self, holes: bool) {
        self.state().faults.holes = holes;
    }

    /// Syncs do nothing from here on and say that they have worked: for tests that want to see what notices.
    pub fn set_lying(&self, lying: bool) {
        self.state().faults.lying = lying;
    }

    /// Flips one bit in the first half of a file whose path ends with this text, as it is on the device; says
    /// which. None: there is no such file with content.
    pub fn flip_bit(&self, end: &str, rng: &dyn Rng) -> Option<(PathBuf, u64)> {
        let mut state = self.state();
        let is_meant = |path: &Path| path.to_string_lossy().ends_with(end);
        let has_bytes = |id: &u64| state.files.get(id).is_some_and(|file| !file.durable.is_empty());
        let found: Vec<(PathBuf, u64)> = state
            .names
            .iter()
            .filter(|(path, id)| is_meant(path) && has_bytes(id))
            .map(|(path, id)| (path.clone(), *id))
            .collect();
        let (path, id) = found.get(rng.below(found.len() as u64) as usize)?.clone();
        let file = state.files.get_mut(&id)?;
        // Damage in the last batch of a log cannot be told from a write that was cut off.
        let at = rng.below((file.durable.len() as u64).div_ceil(2));
        let mask = 1u8 << rng.below(8);
        file.durable[at as usize] ^= mask;
        if let Some(byte) = file.bytes.get_mut(at as usize) {
            *byte ^= mask;
        }
        Some((path, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Disk, SeededRng};

    #[tokio::test]
    async fn a_full_disk_takes_what_fits_and_says_so() {
        let (disk, path) = (SimDisk::new(), Path::new("/d/file"));
        let file = disk.open_append(path).await.unwrap();
        disk.set_room(Some(3));
        assert_eq!(file.append(b"abcdef".to_vec()).await.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.read(path).await.unwrap(), b"abc");
        assert!(disk.replace(Path::new("/d/other"), b"x".to_vec()).await.is_err());
        disk.set_room(None);
        file.append(b"g".to_vec()).await.unwrap();
        assert_eq!(disk.read(path).await.unwrap(), b"abcg");
    }

    #[tokio::test]
    async fn a_disk_that_lies_loses_what_was_synced() {
        let (disk, path) = (SimDisk::new(), Path::new("/d/file"));
        disk.replace(path, b"old".to_vec()).await.unwrap();
        disk.set_lying(true);
        disk.replace(path, b"new".to_vec()).await.unwrap();
        assert_eq!(disk.read(path).await.unwrap(), b"new");
        disk.crash(&SeededRng::new(1));
        assert_eq!(disk.read(path).await.unwrap(), b"old");
    }

    #[tokio::test]
    async fn one_bit_flips() {
        let (disk, path) = (SimDisk::new(), Path::new("/d/file"));
        disk.replace(path, vec![0; 9]).await.unwrap();
        assert!(disk.flip_bit("other", &SeededRng::new(1)).is_none());
        let (_, at) = disk.flip_bit("file", &SeededRng::new(1)).unwrap();
        let bytes = disk.read(path).await.unwrap();
        assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        assert_ne!(bytes[at as usize], 0);
    }
}
