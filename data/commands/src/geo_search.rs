// SPDX-License-Identifier: BSD-3-Clause
//! Geo searches: GEOSEARCH, GEOSEARCHSTORE, and the older GEORADIUS and GEORADIUSBYMEMBER with their _RO forms.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::geo::{position, reply_distance, reply_position, unit_m};
use crate::geo_shape::{Area, Shape};
use crate::partial_sort::sort_front;
use crate::registry::{Row, row};
use crate::zset_args::{reply_member, score};
use pando_resp::{Args, ReplyBuf};
use pando_values::geohash::Position;
use pando_values::{Collection, Element, IntText, ScoreRange, ZSet};

pub(crate) const TABLE: &[Row] = &[
    row("geosearch", |ctx, args| search(ctx, args, Command::Search)),
    row("geosearchstore", |ctx, args| search(ctx, args, Command::SearchStore)),
    row("georadius", |ctx, args| search(ctx, args, Command::Radius { stores: true })),
    row("georadius_ro", |ctx, args| search(ctx, args, Command::Radius { stores: false })),
    row("georadiusbymember", |ctx, args| search(ctx, args, Command::ByMember { stores: true })),
    row("georadiusbymember_ro", |ctx, args| search(ctx, args, Command::ByMember { stores: false })),
];

#[derive(Copy, Clone, PartialEq, Eq)]
enum Command {
    Search,
    SearchStore,
    Radius { stores: bool },
    ByMember { stores: bool },
}

impl Command {
    fn is_search(self) -> bool {
        matches!(self, Command::Search | Command::SearchStore)
    }

    /// STORE and STOREDIST take a key.
    fn has_store_option(self) -> bool {
        matches!(self, Command::Radius { stores: true } | Command::ByMember { stores: true })
    }
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Sort {
    Ascending,
    Descending,
}

/// Where a search starts from, and what of it was given.
#[derive(Default)]
struct Query<'a> {
    center: Option<Position>,
    /// FROMMEMBER or FROMLONLAT; the position may be unknown while the key is missing.
    from: From,
    area: Option<(Area, f64)>,
    polygon: Option<Shape>,
    with_distance: bool,
    with_hash: bool,
    with_position: bool,
    any: bool,
    sort: Option<Sort>,
    /// Zero for all.
    count: usize,
    store: Option<&'a [u8]>,
    store_distance: bool,
}

#[derive(Copy, Clone, PartialEq, Eq, Default)]
enum From {
    #[default]
    Nothing,
    Member,
    Position,
}

fn position_of(set: &ZSet, member: &[u8]) -> Result<Position, CommandError> {
    set.score(member).map(Position::of_score).ok_or_else(|| {
        let shown = member.split(|byte| *byte == 0).next().unwrap_or(member);
        CommandError::format(format!("ERR member {} does not exist", String::from_utf8_lossy(shown)))
    })
}

fn number(arg: &[u8], refused: &'static str) -> Result<f64, CommandError> {
    score(arg).map_err(|_| CommandError::text(refused))
}

/// `radius unit`
fn circle(radius: &[u8], unit: &[u8]) -> Result<(Area, f64), CommandError> {
    let radius = number(radius, "ERR need numeric radius")?;
    if radius < 0.0 {
        return Err(CommandError::text("ERR radius cannot be negative"));
    }
    Ok((Area::Circle(radius), unit_m(unit)?))
}

/// `width height unit`
fn box_area(width: &[u8], height: &[u8], unit: &[u8]) -> Result<(Area, f64), CommandError> {
    let width = number(width, "ERR need numeric width")?;
    let height = number(height, "ERR need numeric height")?;
    if height < 0.0 || width < 0.0 {
        return Err(CommandError::text("ERR height or width cannot be negative"));
    }
    Ok((Area::Box { width, height }, unit_m(unit)?))
}

/// `numvertices longitude latitude ...`: the shape, and what follows.
fn polygon<'b, 'a>(args: &'b [&'a [u8]]) -> Result<(Shape, &'b [&'a [u8]]), CommandError> {
    const REFUSED: CommandError = CommandError::text("ERR invalid number of vertices");
    let corner_count = integer(args[0]).ok().and_then(|count| i32::try_from(count).ok()).ok_or(REFUSED)?;
    let possible = (args.len() - 1) / 2;
    let corner_count = usize::try_from(corner_count).unwrap_or(0);
    if corner_count < 3 || possible < corner_count {
        return Err(CommandError::text("ERR GEOSEARCH BYPOLYGON must have at least 3 vertices"));
    }
    let (corners, rest) = args[1..].split_at(corner_count * 2);
    let corners = corners.chunks_exact(2).map(|pair| position(pair[0], pair[1]));
    Ok((Shape::polygon(corners.collect::<Result<_, _>>()?), rest))
}

impl<'a> Query<'a> {
    /// Reads the arguments. Members are looked up on the way, so that errors come in the reference server's order; of a
    /// missing key they are not.
    fn parse(args: &[&'a [u8]], command: Command, set: Option<&ZSet>) -> Result<Self, CommandError> {
        let mut query = Query::default();
        let mut rest = match command {
            Command::Search => &args[2..],
            Command::SearchStore => {
                query.store = Some(args[1]);
                &args[3..]
            }
            Command::Radius { .. } => {
                query.center = Some(position(args[2], args[3])?);
                query.area = Some(circle(args[4], args[5])?);
                &args[6..]
            }
            Command::ByMember { .. } => {
                if let Some(set) = set {
                    query.center = Some(position_of(set, args[2])?);
                    query.area = Some(circle(args[3], args[4])?);
                }
                &args[5..]
            }
        };
        while let [word, more @ ..] = rest {
            rest = query.option(word, more, command, set)?;
        }
        query.check(args[0], command)?;
        Ok(query)
    }

    /// Reads one option; what follows it.
    fn option<'b>(
        &mut self,
        word: &[u8],
        rest: &'b [&'a [u8]],
        command: Command,
        set: Option<&ZSet>,
    ) -> Result<&'b [&'a [u8]], CommandError> {
        let is = |name: &str| is_word(word, name);
        let has_polygon = self.polygon.is_some();
        match rest {
            _ if is("WITHDIST") => self.with_distance = true,
            _ if is("WITHHASH") => self.with_hash = true,
            _ if is("WITHCOORD") => self.with_position = true,
            _ if is("ANY") => self.any = true,
            _ if is("ASC") => self.sort = Some(Sort::Ascending),
            _ if is("DESC") => self.sort = Some(Sort::Descending),
            [count, rest @ ..] if is("COUNT") => {
                let count = integer(count)?;
                if count <= 0 {
                    return Err(CommandError::text("ERR COUNT must be > 0"));
                }
                self.count = usize::try_from(count).unwrap_or(usize::MAX);
                return Ok(rest);
            }
            [key, rest @ ..] if command.has_store_option() && (is("STORE") || is("STOREDIST")) => {
                self.store = Some(key);
                self.store_distance = is("STOREDIST");
                return Ok(rest);
            }
            _ if command == Command::SearchStore && is("STOREDIST") => self.store_distance = true,
            _ if !command.is_search() => return Err(CommandError::Syntax),
            [member, rest @ ..] if is("FROMMEMBER") && self.from != From::Position && !has_polygon => {
                if let Some(set) = set {
                    self.center = Some(position_of(set, member)?);
                }
                self.from = From::Member;
                return Ok(rest);
            }
            [longitude, latitude, rest @ ..] if is("FROMLONLAT") && self.from != From::Member && !has_polygon => {
                self.center = Some(position(longitude, latitude)?);
                self.from = From::Position;
                return Ok(rest);
            }
            [radius, unit, rest @ ..]
                if is("BYRADIUS") && !matches!(self.area, Some((Area::Box { .. }, _))) && !has_polygon =>
            {
                self.area = Some(circle(radius, unit)?);
                return Ok(rest);
            }
            [width, height, unit, rest @ ..]
                if is("BYBOX") && !matches!(self.area, Some((Area::Circle(_), _))) && !has_polygon =>
            {
                self.area = Some(box_area(width, height, unit)?);
                return Ok(rest);
            }
            [_, _, ..] if is("BYPOLYGON") && self.area.is_none() && self.from == From::Nothing => {
                let (shape, rest) = polygon(rest)?;
                self.polygon = Some(shape);
                return Ok(rest);
            }
            _ => return Err(CommandError::Syntax),
        }
        Ok(rest)
    }

    /// Refuses what does not fit together.
    fn check(&self, name: &[u8], command: Command) -> Result<(), CommandError> {
        if self.store.is_some() && (self.with_distance || self.with_hash || self.with_position) {
            let what = if command == Command::SearchStore { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
            let text = format!("ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options");
            return Err(CommandError::format(text));
        }
        if command.is_search() && self.polygon.is_none() {
            let name = String::from_utf8_lossy(name);
            let refused =
                |what: &str| CommandError::format(format!("ERR exactly one of {what} can be specified for {name}"));
            if self.from == From::Nothing {
                return Err(refused("FROMMEMBER or FROMLONLAT"));
            }
            if self.area.is_none() {
                return Err(refused("BYRADIUS, BYBOX and BYPOLYGON"));
            }
        }
        if self.any && self.count == 0 {
            return Err(CommandError::text("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }

    /// The shape; `None` when the key is missing and with it the member to search around.
    fn shape(&mut self) -> Option<Shape> {
        if let Some(shape) = self.polygon.take() {
            return Some(shape);
        }
        let (area, unit_m) = self.area.take()?;
        Some(Shape { area, center: self.center?, unit_m })
    }

    /// The elements in the shape, sorted and counted.
    fn find<'s>(&self, set: &'s ZSet, shape: &Shape) -> Vec<Found<'s>> {
        let limit = if self.any { self.count } else { usize::MAX };
        let mut found = Vec::new();
        'cells: for cell in shape.cells() {
            let (min, max) = cell.scores();
            let range = ScoreRange { min, min_excluded: false, max, max_excluded: true };
            for (member, score) in set.range(set.ranks_by_score(&range), false) {
                let position = Position::of_score(score);
                if let Some(distance_m) = shape.distance_within_m(position) {
                    found.push(Found { member, score, position, distance_m });
                    if found.len() >= limit {
                        break 'cells;
                    }
                }
            }
        }
        // The nearest are wanted where only some are, unless any will do.
        let sort = self.sort.or((self.count > 0 && !self.any).then_some(Sort::Ascending));
        let order = |one: &Found<'_>, other: &Found<'_>| {
            let ascending = one.distance_m.total_cmp(&other.distance_m);
            if sort == Some(Sort::Descending) { ascending.reverse() } else { ascending }
        };
        if sort.is_some() {
            if self.count > 0 && self.count < found.len() {
                sort_front(&mut found, self.count, &order);
            } else {
                found.sort_by(order);
            }
        }
        if self.count > 0 {
            found.truncate(self.count);
        }
        found
    }

    fn reply(&self, reply: &mut ReplyBuf, found: &[Found<'_>], unit_m: f64) {
        let extras = [self.with_distance, self.with_hash, self.with_position].into_iter().filter(|on| *on).count();
        reply.array(found.len());
        for element in found {
            if extras > 0 {
                reply.array(extras + 1);
            }
            reply_member(reply, element.member);
            if self.with_distance {
                reply_distance(reply, element.distance_m / unit_m);
            }
            if self.with_hash {
                reply.int(element.score as i64);
            }
            if self.with_position {
                reply_position(reply, element.position);
            }
        }
    }
}

/// An element in the shape.
struct Found<'s> {
    member: Element<'s>,
    score: f64,
    position: Position,
    distance_m: f64,
}

fn search(ctx: &mut Ctx<'_, '_>, args: Args<'_>, command: Command) -> Result<(), CommandError> {
    let source = if command == Command::SearchStore { args[2] } else { args[1] };
    let limits = ctx.env.limits;
    let stored = ctx.read(source, |set: Option<&ZSet>, reply| {
        let mut query = Query::parse(args, command, set)?;
        let shape = query.shape();
        let found = match (set, &shape) {
            (Some(set), Some(shape)) => query.find(set, shape),
            _ => Vec::new(),
        };
        let unit_m = shape.map_or(1.0, |shape| shape.unit_m);
        let Some(target) = query.store else {
            query.reply(reply, &found, unit_m);
            return Ok(None);
        };
        let mut result = ZSet::new();
        let mut digits = IntText::new();
        for element in &found {
            let score = if query.store_distance { element.distance_m / unit_m } else { element.score };
            result.add(score, element.member.as_bytes(&mut digits), &limits);
        }
        Ok(Some((target, result)))
    })?;
    let Some((target, result)) = stored else { return Ok(()) };
    let len = result.len();
    let existed = ctx.put(target, result);
    if len > 0 {
        ctx.dirty(len as u64);
        ctx.modified(target);
        let event = if command.is_search() { "geosearchstore" } else { "georadiusstore" };
        ctx.notify(EventClass::ZSET, event, target);
    } else if existed {
        ctx.changed(EventClass::GENERIC, "del", target);
    }
    ctx.reply.int(len as i64);
    Ok(())
}
