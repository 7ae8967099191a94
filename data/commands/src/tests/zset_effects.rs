// SPDX-License-Identifier: BSD-3-Clause
//! What sorted set and geo commands write to the log, and their events, as read off a replica of the reference server.

use crate::testing::Run;

/// Command, log records, events; in order on one keyspace.
const STEPS: &[(&str, &str, &str)] = &[
    ("ZADD z 1 a 2 b", "ZADD z 1 a 2 b", "zadd z"),
    ("ZADD z 1 a", "", ""),
    ("ZADD z CH 5 a 6 c", "ZADD z CH 5 a 6 c", "zadd z"),
    ("ZADD z XX 1 nosuch", "", ""),
    ("ZADD nokey XX 1 a", "", ""),
    ("ZADD z INCR 2 a", "ZADD z INCR 2 a", "zincr z"),
    ("ZADD z NX INCR 2 a", "", ""),
    ("ZINCRBY z 1.5 a", "ZINCRBY z 1.5 a", "zincr z"),
    ("ZREM z nosuch", "", ""),
    ("ZREM z a", "ZREM z a", "zrem z"),
    ("ZADD y 1 m 2 n 3 o 4 p", "ZADD y 1 m 2 n 3 o 4 p", "zadd y"),
    ("ZREMRANGEBYRANK y 0 0", "ZREMRANGEBYRANK y 0 0", "zremrangebyrank y"),
    ("ZREMRANGEBYSCORE y 2 2", "ZREMRANGEBYSCORE y 2 2", "zremrangebyscore y"),
    ("ZREMRANGEBYLEX y [o [o", "ZREMRANGEBYLEX y [o [o", "zremrangebylex y"),
    ("ZREMRANGEBYLEX y [o [o", "", ""),
    ("ZREMRANGEBYRANK y 0 -1", "ZREMRANGEBYRANK y 0 -1", "zremrangebyrank y, del y"),
    ("ZADD p 1 a 2 b 3 c 4 d 5 e", "ZADD p 1 a 2 b 3 c 4 d 5 e", "zadd p"),
    ("ZPOPMIN p", "ZPOPMIN p", "zpopmin p"),
    ("ZPOPMAX p 2", "ZPOPMAX p 2", "zpopmax p"),
    ("ZPOPMIN p 0", "", ""),
    ("ZMPOP 2 nokey p MIN COUNT 10", "ZPOPMIN p 2", "zpopmin p, del p"),
    ("ZMPOP 1 p MAX", "", ""),
    ("ZADD s 1 a 2 b", "ZADD s 1 a 2 b", "zadd s"),
    ("ZUNIONSTORE d 2 s z", "ZUNIONSTORE d 2 s z", "zunionstore d"),
    ("ZINTERSTORE d 2 s z", "ZINTERSTORE d 2 s z", "zinterstore d"),
    ("ZINTERSTORE d 2 s nokey", "ZINTERSTORE d 2 s nokey", "del d"),
    ("ZINTERSTORE d 2 s nokey", "", ""),
    ("ZDIFFSTORE d 2 s nokey", "ZDIFFSTORE d 2 s nokey", "zdiffstore d"),
    ("ZRANGESTORE r s 0 -1", "ZRANGESTORE r s 0 -1", "zrangestore r"),
    ("ZRANGESTORE r s 10 20", "ZRANGESTORE r s 10 20", "del r"),
    ("ZRANGESTORE r s 10 20", "", ""),
    (
        "GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
        "ZADD g 3479099956230698 Palermo 3479447370796909 Catania",
        "zadd g",
    ),
    (
        "GEOADD g CH 13.361389 38.115556 Palermo 2 3 x",
        "ZADD g CH 3479099956230698 Palermo 3378964761752270 x",
        "zadd g",
    ),
    ("GEOADD g XX 1 1 nosuch", "", ""),
    ("GEOADD g 13.361389 38.115556 Palermo", "", ""),
    (
        "GEOSEARCHSTORE gs g FROMLONLAT 15 37 BYRADIUS 400 km ASC COUNT 3",
        "GEOSEARCHSTORE gs g FROMLONLAT 15 37 BYRADIUS 400 km ASC COUNT 3",
        "geosearchstore gs",
    ),
    (
        "GEOSEARCHSTORE gs g FROMLONLAT 15 37 BYRADIUS 1 km",
        "GEOSEARCHSTORE gs g FROMLONLAT 15 37 BYRADIUS 1 km",
        "del gs",
    ),
    ("GEOSEARCHSTORE gs nokey FROMLONLAT 15 37 BYRADIUS 1 km", "", ""),
    ("GEORADIUS g 15 37 400 km STORE gs", "GEORADIUS g 15 37 400 km STORE gs", "georadiusstore gs"),
    (
        "GEORADIUSBYMEMBER g Palermo 400 km STOREDIST gs",
        "GEORADIUSBYMEMBER g Palermo 400 km STOREDIST gs",
        "georadiusstore gs",
    ),
];

#[test]
fn log_and_events_are_the_reference_servers() {
    let mut run = Run::new();
    for (command, log, events) in STEPS {
        run.run(command);
        assert_eq!((run.log().as_str(), run.events().as_str()), (*log, *events), "{command}");
    }
}
