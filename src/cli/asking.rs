//! How commands ask the running server: on its admin listener, one request to a connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::{Exit, Session};
use crate::config::Host;
use crate::sys;

/// Where the server's admin listener is: as the command line says, or the config. Why it is not known was told.
pub(super) fn admin_address(
    session: &mut Session<'_>,
    named: Option<SocketAddr>,
    config: Option<&PathBuf>,
) -> io::Result<Result<SocketAddr, Exit>> {
    let address = match named {
        Some(address) => address,
        None => match session.prepare(&session.input(config), &Host::read()) {
            Ok(prepared) => match prepared.snapshot.config.admin.listen {
                Some(address) if address.port() != 0 => address,
                Some(_) | None => {
                    session.complain(
                        "admin.listen: expected an address with a port, to ask the server there; name it by --admin",
                    )?;
                    return Ok(Err(Exit::Failed));
                }
            },
            Err(failure) => return session.refuse(&failure).map(Err),
        },
    };
    Ok(Ok(reachable(address)))
}

/// Whoever listens on every address is reached on the loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

/// Asks for `path`; `None` where what answers is no admin listener.
pub(super) fn ask(address: SocketAddr, method: &str, path: &str, within: Duration) -> io::Result<Option<Answer>> {
    let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{length}Connection: close\r\n\r\n");
    Ok(Answer::read(&sys::socket::exchange(address, request.as_bytes(), within)?))
}

/// What the server says.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Answer {
    /// Reads a response that ends with its connection.
    fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        Some(Self { status, body: serde_json::from_str(body).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_is_its_status_and_what_it_says() {
        let read = |text: &str| Answer::read(text.as_bytes());
        let expected = |status, body| Some(Answer { status, body });
        let done = json!({ "detail": "done" });
        assert_eq!(read("HTTP/1.1 200 OK\r\nA: b\r\n\r\n{\"detail\":\"done\"}"), expected(200, done));
        for wrong in
            ["", "HTTP/1.1 200 OK\r\n\r\n", "SSH-2.0-x\r\n\r\n{}", "HTTP/1.1 20\u{e4}\r\n\r\n{\"detail\":\"\"}"]
        {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_server_on_every_address_is_asked_on_the_loopback() {
        for (listens, asked) in [
            ("0.0.0.0:9", "127.0.0.1:9"),
            ("[::]:9", "[::1]:9"),
            ("10.0.0.1:9", "10.0.0.1:9"),
            ("[fe80::1]:9", "[fe80::1]:9"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
