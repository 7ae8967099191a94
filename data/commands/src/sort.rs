// SPDX-License-Identifier: BSD-3-Clause
//! SORT and SORT_RO: the elements of a list, set or sorted set in order, by themselves or by other keys.
//!
//! BY and GET name keys that only the elements tell, so the session locks slots as the handler goes, or all in EXEC; in
//! cluster mode patterns must stay in the slot of the key. Text is compared as bytes up to the first zero byte (the "C"
//! collation), and with STORE as bytes. Equal elements of lists keep their order; where Valkey leaves the order of others
//! to its hash tables and STORE must be the same on every node, the elements decide.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::lists::check_element;
use crate::lookup::{Access, Intent};
use crate::registry::{Row, row};
use pando_keyspace::{IntText, ValueRef};
use pando_resp::{Args, num};
use pando_topology::Slot;
use pando_values::{Collection, List, Side, Typed};
use std::cmp::Ordering;
use std::ops::Range;

pub(crate) const TABLE: &[Row] = &[row("sort", sort), row("sort_ro", sort_ro)];

const NOT_NUMBERS: CommandError = CommandError::text("ERR One or more scores can't be converted into double");

fn sort(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    run(ctx, args[1], Options::parse(ctx, args, true)?)
}

fn sort_ro(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    run(ctx, args[1], Options::parse(ctx, args, false)?)
}

/// A name with a `*` for the element: a key, or a field of a hash.
#[derive(Copy, Clone)]
enum Pattern<'a> {
    /// `#`: the element itself.
    Element,
    /// Without `*`: names nothing.
    Constant,
    Key {
        head: &'a [u8],
        tail: &'a [u8],
        field: Option<&'a [u8]>,
    },
}

/// Up to the first zero byte, as C looks at text.
fn c_text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

impl<'a> Pattern<'a> {
    fn parse(text: &'a [u8]) -> Pattern<'a> {
        if c_text(text) == b"#" {
            return Pattern::Element;
        }
        let Some(star) = c_text(text).iter().position(|byte| *byte == b'*') else { return Pattern::Constant };
        let (head, rest) = (&text[..star], &text[star + 1..]);
        match c_text(rest).windows(2).position(|pair| pair == b"->") {
            Some(arrow) if rest.get(arrow + 2).is_some_and(|byte| *byte != 0) => {
                Pattern::Key { head, tail: &rest[..arrow], field: Some(&rest[arrow + 2..]) }
            }
            _ => Pattern::Key { head, tail: rest, field: None },
        }
    }

    /// Whether every name that the text can stand for has the slot of `key`.
    fn is_in_slot_of(text: &[u8], key: &[u8]) -> bool {
        let mut tag_start = None;
        let mut whole = false;
        for (at, byte) in text.iter().enumerate() {
            match (byte, tag_start) {
                (b'*' | b'?' | b'[' | b'\\', _) => return false,
                (b'{', None) if !whole => tag_start = Some(at),
                (b'}', Some(start)) if at == start + 1 => (tag_start, whole) = (None, true),
                (b'}', Some(_)) => break,
                _ => {}
            }
        }
        Slot::of_key(text) == Slot::of_key(key)
    }
}

struct Options<'a> {
    descending: bool,
    alpha: bool,
    offset: i64,
    /// Negative: all.
    count: i64,
    /// `None`: by the elements themselves.
    by: Option<Pattern<'a>>,
    get: Vec<Pattern<'a>>,
    store: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(ctx: &Ctx<'_, '_>, args: Args<'a>, may_store: bool) -> Result<Options<'a>, CommandError> {
        let key = args[1];
        let mut options =
            Options { descending: false, alpha: false, offset: 0, count: -1, by: None, get: Vec::new(), store: None };
        let is_elsewhere = |pattern: &[u8]| ctx.env.cluster_enabled && !Pattern::is_in_slot_of(pattern, key);
        let mut rest = &args[2..];
        while let [word, after @ ..] = rest {
            rest = after;
            match after {
                _ if is_word(word, "ASC") => options.descending = false,
                _ if is_word(word, "DESC") => options.descending = true,
                _ if is_word(word, "ALPHA") => options.alpha = true,
                [offset, count, after @ ..] if is_word(word, "LIMIT") => {
                    (options.offset, options.count) = (integer(offset)?, integer(count)?);
                    rest = after;
                }
                [store, after @ ..] if may_store && is_word(word, "STORE") => {
                    options.store = Some(store);
                    rest = after;
                }
                [by, after @ ..] if is_word(word, "BY") => {
                    let pattern = Pattern::parse(by);
                    if matches!(pattern, Pattern::Key { .. }) && is_elsewhere(by) {
                        return Err(elsewhere("BY"));
                    }
                    // A second BY with a constant turns sorting off for good, as in Valkey.
                    options.by = match options.by {
                        Some(Pattern::Constant) => Some(Pattern::Constant),
                        _ if matches!(pattern, Pattern::Element) => Some(Pattern::Constant),
                        _ => Some(pattern),
                    };
                    rest = after;
                }
                [get, after @ ..] if is_word(word, "GET") => {
                    let pattern = Pattern::parse(get);
                    if !matches!(pattern, Pattern::Element) && is_elsewhere(get) {
                        return Err(elsewhere("GET"));
                    }
                    options.get.push(pattern);
                    rest = after;
                }
                _ => return Err(CommandError::Syntax),
            }
        }
        Ok(options)
    }

    /// The places of the result among `len` elements.
    fn span(&self, len: usize) -> Range<usize> {
        let bounded = |value: i64| usize::try_from(value).unwrap_or(0).min(len);
        let start = bounded(self.offset);
        let count = if self.count < 0 { len } else { bounded(self.count) };
        start..(start + count).min(len)
    }
}

fn elsewhere(option: &str) -> CommandError {
    CommandError::format(format!(
        "ERR {option} option of SORT denied in Cluster mode when keys formed by the pattern may be in different slots."
    ))
}

/// What an element is ordered by.
enum Weight {
    Number(f64),
    Text(Option<Vec<u8>>),
    Own,
}

struct Item {
    element: Vec<u8>,
    weight: Weight,
}

fn run(ctx: &mut Ctx<'_, '_>, key: &[u8], mut options: Options<'_>) -> Result<(), CommandError> {
    let mut is_set = false;
    let mut is_list = false;
    let elements = ctx.with_value(key, Intent::Read, Access::Touch, |value, _| {
        let sorted = !matches!(options.by, Some(Pattern::Constant));
        let value = match value {
            None => return Ok(Vec::new()),
            Some(ValueRef::Typed(typed)) => typed,
            Some(_) => return Err(CommandError::WrongType),
        };
        let span = if sorted { 0..value.len() } else { options.span(value.len()) };
        match value {
            Typed::List(list) => {
                is_list = true;
                Ok(list_elements(list, span, options.descending && !sorted))
            }
            Typed::ZSet(zset) => {
                let is_reverse = options.descending && !sorted;
                let ranks = if is_reverse { zset.len() - span.end..zset.len() - span.start } else { span };
                let members = zset.range(ranks, is_reverse);
                Ok(members.map(|(member, _)| member.to_vec()).collect())
            }
            Typed::Set(set) => {
                is_set = true;
                Ok(set.iter().map(|member| member.to_vec()).collect())
            }
            _ => Err(CommandError::WrongType),
        }
    })?;
    if is_set && options.store.is_some() && matches!(options.by, Some(Pattern::Constant)) {
        // A set has no order, and what is stored must be the same everywhere.
        options.alpha = true;
        options.by = None;
    }
    let is_sorted = !matches!(options.by, Some(Pattern::Constant));
    let span = if is_sorted || is_set { options.span(elements.len()) } else { 0..elements.len() };
    let mut items: Vec<Item> = elements.into_iter().map(|element| Item { element, weight: Weight::Own }).collect();
    if is_sorted {
        weigh(ctx, &options, &mut items)?;
        let by_bytes = options.store.is_some();
        items.sort_by(|a, b| {
            let order = compare(a, b, by_bytes);
            let order = if options.descending { order.reverse() } else { order };
            if is_list || order != Ordering::Equal { order } else { a.element.cmp(&b.element) }
        });
    }
    match options.store {
        None => {
            reply(ctx, &options, &items[span]);
            Ok(())
        }
        Some(target) => store(ctx, &options, &items[span], target),
    }
}

fn list_elements(list: &List, span: Range<usize>, from_end: bool) -> Vec<Vec<u8>> {
    let (start, towards) = match from_end {
        false => (span.start, Side::Right),
        true => ((list.len() - 1).saturating_sub(span.start), Side::Left),
    };
    list.iter_from(start, towards).take(span.len()).map(|element| element.to_vec()).collect()
}

/// Finds out what each element is ordered by.
fn weigh(ctx: &mut Ctx<'_, '_>, options: &Options<'_>, items: &mut [Item]) -> Result<(), CommandError> {
    let mut outcome = Ok(());
    for item in items {
        let by = match options.by {
            None if options.alpha => continue,
            None => None,
            Some(pattern) => Some(look_up(ctx, pattern, &item.element)),
        };
        if options.alpha {
            item.weight = Weight::Text(by.flatten());
            continue;
        }
        let text = match &by {
            None => Some(&item.element),
            Some(found) => found.as_ref(),
        };
        // All keys are looked up before a text that is no number ends it: lookups have effects.
        let number = text.map_or(Some(0.0), |text| num::parse_f64(text));
        item.weight = Weight::Number(number.unwrap_or_else(|| {
            outcome = Err(NOT_NUMBERS);
            0.0
        }));
    }
    outcome
}

fn compare(a: &Item, b: &Item, by_bytes: bool) -> Ordering {
    let text = |a: &[u8], b: &[u8]| if by_bytes { a.cmp(b) } else { c_text(a).cmp(c_text(b)) };
    match (&a.weight, &b.weight) {
        (Weight::Number(left), Weight::Number(right)) => {
            left.partial_cmp(right).unwrap_or(Ordering::Equal).then_with(|| a.element.cmp(&b.element))
        }
        (Weight::Text(Some(left)), Weight::Text(Some(right))) => text(left, right),
        (Weight::Text(left), Weight::Text(right)) => left.is_some().cmp(&right.is_some()),
        _ => text(&a.element, &b.element),
    }
}

/// What a pattern names for an element: a string, or a field of a hash. A reader's lookup.
fn look_up(ctx: &mut Ctx<'_, '_>, pattern: Pattern<'_>, element: &[u8]) -> Option<Vec<u8>> {
    let Pattern::Key { head, tail, field } = pattern else {
        return matches!(pattern, Pattern::Element).then(|| element.to_vec());
    };
    let key = [head, element, tail].concat();
    let now_ms = ctx.now_ms;
    ctx.with_value(&key, Intent::Read, Access::Touch, |value, _| match (value?, field) {
        (ValueRef::Typed(Typed::Hash(hash)), Some(field)) => hash.get(field, now_ms).map(|value| value.to_vec()),
        (value, None) => value.str_bytes(&mut IntText::new()).map(<[u8]>::to_vec),
        _ => None,
    })
}

fn reply(ctx: &mut Ctx<'_, '_>, options: &Options<'_>, items: &[Item]) {
    ctx.reply.array(items.len() * options.get.len().max(1));
    for item in items {
        if options.get.is_empty() {
            ctx.reply.bulk(&item.element);
        }
        for pattern in &options.get {
            match look_up(ctx, *pattern, &item.element) {
                Some(value) => ctx.reply.bulk(&value),
                None => ctx.reply.null(),
            }
        }
    }
}

fn store(ctx: &mut Ctx<'_, '_>, options: &Options<'_>, items: &[Item], target: &[u8]) -> Result<(), CommandError> {
    let limits = ctx.env.limits;
    let mut list = List::new_large(&limits);
    for item in items {
        if options.get.is_empty() {
            list.push(Side::Right, &item.element, &limits);
        }
        for pattern in &options.get {
            let value = look_up(ctx, *pattern, &item.element).unwrap_or_default();
            check_element(&value)?;
            list.push(Side::Right, &value, &limits);
        }
    }
    list.settle_built(&limits);
    let len = list.len();
    let existed = ctx.put(target, list);
    if len > 0 {
        ctx.dirty(len as u64 - 1);
        ctx.changed(EventClass::LIST, "sortstore", target);
    } else if existed {
        ctx.changed(EventClass::GENERIC, "del", target);
    }
    ctx.reply.int(len as i64);
    Ok(())
}
