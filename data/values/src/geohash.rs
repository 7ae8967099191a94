// SPDX-License-Identifier: BSD-3-Clause
//! Geohashes: positions on earth as interleaved bits of longitude and latitude, kept as scores of sorted sets, and distances
//! on a sphere, with Valkey's constants and order of operations, so that every bit is the same.
//!
//! Not here: shapes to search in, commands. Called by the geo commands.

use std::f64::consts::PI;

/// Longitudes that can be hashed reach from minus this to this.
pub const LONGITUDE_MAX: f64 = 180.0;
/// Latitudes that can be hashed reach from minus this to this: Web Mercator's limits.
pub const LATITUDE_MAX: f64 = 85.05112878;
/// Bits of each coordinate in a score.
pub const STEP_MAX: u32 = 26;
/// The quadratic mean radius of the earth in metres.
pub const EARTH_RADIUS_M: f64 = 6372797.560856;

const RADIANS: f64 = PI / 180.0;

/// Degrees as radians.
pub fn to_radians(degrees: f64) -> f64 {
    degrees * RADIANS
}

/// Radians as degrees.
pub fn to_degrees(radians: f64) -> f64 {
    radians / RADIANS
}

/// Degrees of longitude and latitude.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Position {
    /// East of Greenwich.
    pub longitude: f64,
    /// North of the equator.
    pub latitude: f64,
}

impl Position {
    /// Whether the position can be hashed.
    pub fn is_valid(self) -> bool {
        self.longitude >= -LONGITUDE_MAX
            && self.longitude <= LONGITUDE_MAX
            && self.latitude >= -LATITUDE_MAX
            && self.latitude <= LATITUDE_MAX
    }

    /// The position that a score stands for: the middle of its cell. Every score stands for one.
    pub fn of_score(score: f64) -> Position {
        let area = Cell { bits: score_bits(score), step: STEP_MAX }.area();
        let middle = |(low, high): (f64, f64), limit: f64| ((low + high) / 2.0).clamp(-limit, limit);
        Position { longitude: middle(area.longitude, LONGITUDE_MAX), latitude: middle(area.latitude, LATITUDE_MAX) }
    }

    /// The score that stands for the position.
    pub fn to_score(self) -> f64 {
        Cell::of(self, STEP_MAX).bits as f64
    }

    /// Metres to another position.
    pub fn distance_m(self, other: Position) -> f64 {
        let half_longitude = ((to_radians(other.longitude) - to_radians(self.longitude)) / 2.0).sin();
        // On one meridian (up to 6 nm) the formula is simpler.
        if half_longitude.abs() <= 1e-15 {
            return latitude_distance_m(self.latitude, other.latitude);
        }
        let (from, to) = (to_radians(self.latitude), to_radians(other.latitude));
        let half_latitude = ((to - from) / 2.0).sin();
        let haversine = half_latitude * half_latitude + from.cos() * to.cos() * half_longitude * half_longitude;
        // Opposite ends of the earth may round to a little over one, which is no sine.
        2.0 * EARTH_RADIUS_M * haversine.sqrt().min(1.0).asin()
    }

    /// The eleven characters that other systems know the position by; the last one is always `0`.
    pub fn to_text(self) -> [u8; 11] {
        const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        // Others hash latitudes up to the poles.
        let bits = interleave(self.fraction(90.0, STEP_MAX));
        let mut text = [ALPHABET[0]; 11];
        for (at, character) in text[..10].iter_mut().enumerate() {
            *character = ALPHABET[(bits >> (52 - (at as u32 + 1) * 5)) as usize & 31];
        }
        text
    }

    /// Latitude and longitude as fixed point numbers of `step` bits.
    fn fraction(self, latitude_max: f64, step: u32) -> (u32, u32) {
        let cells = (1u64 << step) as f64;
        let latitude = (self.latitude - -latitude_max) / (latitude_max - -latitude_max);
        let longitude = (self.longitude - -LONGITUDE_MAX) / (LONGITUDE_MAX - -LONGITUDE_MAX);
        ((latitude * cells) as u32, (longitude * cells) as u32)
    }
}

/// Metres between two latitudes on one meridian.
pub fn latitude_distance_m(one: f64, other: f64) -> f64 {
    EARTH_RADIUS_M * (to_radians(other) - to_radians(one)).abs()
}

/// A score as bits, as the reference server's compiler converts it: scores that are no geohash stand for some cell too.
fn score_bits(score: f64) -> u64 {
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    if score < TWO_63 {
        (score as i64) as u64
    } else if score < 2.0 * TWO_63 {
        score as u64
    } else {
        0
    }
}

/// The range of longitudes and latitudes of a cell, in degrees: lower and upper end.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Area {
    /// West and east.
    pub longitude: (f64, f64),
    /// South and north.
    pub latitude: (f64, f64),
}

/// A rectangle of the grid with 2^`step` columns and rows.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Cell {
    /// Row and column, interleaved.
    pub bits: u64,
    /// Bits of each coordinate.
    pub step: u32,
}

impl Cell {
    /// The cell that a position lies in.
    pub fn of(position: Position, step: u32) -> Cell {
        Cell { bits: interleave(position.fraction(LATITUDE_MAX, step)), step }
    }

    /// Its borders.
    pub fn area(self) -> Area {
        let cells = (1u64 << self.step) as f64;
        let (latitude, longitude) = deinterleave(self.bits);
        // The upper border wraps like the 32-bit number that it is.
        let range = |cell: u32, limit: f64| {
            let scale = limit - -limit;
            let border = |cell: u32| -limit + (f64::from(cell) / cells) * scale;
            (border(cell), border(cell.wrapping_add(1)))
        };
        Area { longitude: range(longitude, LONGITUDE_MAX), latitude: range(latitude, LATITUDE_MAX) }
    }

    /// The scores in the cell: from the first up to, and without, the second.
    pub fn scores(self) -> (f64, f64) {
        let shift = 2 * (STEP_MAX - self.step);
        ((self.bits << shift) as f64, ((self.bits + 1) << shift) as f64)
    }

    /// The cell some columns east (negative: west) and rows north (negative: south), round the edges of the grid.
    pub fn moved(self, east: i8, north: i8) -> Cell {
        const ROWS: u64 = 0x5555_5555_5555_5555;
        let used = u64::MAX >> (64 - 2 * self.step);
        let shift = |bits: u64, own: u64, by: i8| {
            // The bits of the other coordinate are ones for a carry to pass, or zeros for a borrow.
            let (others, one) = (!own & used, own & own.wrapping_neg());
            match by {
                0 => bits & own,
                1.. => ((bits & own) | others).wrapping_add(one) & own & used,
                _ => (bits & own & used).wrapping_sub(one) & own & used,
            }
        };
        let rows = shift(self.bits, ROWS, north);
        let columns = shift(self.bits, ROWS << 1, east);
        Cell { bits: rows | columns, step: self.step }
    }
}

/// Bits of the first at even places, of the second at odd ones.
fn interleave((even, odd): (u32, u32)) -> u64 {
    spread(even) | spread(odd) << 1
}

fn spread(bits: u32) -> u64 {
    let mut wide = u64::from(bits);
    for (shift, mask) in [
        (16, 0x0000_FFFF_0000_FFFF),
        (8, 0x00FF_00FF_00FF_00FF),
        (4, 0x0F0F_0F0F_0F0F_0F0F),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        wide = (wide | wide << shift) & mask;
    }
    wide
}

fn deinterleave(bits: u64) -> (u32, u32) {
    (gather(bits), gather(bits >> 1))
}

fn gather(bits: u64) -> u32 {
    let mut wide = bits & 0x5555_5555_5555_5555;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0F0F_0F0F_0F0F_0F0F),
        (4, 0x00FF_00FF_00FF_00FF),
        (8, 0x0000_FFFF_0000_FFFF),
        (16, 0x0000_0000_FFFF_FFFF),
    ] {
        wide = (wide | wide >> shift) & mask;
    }
    wide as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const PALERMO: Position = Position { longitude: 13.361389, latitude: 38.115556 };
    const CATANIA: Position = Position { longitude: 15.087269, latitude: 37.502669 };

    #[test]
    fn known_positions() {
        assert_eq!(PALERMO.to_score(), 3479099956230698.0);
        assert_eq!(CATANIA.to_score(), 3479447370796909.0);
        let decoded = Position::of_score(PALERMO.to_score());
        assert_eq!(
            format!("{:.17} {:.17}", decoded.longitude, decoded.latitude),
            "13.36138933897018433 38.11555639549629859"
        );
        assert_eq!(&decoded.to_text(), b"sqc8b49rny0");
        let other = Position::of_score(CATANIA.to_score());
        assert_eq!(format!("{:.4}", decoded.distance_m(other)), "166274.1516");
    }

    #[test]
    fn cells_have_neighbours_on_all_sides() {
        for step in [1, 2, 5, 26] {
            let cell = Cell::of(PALERMO, step);
            let grid = 1u32.checked_shl(step).unwrap_or(0);
            let (row, column) = deinterleave(cell.bits);
            for (east, north) in [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1)] {
                let step_of = |at: u32, by: i8| at.wrapping_add_signed(i32::from(by)) & (grid - 1);
                let expected = (step_of(row, north), step_of(column, east));
                assert_eq!(deinterleave(cell.moved(east, north).bits), expected, "{step} {east} {north}");
            }
        }
    }

    #[test]
    fn every_score_stands_for_a_position() {
        for score in [f64::NEG_INFINITY, -1e300, -1.0, 0.0, 1e15, 1e19, 1e300, f64::INFINITY] {
            assert!(Position::of_score(score).is_valid(), "{score}");
        }
    }
}
