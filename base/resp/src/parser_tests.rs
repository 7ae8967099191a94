// SPDX-License-Identifier: BSD-3-Clause
//! Tests of the request parser: tables, random splits, random bytes.

use crate::{ArgVec, Limits, Parser, ProtocolError, Step, decode, encode_command, recycle};
use proptest::prelude::*;

type Commands = Vec<Vec<Vec<u8>>>;

/// Feeds the chunks one after the other, as a connection would; all commands, and the error that
/// ended it, if any.
fn feed(chunks: &[&[u8]], limits: &Limits) -> (Commands, Option<ProtocolError>) {
    let mut parser = Parser::new();
    let mut buffer: Vec<u8> = Vec::new();
    let mut commands = Vec::new();
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        let mut start = 0;
        loop {
            let mut argv = ArgVec::new();
            match parser.parse(&buffer[start..], limits, &mut argv) {
                Ok(Step::Complete { consumed }) => {
                    commands.push(argv.iter().map(|arg| arg.to_vec()).collect());
                    start += consumed;
                }
                Ok(Step::Owned { consumed, args }) => {
                    commands.push(args);
                    start += consumed;
                }
                Ok(Step::Empty { consumed }) => start += consumed,
                Ok(Step::Incomplete { need_hint }) => {
                    assert!(need_hint > 0 && argv.is_empty());
                    break;
                }
                Err(error) => return (commands, Some(error)),
            }
        }
        buffer.drain(..start);
    }
    (commands, None)
}

fn check(input: &str, expected: &[&[&str]]) {
    let (commands, error) = feed(&[input.as_bytes()], &Limits::default());
    let expected: Commands =
        expected.iter().map(|args| args.iter().map(|arg| arg.as_bytes().to_vec()).collect()).collect();
    assert_eq!((commands, error), (expected, None), "{input:?}");
}

fn check_error(input: &[u8], limits: &Limits, expected: &str) {
    let (_, error) = feed(&[input], limits);
    assert_eq!(error.map(|error| error.to_string()), Some(expected.to_owned()), "{:?}", String::from_utf8_lossy(input));
}

#[test]
fn requests() {
    check("*1\r\n$4\r\nPING\r\n", &[&["PING"]]);
    check("*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", &[&["ECHO", ""]]);
    check("*2\r\n$3\r\nGET\r\n$12\r\nabcdefghijkl\r\n", &[&["GET", "abcdefghijkl"]]);
    check("*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nQUIT\r\n", &[&["PING"], &["QUIT"]]);
    check("PING\r\n", &[&["PING"]]);
    check("PING\nGET  a \r\n", &[&["PING"], &["GET", "a"]]);
    check("SET k \"a b\"\r\nGET k\r\n", &[&["SET", "k", "a b"], &["GET", "k"]]);
    check("\r\n  \r\n\"\"\r\nPING\r\n", &[&[""], &["PING"]]);
    check("*0\r\n*-5\r\nPING\r\n", &[&["PING"]]);
    check("*1\r\n$4\r\nPIN", &[]);
    check("*1\r", &[]);
    check("set \"\"\"tes\"t-'k'e\"y\" 'a'b\r\n", &[&["set", "test-key", "ab"]]);
}

#[test]
fn errors_have_valkeys_texts() {
    let open = Limits::default();
    let closed = Limits { unauthenticated: true, ..open };
    let small = Limits { bulk_len_max: 1000, ..open };
    check_error(b"*abc\r\n", &open, "Protocol error: invalid multibulk length");
    check_error(b"*\r\n", &open, "Protocol error: invalid multibulk length");
    check_error(b"*3000000000\r\n", &open, "Protocol error: invalid multibulk length");
    check_error(b"*11\r\n", &closed, "Protocol error: unauthenticated multibulk length");
    check_error(b"*1\r\nx\r\n", &open, "Protocol error: expected '$', got 'x'");
    check_error(b"*1\r\n:5\r\n", &open, "Protocol error: expected '$', got ':'");
    check_error(b"*1\r\n$abc\r\n", &open, "Protocol error: invalid bulk length");
    check_error(b"*1\r\n$-1\r\n", &open, "Protocol error: invalid bulk length");
    check_error(b"*1\r\n$600000000\r\n", &open, "Protocol error: invalid bulk length");
    check_error(b"*1\r\n$1001\r\n", &small, "Protocol error: invalid bulk length");
    check_error(b"*1\r\n$16385\r\n", &closed, "Protocol error: unauthenticated bulk length");
    check_error(b"GET \"a\r\n", &open, "Protocol error: unbalanced quotes in request");
    for (line, text) in [
        ("*1\rx$4\r\n", "invalid CRLF in request"),
        ("*1x\n$4\r\n", "invalid multibulk length"),
        ("*1\r\n$4\rxPING\r\n", "invalid CRLF in request"),
        ("*1\r\n$12\rxPING\r\n", "invalid CRLF in request"),
        ("*1\r\n$4x\nPING\r\n", "invalid bulk length"),
        ("*1\r\n$4\r\nPING\rx", "invalid CRLF in request"),
        ("*1\r\n$4\r\nPINGx\n", "invalid CRLF in request"),
        ("*1\r\n$4\r\nPINGxx", "invalid CRLF in request"),
    ] {
        check_error(line.as_bytes(), &open, &format!("Protocol error: {text}"));
    }
    check_error(&[b'x'; 70_000], &open, "Protocol error: too big inline request");
    let mut header = b"*".to_vec();
    header.extend([b'1'; 70_000]);
    check_error(&header, &open, "Protocol error: too big mbulk count string");
    let mut header = b"*1\r\n$".to_vec();
    header.extend([b'1'; 70_000]);
    check_error(&header, &open, "Protocol error: too big bulk count string");
}

#[test]
fn batches_share_one_argument_vector() {
    let input = b"*1\r\n$1\r\na\r\n*2\r\n$1\r\nb\r\n$1\r\nc\r\n*1\r\n$9\r\nxx";
    let mut parser = Parser::new();
    let mut argv = ArgVec::new();
    let limits = Limits::default();
    assert_eq!(parser.parse(input, &limits, &mut argv), Ok(Step::Complete { consumed: 11 }));
    assert_eq!(parser.parse(&input[11..], &limits, &mut argv), Ok(Step::Complete { consumed: 18 }));
    assert_eq!(parser.parse(&input[29..], &limits, &mut argv), Ok(Step::Incomplete { need_hint: 9 }));
    assert_eq!(argv, [b"a", b"b", b"c"]);
    let capacity = argv.capacity();
    let again: ArgVec<'static> = recycle(argv);
    assert_eq!((again.len(), again.capacity()), (0, capacity));
}

#[test]
fn progress_is_kept_across_a_huge_request() {
    // A million arguments, byte by byte in the header part, would take minutes if each attempt
    // started over.
    let count = 200_000;
    let mut input = format!("*{count}\r\n").into_bytes();
    (0..count).for_each(|_| input.extend_from_slice(b"$1\r\nx\r\n"));
    let mut parser = Parser::new();
    let limits = Limits::default();
    let mut argv = ArgVec::new();
    for end in (0..input.len()).step_by(64) {
        assert!(matches!(parser.parse(&input[..end], &limits, &mut argv), Ok(Step::Incomplete { .. })));
    }
    assert_eq!(parser.parse(&input, &limits, &mut argv), Ok(Step::Complete { consumed: input.len() }));
    assert_eq!(argv.len(), count);
    assert!(!parser.is_partial());
}

fn commands() -> impl Strategy<Value = Commands> {
    let arg = prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..12),
        1 => proptest::collection::vec(any::<u8>(), 90..120),
    ];
    proptest::collection::vec(proptest::collection::vec(arg, 1..15), 0..6)
}

proptest! {
    #[test]
    fn any_split_gives_the_same_commands(commands in commands(), cuts in proptest::collection::vec(any::<u16>(), 0..20)) {
        let mut stream = Vec::new();
        for args in &commands {
            let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            encode_command(&mut stream, &args);
            stream.extend_from_slice(b"SET \"in line\" 'x'\r\nPING\n");
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| usize::from(*cut) % (stream.len() + 1)).collect();
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut from = 0;
        for cut in cuts {
            chunks.push(&stream[from..cut]);
            from = cut;
        }
        chunks.push(&stream[from..]);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        let expected: Commands = commands
            .iter()
            .flat_map(|args| [
                args.clone(),
                vec![b"SET".to_vec(), b"in line".to_vec(), b"x".to_vec()],
                vec![b"PING".to_vec()],
            ])
            .collect();
        prop_assert_eq!(feed(&chunks, &Limits::default()), (expected.clone(), None));
        prop_assert_eq!(feed(&bytes, &Limits::default()), (expected, None));
    }

    #[test]
    fn random_bytes_never_panic(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just(b"*".to_vec()), Just(b"$".to_vec()), Just(b"\r\n".to_vec()), Just(b"\"".to_vec()), Just(b"1".to_vec()),
                Just(b"-1".to_vec()), Just(b"*2\r\n$1\r\n".to_vec()), proptest::collection::vec(any::<u8>(), 0..5),
            ],
            0..40,
        ),
    ) {
        let chunks: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let whole = pieces.concat();
        let limits = Limits { bulk_len_max: 4096, ..Limits::default() };
        let in_pieces = feed(&chunks, &limits);
        prop_assert_eq!(in_pieces, feed(&[&whole], &limits));
        let _ = decode::decode_all(&whole);
    }
}
