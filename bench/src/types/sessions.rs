// SPDX-License-Identifier: BSD-3-Clause
//! What a session does besides one command after the other: transactions, messages to subscribers, clients that wait.

use super::{Family, Talk};

pub(super) const FAMILY: Family = Family { name: "sessions", speed: &[], talks: TALKS, memory: &[] };

const PLAIN: Talk =
    Talk { name: "", fill: &[], listeners: 0, enters: "", asks: "", speakers: 50, commands: "", requests: 0 };

const TALKS: &[Talk] = &[
    Talk {
        name: "MULTI of 10 INCR, EXEC",
        commands: "MULTI;INCR a{k};INCR b{k};INCR c{k};INCR d{k};INCR e{k};INCR f{k};INCR g{k};INCR h{k};INCR i{k};INCR j{k};EXEC",
        requests: 40_000,
        ..PLAIN
    },
    Talk {
        name: "MULTI of 10 SET, EXEC",
        commands: "MULTI;SET a{k} value;SET b{k} value;SET c{k} value;SET d{k} value;SET e{k} value;SET f{k} value;SET g{k} value;SET h{k} value;SET i{k} value;SET j{k} value;EXEC",
        requests: 40_000,
        ..PLAIN
    },
    Talk {
        name: "WATCH, MULTI of 1, EXEC",
        commands: "WATCH a{k};MULTI;SET a{k} value;EXEC",
        requests: 60_000,
        ..PLAIN
    },
    Talk { name: "PUBLISH to nobody", commands: "PUBLISH news message", requests: 200_000, ..PLAIN },
    Talk {
        name: "PUBLISH to 50 subscribers",
        listeners: 50,
        enters: "SUBSCRIBE news",
        speakers: 1,
        commands: "PUBLISH news xxxxxxxxxxxxxxxx",
        requests: 20_000,
        ..PLAIN
    },
    Talk {
        name: "PUBLISH by 10 to 50 subscribers",
        listeners: 50,
        enters: "SUBSCRIBE news",
        speakers: 10,
        commands: "PUBLISH news xxxxxxxxxxxxxxxx",
        requests: 40_000,
        ..PLAIN
    },
    Talk {
        name: "PUBLISH, 1 KB, to 50 subscribers",
        listeners: 50,
        enters: "SUBSCRIBE news",
        speakers: 1,
        commands: "PUBLISH news {n1000}",
        requests: 20_000,
        ..PLAIN
    },
    Talk {
        name: "PUBLISH to 50 of one pattern",
        listeners: 50,
        enters: "PSUBSCRIBE n*s",
        speakers: 1,
        commands: "PUBLISH news xxxxxxxxxxxxxxxx",
        requests: 20_000,
        ..PLAIN
    },
    Talk {
        name: "BLPOP served by LPUSH",
        listeners: 50,
        asks: "BLPOP list:{k} 0",
        commands: "LPUSH list:{k} value",
        requests: 60_000,
        ..PLAIN
    },
    Talk {
        name: "BLPOP that need not wait",
        commands: "LPUSH list:{k} value;BLPOP list:{k} 0",
        requests: 100_000,
        ..PLAIN
    },
];
