// SPDX-License-Identifier: BSD-3-Clause
//! A server without sockets: an engine, a mailbox and a log that remember, and clients that take a
//! command line and return the reply as text.

use pando_resp::{Proto, ReplyBuf, decode, split_args};
use pando_session::{
    ClientInfo, Engine, EngineConfig, LogSink, Mailbox, Message, Next, Session, SessionFn, Settings, Suspend,
    Unblocked, WorkerScratch,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

#[derive(Default)]
pub struct Post(pub Mutex<Vec<Message>>);

impl Mailbox for Post {
    fn post(&self, _worker: usize, msg: Message) {
        self.0.lock().unwrap().push(msg);
    }
    fn workers(&self) -> usize {
        1
    }
}

/// A log that keeps what was appended.
#[derive(Default)]
pub struct Log {
    pub is_active: AtomicBool,
    pub records: Mutex<Vec<(u16, Vec<u8>)>>,
    offset: AtomicU64,
}

pub struct LogHandle(pub Arc<Log>);

impl LogSink for LogHandle {
    fn active(&self) -> bool {
        self.0.is_active.load(Relaxed)
    }
    fn append(&self, db: u16, resp: &[u8]) -> u64 {
        let mut records = self.0.records.lock().unwrap();
        records.push((db, resp.to_vec()));
        self.0.offset.fetch_add(resp.len() as u64, Relaxed) + resp.len() as u64
    }
    fn append_transaction(&self, first: u16, _last: u16, body: &[u8]) -> u64 {
        self.append(first, &[b"*1\r\n$5\r\nMULTI\r\n", body].concat())
    }
    fn offset(&self) -> u64 {
        self.0.offset.load(Relaxed)
    }
}

pub struct Server {
    pub engine: Arc<Engine>,
    pub post: Arc<Post>,
    pub log: Arc<Log>,
}

impl Server {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::with_commands(change, &[])
    }

    pub fn with_commands(change: impl FnOnce(&mut Settings), extra: &[(&'static str, SessionFn)]) -> Self {
        let mut config = EngineConfig::default();
        change(&mut config.settings);
        let engine = Engine::new(config, extra);
        let post = Arc::new(Post::default());
        let log = Arc::new(Log::default());
        let _ = engine.mailbox.set(post.clone());
        let _ = engine.log.set(Box::new(LogHandle(log.clone())));
        Self { engine, post, log }
    }

    pub fn client(&self) -> Client {
        Client::new(&self.engine)
    }

    /// What was pushed to a client, as text; takes it out of the mailbox.
    pub fn pushed(&self, client: &Client) -> Vec<String> {
        let id = client.session.shared.id;
        let mut pushed = Vec::new();
        self.post.0.lock().unwrap().retain_mut(|message| match message {
            Message::Push { client, bytes } if *client == id => {
                pushed.push(show(&decode::decode(bytes).unwrap().unwrap().0));
                false
            }
            Message::PushAll { clients, bytes } => {
                if let Some(at) = clients.iter().position(|client| *client == id) {
                    clients.swap_remove(at);
                    pushed.push(show(&decode::decode(bytes).unwrap().unwrap().0));
                }
                !clients.is_empty()
            }
            _ => true,
        });
        pushed
    }

    pub fn log_offset(&self) -> u64 {
        LogHandle(self.log.clone()).offset()
    }

    /// Hands out what is in the mailbox, as workers do, until nothing is left; pushes stay.
    pub fn pump(&self, clients: &mut [&mut Client]) {
        loop {
            let mut posted = std::mem::take(&mut *self.post.0.lock().unwrap());
            let is_push = |message: &mut Message| matches!(message, Message::Push { .. } | Message::PushAll { .. });
            let pushes = posted.extract_if(.., is_push).collect::<Vec<_>>();
            self.post.0.lock().unwrap().extend(pushes);
            if posted.is_empty() {
                return;
            }
            for message in posted {
                match message {
                    Message::ServeSlot(slot) => {
                        let mut worker = WorkerScratch::new(&self.engine);
                        self.engine.serve_slot(&mut worker, slot);
                    }
                    message => clients.iter_mut().for_each(|client| client.receive(&message)),
                }
            }
        }
    }

    /// The log as text: `db: command; command`.
    pub fn logged(&self) -> Vec<String> {
        let records = std::mem::take(&mut *self.log.records.lock().unwrap());
        records
            .iter()
            .map(|(db, bytes)| {
                let commands: Vec<String> = decode::decode_all(bytes).unwrap().iter().map(show_words).collect();
                format!("{db}: {}", commands.join("; "))
            })
            .collect()
    }
}

pub struct Client {
    pub engine: Arc<Engine>,
    pub session: Session,
    pub worker: WorkerScratch,
    out: ReplyBuf,
    pub next: Next,
}

impl Client {
    pub fn new(engine: &Arc<Engine>) -> Self {
        let info = ClientInfo {
            addr: "127.0.0.1:5000".into(),
            laddr: "127.0.0.1:6379".into(),
            fd: 8,
            ..ClientInfo::default()
        };
        Self {
            engine: engine.clone(),
            session: Session::new(engine, info),
            worker: WorkerScratch::new(engine),
            out: ReplyBuf::new(Proto::Resp2),
            next: Next::Continue,
        }
    }

    /// Executes one line and returns the replies as text.
    pub fn run(&mut self, line: &str) -> String {
        let args = split_args(line.as_bytes()).expect("balanced quotes");
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        self.worker.refresh_time();
        self.next = self.session.execute(&self.engine, &mut self.worker, &args, &mut self.out);
        self.replies()
    }

    /// What is in the output buffer, as text.
    pub fn replies(&mut self) -> String {
        let values = decode::decode_all(self.out.as_slice()).expect("valid replies");
        self.out.clear();
        values.iter().map(show).collect::<Vec<_>>().join(" ")
    }

    /// What the client's worker does with a message.
    pub fn receive(&mut self, message: &Message) {
        let id = self.session.shared.id;
        self.worker.refresh_time();
        let (engine, worker, out) = (&self.engine, &mut self.worker, &mut self.out);
        let unblocked = match message {
            Message::Served(served) if served.client == id => self.session.finish_served(engine, served, out),
            Message::Retry { client, ticket } if *client == id => {
                self.session.retry_blocked(engine, worker, *ticket, out)
            }
            Message::Unblock { client, ticket: Some(ticket), with_error } if *client == id => {
                self.session.finish_unblocked(engine, worker, *ticket, *with_error, out)
            }
            Message::Recheck { role_changed } => self.session.recheck_blocked(engine, worker, *role_changed, out),
            _ => Unblocked::No,
        };
        self.go_on(unblocked);
    }

    /// The client's deadline.
    pub fn time_out(&mut self) {
        let unblocked = self.session.time_out_blocked(&self.engine, &self.worker, &mut self.out);
        self.go_on(unblocked);
    }

    fn go_on(&mut self, unblocked: Unblocked) {
        match unblocked {
            Unblocked::Goes { .. } => self.next = Next::Continue,
            Unblocked::Closes => self.next = Next::Close,
            Unblocked::No | Unblocked::Later => {}
        }
    }

    pub fn is_blocked(&self) -> bool {
        matches!(self.next, Next::Suspend(Suspend::Blocked { .. }))
    }

    pub fn finish_wait(&mut self, gives_up: bool) -> bool {
        let Next::Suspend(wait) = self.next.clone() else { return false };
        self.session.finish_wait(&self.engine, &wait, gives_up, &mut self.out)
    }

    #[track_caller]
    pub fn check(&mut self, table: &[(&str, &str)]) {
        for (line, expected) in table {
            assert_eq!(self.run(line), *expected, "{line}");
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.session.close(&self.engine);
    }
}

/// `+OK`, `-ERR text`, `:1`, `"bulk"`, `nil`, `[a, b]`, `{k: v}`, `>[push]`.
pub fn show(value: &decode::Value) -> String {
    use decode::Value;
    let list = |values: &[Value]| values.iter().map(show).collect::<Vec<_>>().join(", ");
    match value {
        Value::Simple(text) => format!("+{text}"),
        Value::Error(text) => format!("-{text}"),
        Value::Int(n) => format!(":{n}"),
        Value::Bulk(Some(bytes)) => format!("\"{}\"", String::from_utf8_lossy(bytes)),
        Value::Bulk(None) | Value::Array(None) => "nil".into(),
        Value::Null => "null".into(),
        Value::Array(Some(values)) => format!("[{}]", list(values)),
        Value::Set(values) => format!("~[{}]", list(values)),
        Value::Push(values) => format!(">[{}]", list(values)),
        Value::Map(pairs) => {
            let pairs: Vec<String> =
                pairs.iter().map(|(key, value)| format!("{}: {}", show(key), show(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Value::Double(value) => format!(",{value}"),
        Value::Bool(value) => format!("#{value}"),
        Value::BigNumber(digits) => format!("({digits}"),
        Value::Verbatim(format, text) => format!("={format}:{}", String::from_utf8_lossy(text)),
    }
}

fn show_words(value: &decode::Value) -> String {
    let decode::Value::Array(Some(words)) = value else { return show(value) };
    let words: Vec<String> = words.iter().map(|word| show(word).trim_matches('"').to_owned()).collect();
    words.join(" ")
}
