//! `ringfort upgrade`: asks the running server, on its admin listener, to start its program anew and leave.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::arguments::UpgradeOptions;
use super::{Exit, Session};
use crate::config::Host;
use crate::limits::{UPGRADE_END_SECONDS, UPGRADE_SECONDS_MAX};
use crate::sys;

/// How long the server may take to answer: what it gives its successor, and what it takes to end one that failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(UPGRADE_SECONDS_MAX + 2 * UPGRADE_END_SECONDS + 10);

pub(super) fn upgrade(session: &mut Session<'_>, options: &UpgradeOptions) -> io::Result<Exit> {
    let address = match options.admin {
        Some(address) => address,
        None => {
            let input = session.input(options.config.as_ref());
            match session.prepare(&input, &Host::read()) {
                Ok(prepared) => match prepared.snapshot.config.admin.listen {
                    Some(address) if address.port() != 0 => address,
                    Some(_) | None => {
                        session.complain("admin.listen: expected an address with a port, to ask the server there; name it by --admin, or send the server SIGUSR2")?;
                        return Ok(Exit::Failed);
                    }
                },
                Err(failure) => return session.refuse(&failure),
            }
        }
    };
    let address = reachable(address);
    let request =
        format!("POST /upgrade HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let answer = match sys::socket::exchange(address, request.as_bytes(), ANSWER_WITHIN) {
        Ok(bytes) => Answer::read(&bytes),
        Err(error) => {
            session.complain(format!("cannot ask the server at {address}: {error}"))?;
            return Ok(Exit::Failed);
        }
    };
    match answer {
        Some(Answer { status: 200, detail }) => session.say(detail).map(|()| Exit::Done),
        Some(Answer { status, detail }) => {
            session.complain(format!("no upgrade: {detail} ({status})"))?;
            Ok(Exit::Failed)
        }
        None => {
            session.complain(format!("what answers at {address} is no admin listener of Ringfort"))?;
            Ok(Exit::Failed)
        }
    }
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

/// What the server says.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    detail: String,
}

impl Answer {
    /// Reads a response that ends with its connection.
    fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let body: serde_json::Value = serde_json::from_str(body).ok()?;
        let detail = body["detail"].as_str().or(body["title"].as_str())?.to_owned();
        Some(Self { status, detail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_status_and_what_it_says() {
        let read = |text: &str| Answer::read(text.as_bytes()).map(|answer| (answer.status, answer.detail));
        let expected = |status, detail: &str| Some((status, detail.to_owned()));
        assert_eq!(read("HTTP/1.1 200 OK\r\nA: b\r\n\r\n{\"detail\":\"done\"}"), expected(200, "done"));
        assert_eq!(read("HTTP/1.1 403 No\r\nA: b\r\n\r\n{\"title\":\"No\"}"), expected(403, "No"));
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
