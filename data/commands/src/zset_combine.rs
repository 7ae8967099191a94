// SPDX-License-Identifier: BSD-3-Clause
//! Sorted sets and sets combined: ZUNION, ZINTER, ZDIFF, their STORE forms, ZINTERCARD. A member of a plain set has the
//! score 1.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::error::CommandError;
use crate::lookup::{Access, Intent};
use crate::registry::{Row, row};
use crate::zset_args::{reply_element, reply_header, score, store};
use pando_keyspace::ValueRef;
use pando_resp::{Args, ReplyBuf, num};
use pando_values::{Collection, Element, IntText, Set, Typed, ZSet};
use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

pub(crate) const TABLE: &[Row] = &[
    row("zunion", |ctx, args| combine(ctx, args, Operation::Union)),
    row("zinter", |ctx, args| combine(ctx, args, Operation::Inter)),
    row("zdiff", |ctx, args| combine(ctx, args, Operation::Diff)),
    row("zunionstore", |ctx, args| combine_and_store(ctx, args, Operation::Union)),
    row("zinterstore", |ctx, args| combine_and_store(ctx, args, Operation::Inter)),
    row("zdiffstore", |ctx, args| combine_and_store(ctx, args, Operation::Diff)),
    row("zintercard", zintercard),
];

#[derive(Copy, Clone, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

/// What becomes of the scores of a member that several sources have.
#[derive(Copy, Clone)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, so_far: f64, value: f64) -> f64 {
        match self {
            // Opposite infinities cancel out.
            Aggregate::Sum => not_nan(so_far + value),
            Aggregate::Min => {
                if value < so_far {
                    value
                } else {
                    so_far
                }
            }
            Aggregate::Max => {
                if value > so_far {
                    value
                } else {
                    so_far
                }
            }
        }
    }
}

fn not_nan(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// A member of any source.
type Member<'a> = Cow<'a, [u8]>;

fn member(element: Element<'_>) -> Member<'_> {
    match element {
        Element::Str(bytes) => Cow::Borrowed(bytes),
        Element::Int(int) => Cow::Owned(IntText::new().format(int).as_bytes().to_vec()),
    }
}

/// A source's value.
#[derive(Copy, Clone)]
enum Value<'a> {
    None,
    Set(&'a Set),
    ZSet(&'a ZSet),
}

/// A source.
#[derive(Copy, Clone)]
struct Source<'a> {
    value: Value<'a>,
    weight: f64,
}

impl<'a> Source<'a> {
    fn new(value: Option<ValueRef<'a>>) -> Result<Self, CommandError> {
        let value = match value {
            None => Value::None,
            Some(ValueRef::Typed(Typed::Set(set))) => Value::Set(set),
            Some(ValueRef::Typed(Typed::ZSet(set))) => Value::ZSet(set),
            Some(_) => return Err(CommandError::WrongType),
        };
        Ok(Source { value, weight: 1.0 })
    }

    fn len(&self) -> usize {
        match self.value {
            Value::None => 0,
            Value::Set(set) => set.len(),
            Value::ZSet(set) => set.len(),
        }
    }

    fn score(&self, member: &[u8]) -> Option<f64> {
        match self.value {
            Value::None => None,
            Value::Set(set) => set.contains(member).then_some(1.0),
            Value::ZSet(set) => set.score(member),
        }
    }

    /// Calls `visit` with every element, until it returns false.
    fn each(&self, mut visit: impl FnMut(Member<'a>, f64) -> bool) {
        match self.value {
            Value::None => {}
            Value::Set(set) => {
                let _all = set.iter().all(|element| visit(member(element), 1.0));
            }
            Value::ZSet(set) => {
                let _all = set.iter().all(|(element, score)| visit(member(element), score));
            }
        }
    }
}

/// `numkeys key ... [WEIGHTS weight ...] [AGGREGATE SUM | MIN | MAX] [WITHSCORES] [LIMIT n]`; which options may come
/// depends on the command.
struct Query<'a> {
    keys: &'a [&'a [u8]],
    options: &'a [&'a [u8]],
}

struct Options {
    weights: Option<Vec<f64>>,
    aggregate: Aggregate,
    with_scores: bool,
    limit: usize,
}

/// Which options a command has besides those of its operation.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Form {
    Reply,
    Store,
    Count,
}

impl<'a> Query<'a> {
    fn parse(args: &'a [&'a [u8]], name: &str) -> Result<Self, CommandError> {
        let key_count = integer(args[0])?;
        if key_count < 1 {
            let text = format!("ERR at least 1 input key is needed for '{name}' command");
            return Err(CommandError::format(text));
        }
        let key_count = usize::try_from(key_count).unwrap_or(usize::MAX);
        let (keys, options) = args[1..].split_at_checked(key_count).ok_or(CommandError::Syntax)?;
        Ok(Query { keys, options })
    }

    fn options(&self, operation: Operation, form: Form) -> Result<Options, CommandError> {
        let mut options = Options { weights: None, aggregate: Aggregate::Sum, with_scores: false, limit: 0 };
        let has_weights = operation != Operation::Diff && form != Form::Count;
        let mut rest = self.options;
        while let [word, more @ ..] = rest {
            rest = if has_weights && more.len() >= self.keys.len() && is_word(word, "WEIGHTS") {
                const REFUSED: CommandError = CommandError::text("ERR weight value is not a float");
                let (weights, more) = more.split_at(self.keys.len());
                let weights = weights.iter().map(|weight| score(weight).map_err(|_| REFUSED));
                options.weights = Some(weights.collect::<Result<_, _>>()?);
                more
            } else if has_weights && !more.is_empty() && is_word(word, "AGGREGATE") {
                let names = [("SUM", Aggregate::Sum), ("MIN", Aggregate::Min), ("MAX", Aggregate::Max)];
                let found = names.into_iter().find(|(name, _)| is_word(more[0], name));
                options.aggregate = found.ok_or(CommandError::Syntax)?.1;
                &more[1..]
            } else if form == Form::Reply && is_word(word, "WITHSCORES") {
                options.with_scores = true;
                more
            } else if form == Form::Count && !more.is_empty() && is_word(word, "LIMIT") {
                const REFUSED: CommandError = CommandError::text("ERR LIMIT can't be negative");
                options.limit = num::parse_i64(more[0]).and_then(|limit| usize::try_from(limit).ok()).ok_or(REFUSED)?;
                &more[1..]
            } else {
                return Err(CommandError::Syntax);
            };
        }
        Ok(options)
    }
}

/// Looks the sources up, which comes before the options are read, and hands them over with the options.
fn with_sources<R>(
    ctx: &mut Ctx<'_, '_>,
    query: &Query<'_>,
    operation: Operation,
    form: Form,
    then: impl FnOnce(Vec<Source<'_>>, &Options, &mut ReplyBuf) -> R,
) -> Result<R, CommandError> {
    for key in query.keys {
        ctx.with_value(key, Intent::Read, Access::Touch, |_, _| ());
    }
    let reply = &mut *ctx.reply;
    let db = ctx.slots.db(ctx.db);
    let values = db.get_many(query.keys);
    let mut sources = Vec::with_capacity(values.len());
    for value in values {
        sources.push(Source::new(value)?);
    }
    let options = query.options(operation, form)?;
    if let Some(weights) = &options.weights {
        sources.iter_mut().zip(weights).for_each(|(source, weight)| source.weight = *weight);
    }
    if operation != Operation::Diff {
        // Small ones first; stable, because the order of additions shows in the last bits of a sum.
        sources.sort_by_key(Source::len);
    }
    Ok(then(sources, &options, reply))
}

type Elements<'a> = Vec<(f64, Member<'a>)>;

fn union<'a>(sources: &[Source<'a>], aggregate: Aggregate) -> Elements<'a> {
    if let [source] = sources {
        let mut elements = Vec::with_capacity(source.len());
        source.each(|member, score| {
            elements.push((not_nan(source.weight * score), member));
            true
        });
        return elements;
    }
    let mut scores: HashMap<Member<'a>, f64> = HashMap::with_capacity(sources.last().map_or(0, Source::len));
    for source in sources {
        source.each(|member, score| {
            let score = not_nan(source.weight * score);
            match scores.entry(member) {
                Entry::Vacant(place) => {
                    place.insert(score);
                }
                Entry::Occupied(mut place) => {
                    let so_far = *place.get();
                    place.insert(aggregate.of(so_far, score));
                }
            }
            true
        });
    }
    scores.into_iter().map(|(member, score)| (score, member)).collect()
}

/// Calls `found` with every member that all sources have, until it returns false.
fn intersect<'a>(sources: &[Source<'a>], aggregate: Aggregate, mut found: impl FnMut(f64, Member<'a>) -> bool) {
    let Some((first, others)) = sources.split_first() else { return };
    first.each(|member, score| {
        let mut total = not_nan(first.weight * score);
        for other in others {
            let Some(value) = other.score(&member) else { return true };
            total = aggregate.of(total, value * other.weight);
        }
        found(total, member)
    });
}

fn difference<'a>(sources: &[Source<'a>]) -> Elements<'a> {
    let mut elements = Vec::new();
    let Some((first, others)) = sources.split_first() else { return elements };
    let lookups = first.len().saturating_mul(sources.len()) / 2;
    let total: usize = sources.iter().map(Source::len).sum();
    if lookups <= total {
        first.each(|member, score| {
            if others.iter().all(|other| other.score(&member).is_none()) {
                elements.push((score, member));
            }
            true
        });
        return elements;
    }
    let mut gone: HashSet<Member<'a>> = HashSet::new();
    for other in others {
        other.each(|member, _| {
            gone.insert(member);
            true
        });
    }
    first.each(|member, score| {
        if !gone.contains(&member) {
            elements.push((score, member));
        }
        true
    });
    elements
}

/// The result in order.
fn compute<'a>(sources: &[Source<'a>], operation: Operation, aggregate: Aggregate) -> Elements<'a> {
    let mut elements = match operation {
        Operation::Union => union(sources, aggregate),
        Operation::Diff => difference(sources),
        Operation::Inter => {
            let mut elements = Vec::new();
            intersect(sources, aggregate, |score, member| {
                elements.push((score, member));
                true
            });
            elements
        }
    };
    // Not `total_cmp`: zeros of both signs are equal.
    let score_order = |one: f64, other: f64| one.partial_cmp(&other).unwrap_or(std::cmp::Ordering::Equal);
    elements.sort_unstable_by(|one, other| score_order(one.0, other.0).then_with(|| one.1.cmp(&other.1)));
    elements
}

fn combine(ctx: &mut Ctx<'_, '_>, args: Args<'_>, operation: Operation) -> Result<(), CommandError> {
    let name = match operation {
        Operation::Union => "zunion",
        Operation::Inter => "zinter",
        Operation::Diff => "zdiff",
    };
    let query = Query::parse(&args[1..], name)?;
    with_sources(ctx, &query, operation, Form::Reply, |sources, options, reply| {
        let elements = compute(&sources, operation, options.aggregate);
        reply_header(reply, elements.len(), options.with_scores);
        for (score, member) in &elements {
            reply_element(reply, Element::Str(member), *score, options.with_scores);
        }
    })
}

fn combine_and_store(ctx: &mut Ctx<'_, '_>, args: Args<'_>, operation: Operation) -> Result<(), CommandError> {
    let name = match operation {
        Operation::Union => "zunionstore",
        Operation::Inter => "zinterstore",
        Operation::Diff => "zdiffstore",
    };
    let query = Query::parse(&args[2..], name)?;
    let limits = ctx.env.limits;
    let result = with_sources(ctx, &query, operation, Form::Store, |sources, options, _| {
        let elements = compute(&sources, operation, options.aggregate);
        let longest = elements.iter().map(|(_, member)| member.len()).max().unwrap_or(0);
        let mut result = ZSet::for_size(elements.len(), longest, &limits);
        for (score, member) in &elements {
            result.add(*score, member, &limits);
        }
        result
    })?;
    store(ctx, args[1], result, name);
    Ok(())
}

/// ZINTERCARD numkeys key ... [LIMIT n]
fn zintercard(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let query = Query::parse(&args[1..], "zintercard")?;
    let count = with_sources(ctx, &query, Operation::Inter, Form::Count, |sources, options, _| {
        let mut count = 0;
        intersect(&sources, Aggregate::Sum, |_, _| {
            count += 1;
            options.limit == 0 || count < options.limit
        });
        count
    })?;
    ctx.reply.int(count as i64);
    Ok(())
}
