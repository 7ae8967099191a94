// SPDX-License-Identifier: BSD-3-Clause
//! Shapes to search positions in: circles, boxes and polygons; which cells of the grid cover one, and what lies within. Not
//! here: arguments, sorted sets.

use pando_values::geohash::{Cell, EARTH_RADIUS_M, LATITUDE_MAX, LONGITUDE_MAX, Position, STEP_MAX};
use pando_values::geohash::{latitude_distance_m, to_degrees, to_radians};

/// What a position must lie in.
#[derive(Clone, Debug)]
pub(crate) enum Area {
    /// Within this many units of the centre.
    Circle(f64),
    /// At most half of these from the centre, in units, east or west and north or south.
    Box { width: f64, height: f64 },
    /// Within these corners.
    Polygon(Vec<Position>),
}

/// An area and where it is.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) area: Area,
    /// Distances are measured from here. A polygon has its own.
    pub(crate) center: Position,
    /// Metres of a unit.
    pub(crate) unit_m: f64,
}

struct Bounds {
    longitude: (f64, f64),
    latitude: (f64, f64),
}

impl Shape {
    /// A polygon, which is measured from the middle of its corners.
    pub(crate) fn polygon(corners: Vec<Position>) -> Shape {
        // The sum of the corners as vectors points to the middle.
        let (mut x, mut y, mut z) = (0.0, 0.0, 0.0);
        for corner in &corners {
            let (longitude, latitude) = (to_radians(corner.longitude), to_radians(corner.latitude));
            x += latitude.cos() * longitude.cos();
            y += latitude.cos() * longitude.sin();
            z += latitude.sin();
        }
        let longitude = to_degrees(f64::atan2(y, x));
        let latitude = to_degrees(f64::atan2(z, (x * x + y * y).sqrt()));
        Shape { area: Area::Polygon(corners), center: Position { longitude, latitude }, unit_m: 1.0 }
    }

    /// The distance of a position from the centre in metres, if it lies within the shape.
    pub(crate) fn distance_within_m(&self, position: Position) -> Option<f64> {
        match &self.area {
            Area::Circle(radius) => {
                let distance = self.center.distance_m(position);
                (distance <= radius * self.unit_m).then_some(distance)
            }
            Area::Box { width, height } => {
                if latitude_distance_m(position.latitude, self.center.latitude) > height * self.unit_m / 2.0 {
                    return None;
                }
                let beside = Position { longitude: self.center.longitude, latitude: position.latitude };
                if position.distance_m(beside) > width * self.unit_m / 2.0 {
                    return None;
                }
                Some(self.center.distance_m(position))
            }
            Area::Polygon(corners) => is_inside(corners, position).then(|| self.center.distance_m(position)),
        }
    }

    /// The cells that cover the shape, in the order in which they are searched.
    pub(crate) fn cells(&self) -> Vec<Cell> {
        let bounds = self.bounds();
        let mut step = self.step(&bounds);
        if step > 1 && !reaches(Cell::of(self.center, step), &bounds) {
            step -= 1;
        }
        let cell = Cell::of(self.center, step);
        let area = cell.area();
        // With few cells the neighbours wrap round the earth, so none is known to be useless.
        let has = |side: bool| step < 2 || !side;
        let north = has(area.latitude.1 > bounds.latitude.1);
        let south = has(area.latitude.0 < bounds.latitude.0);
        let east = has(area.longitude.1 > bounds.longitude.1);
        let west = has(area.longitude.0 < bounds.longitude.0);
        let neighbours = [
            (0, 1, north),
            (0, -1, south),
            (1, 0, east),
            (-1, 0, west),
            (1, 1, north && east),
            (-1, 1, north && west),
            (1, -1, south && east),
            (-1, -1, south && west),
        ];
        let mut cells = vec![cell];
        for (east, north, is_needed) in neighbours {
            let other = cell.moved(east, north);
            // In huge areas neighbours coincide. As with the reference server, the first cell is not compared.
            if is_needed && (cells.len() == 1 || cells.last() != Some(&other)) {
                cells.push(other);
            }
        }
        cells
    }

    fn bounds(&self) -> Bounds {
        let (width, height) = match &self.area {
            Area::Circle(radius) => (self.unit_m * radius, self.unit_m * radius),
            Area::Box { width, height } => (self.unit_m * width / 2.0, self.unit_m * height / 2.0),
            Area::Polygon(corners) => {
                let mut bounds =
                    Bounds { longitude: (LONGITUDE_MAX, -LONGITUDE_MAX), latitude: (LATITUDE_MAX, -LATITUDE_MAX) };
                for corner in corners {
                    bounds.longitude.0 = bounds.longitude.0.min(corner.longitude);
                    bounds.longitude.1 = bounds.longitude.1.max(corner.longitude);
                    bounds.latitude.0 = bounds.latitude.0.min(corner.latitude);
                    bounds.latitude.1 = bounds.latitude.1.max(corner.latitude);
                }
                return bounds;
            }
        };
        let Position { longitude, latitude } = self.center;
        let latitude_delta = to_degrees(height / EARTH_RADIUS_M);
        // The edge that is nearer to a pole spans more degrees.
        let edge = if latitude < 0.0 { latitude - latitude_delta } else { latitude + latitude_delta };
        let longitude_delta = to_degrees(width / EARTH_RADIUS_M / to_radians(edge).cos());
        Bounds {
            longitude: (longitude - longitude_delta, longitude + longitude_delta),
            latitude: (latitude - latitude_delta, latitude + latitude_delta),
        }
    }

    /// How fine the cells may be so that nine of them cover the shape.
    fn step(&self, bounds: &Bounds) -> u32 {
        const MERCATOR_MAX: f64 = 20037726.37;
        let radius = match &self.area {
            Area::Circle(radius) => *radius,
            Area::Box { width, height } => ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt(),
            Area::Polygon(_) => {
                let (west, east) = bounds.longitude;
                let (south, north) = bounds.latitude;
                let corners = [(west, north), (east, north), (west, south), (east, south)];
                let distances =
                    corners.map(|(longitude, latitude)| self.center.distance_m(Position { longitude, latitude }));
                distances[1..].iter().fold(distances[0], |most, one| if *one > most { *one } else { most })
            }
        };
        let mut reach = radius * self.unit_m;
        if reach == 0.0 {
            return STEP_MAX;
        }
        let mut step = 1;
        while reach < MERCATOR_MAX {
            reach *= 2.0;
            step += 1;
        }
        step -= 2;
        let latitude = self.center.latitude.abs();
        if latitude > 66.0 {
            step -= 1;
        }
        if latitude > 80.0 {
            step -= 1;
        }
        step.clamp(1, STEP_MAX as i32) as u32
    }
}

/// Whether the cell and its neighbours reach the bounds on all sides.
fn reaches(cell: Cell, bounds: &Bounds) -> bool {
    let north = cell.moved(0, 1).area().latitude.1;
    let south = cell.moved(0, -1).area().latitude.0;
    let east = cell.moved(1, 0).area().longitude.1;
    let west = cell.moved(-1, 0).area().longitude.0;
    let is_short = north < bounds.latitude.1
        || south > bounds.latitude.0
        || east < bounds.longitude.1
        || west > bounds.longitude.0;
    !is_short
}

/// Whether a ray from the position crosses the polygon's edges an odd number of times.
fn is_inside(corners: &[Position], point: Position) -> bool {
    let mut inside = false;
    let mut previous = corners.last();
    for corner in corners {
        if let Some(other) = previous
            && (corner.latitude > point.latitude) != (other.latitude > point.latitude)
            && point.longitude
                < (other.longitude - corner.longitude) * (point.latitude - corner.latitude)
                    / (other.latitude - corner.latitude)
                    + corner.longitude
        {
            inside = !inside;
        }
        previous = Some(corner);
    }
    inside
}
