// SPDX-License-Identifier: BSD-3-Clause
//! What a client says before and with PSYNC, collected by the server.
//!
//! The server keeps one [`ReplicaHello`] per client that used REPLCONF and hands it over with the socket.

/// See the head of this file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReplicaHello {
    /// The client id of the session, by which CLIENT KILL and WAIT know the link.
    pub client_id: u64,
    /// PSYNC's arguments; `None` for SYNC.
    pub psync: Option<(Vec<u8>, i64)>,
    /// REPLCONF listening-port.
    pub listening_port: u16,
    /// REPLCONF ip-address.
    pub ip_address: Option<String>,
    /// REPLCONF capa eof: takes a stream of unknown length.
    pub capa_eof: bool,
    /// REPLCONF capa psync2: understands an id after +CONTINUE.
    pub capa_psync2: bool,
    /// REPLCONF version: the major one of the server that asks.
    pub major_version: u32,
}

impl ReplicaHello {
    /// Takes the options of one REPLCONF (`args[0]` is the name). `Err` is the client's error line, code first; `Ok`
    /// is to be answered with `+OK`. ACK and GETACK, which have no answer, are not for here.
    pub fn replconf(&mut self, args: &[&[u8]]) -> Result<(), String> {
        let options = args.get(1..).unwrap_or_default();
        if options.len() % 2 != 0 {
            return Err("ERR syntax error".into());
        }
        for pair in options.chunks_exact(2) {
            let (name, value) = (pair[0], pair[1]);
            let text = String::from_utf8_lossy(value);
            match name.to_ascii_lowercase().as_slice() {
                b"listening-port" => {
                    self.listening_port =
                        text.parse().map_err(|_| "ERR value is not an integer or out of range".to_owned())?;
                }
                b"ip-address" => self.ip_address = (!text.is_empty()).then(|| text.into_owned()),
                b"capa" if value.eq_ignore_ascii_case(b"eof") => self.capa_eof = true,
                b"capa" if value.eq_ignore_ascii_case(b"psync2") => self.capa_psync2 = true,
                b"version" => {
                    let major = text.split('.').next().and_then(|major| major.parse().ok());
                    self.major_version = major.ok_or_else(|| format!("ERR Unrecognized version format: {text}"))?;
                }
                b"capa" | b"rdb-only" | b"rdb-filter-only" | b"set-cluster-node-id" => {}
                _ => return Err(format!("ERR Unrecognized REPLCONF option: {}", String::from_utf8_lossy(name))),
            }
        }
        Ok(())
    }

    /// Adds the request that makes the link: `PSYNC replid offset` or `SYNC`. `Err` is the client's error line.
    pub fn with_request<A: AsRef<[u8]>>(mut self, request: &[A]) -> Result<ReplicaHello, String> {
        self.psync = match request {
            [_] => None,
            [_, replid, offset, ..] => {
                let offset = std::str::from_utf8(offset.as_ref()).ok().and_then(|text| text.parse().ok());
                let offset = offset.ok_or("ERR value is not an integer or out of range")?;
                Some((replid.as_ref().to_vec(), offset))
            }
            _ => return Err("ERR wrong number of arguments for 'psync' command".into()),
        };
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::ReplicaHello;

    #[test]
    fn options_and_requests() {
        let mut hello = ReplicaHello::default();
        let args: [&[u8]; 7] = [b"REPLCONF", b"capa", b"eof", b"capa", b"psync2", b"listening-port", b"7000"];
        assert_eq!(hello.replconf(&args), Ok(()));
        assert_eq!(hello.replconf(&[b"REPLCONF", b"version", b"9.1.2"]), Ok(()));
        assert_eq!(hello.major_version, 9);
        assert!(hello.capa_eof && hello.capa_psync2 && hello.listening_port == 7000);
        assert!(hello.replconf(&[b"REPLCONF", b"nonsense", b"1"]).is_err());
        assert!(hello.replconf(&[b"REPLCONF", b"capa"]).is_err());
        let with = hello.clone().with_request(&[&b"psync"[..], b"?", b"-1"]).expect("valid");
        assert_eq!(with.psync, Some((b"?".to_vec(), -1)));
        assert_eq!(hello.clone().with_request(&[&b"sync"[..]]).expect("valid").psync, None);
        assert!(hello.with_request(&[&b"psync"[..], b"?", b"x"]).is_err());
    }
}
