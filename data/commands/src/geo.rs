// SPDX-License-Identifier: BSD-3-Clause
//! Geo: GEOADD, GEOPOS, GEODIST, GEOHASH, and what the searches share with them: arguments and the printing of numbers.
//! Positions are scores of sorted sets.

use crate::args::is_word;
use crate::context::Ctx;
use crate::error::CommandError;
use crate::registry::{Row, row};
use crate::zset_add::{AddFlags, add_elements};
use crate::zset_args::score;
use pando_resp::{Args, Proto, ReplyBuf};
use pando_values::geohash::Position;
use pando_values::{IntText, ZSet};
use std::fmt::Write;

pub(crate) const TABLE: &[Row] =
    &[row("geoadd", geoadd), row("geopos", geopos), row("geodist", geodist), row("geohash", geohash)];

/// `longitude latitude`
pub(crate) fn position(longitude: &[u8], latitude: &[u8]) -> Result<Position, CommandError> {
    let position = Position { longitude: score(longitude)?, latitude: score(latitude)? };
    if position.is_valid() {
        return Ok(position);
    }
    let Position { longitude, latitude } = position;
    Err(CommandError::format(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}")))
}

/// Metres of a unit.
pub(crate) fn unit_m(arg: &[u8]) -> Result<f64, CommandError> {
    const REFUSED: CommandError = CommandError::text("ERR unsupported unit provided. please use M, KM, FT, MI");
    let units = [("m", 1.0), ("km", 1000.0), ("ft", 0.3048), ("mi", 1609.34)];
    units.into_iter().find(|(name, _)| is_word(arg, name)).map(|(_, metres)| metres).ok_or(REFUSED)
}

/// A distance with four digits, which is a bulk string in both protocols.
pub(crate) fn reply_distance(reply: &mut ReplyBuf, distance: f64) {
    let scaled = (distance * 10_000.0).round_ties_even();
    let scaled = if scaled.is_nan() { i64::MIN } else { scaled as i64 };
    let mut text = String::with_capacity(24);
    let (whole, digits) = (scaled.unsigned_abs() / 10_000, scaled.unsigned_abs() % 10_000);
    let _infallible = write!(text, "{}{whole}.{digits:04}", if scaled < 0 { "-" } else { "" });
    reply.bulk(text.as_bytes());
}

/// A pair of coordinates with up to 17 digits each.
pub(crate) fn reply_position(reply: &mut ReplyBuf, position: Position) {
    reply.array(2);
    for degrees in [position.longitude, position.latitude] {
        let text = format!("{degrees:.17}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        let text = if text == "-0" { "0" } else { text };
        match reply.proto() {
            Proto::Resp2 => reply.bulk(text.as_bytes()),
            Proto::Resp3 => {
                reply.raw(b",");
                reply.raw(text.as_bytes());
                reply.raw(b"\r\n");
            }
        }
    }
}

/// GEOADD key [NX | XX] [CH] longitude latitude member ...; logged as the ZADD that it is.
fn geoadd(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let mut flags = AddFlags::default();
    let mut rest = &args[2..];
    while let [word, more @ ..] = rest {
        match () {
            () if is_word(word, "NX") => flags.nx = true,
            () if is_word(word, "XX") => flags.xx = true,
            () if is_word(word, "CH") => flags.ch = true,
            () => break,
        }
        rest = more;
    }
    if rest.is_empty() || !rest.len().is_multiple_of(3) || (flags.xx && flags.nx) {
        return Err(CommandError::Syntax);
    }
    let mut elements = Vec::with_capacity(rest.len() / 3);
    for triple in rest.chunks_exact(3) {
        elements.push((position(triple[0], triple[1])?.to_score(), triple[2]));
    }
    add_elements(ctx, args[1], flags, &elements)?;
    if ctx.effects.dirty > 0 && ctx.env.log {
        let scores: Vec<String> =
            elements.iter().map(|(score, _)| IntText::new().format(*score as u64).to_owned()).collect();
        let options = &args[2..args.len() - rest.len()];
        let mut logged: Vec<&[u8]> = vec![b"ZADD", args[1]];
        logged.extend_from_slice(options);
        for (score, (_, member)) in scores.iter().zip(&elements) {
            logged.push(score.as_bytes());
            logged.push(member);
        }
        ctx.rewrite(&logged);
    }
    Ok(())
}

fn geopos(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    ctx.read(args[1], |set: Option<&ZSet>, reply| {
        reply.array(args.len() - 2);
        for member in &args[2..] {
            match set.and_then(|set| set.score(member)) {
                Some(score) => reply_position(reply, Position::of_score(score)),
                None => reply.null_array(),
            }
        }
        Ok(())
    })
}

fn geohash(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    ctx.read(args[1], |set: Option<&ZSet>, reply| {
        reply.array(args.len() - 2);
        for member in &args[2..] {
            match set.and_then(|set| set.score(member)) {
                Some(score) => reply.bulk(&Position::of_score(score).to_text()),
                None => reply.null(),
            }
        }
        Ok(())
    })
}

/// GEODIST key member member [unit]
fn geodist(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let unit_m = match &args[4..] {
        [] => 1.0,
        [unit] => unit_m(unit)?,
        _ => return Err(CommandError::Syntax),
    };
    ctx.read(args[1], |set: Option<&ZSet>, reply| {
        let position = |member: &[u8]| set.and_then(|set| set.score(member)).map(Position::of_score);
        match (position(args[2]), position(args[3])) {
            (Some(from), Some(to)) => reply_distance(reply, from.distance_m(to) / unit_m),
            _ => reply.null(),
        }
        Ok(())
    })
}
