//! The host's own table of names, `/etc/hosts` (hosts(5)): what stands there is not asked for by DNS.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::time::Duration;

use super::answer::{Answer, Family};
use crate::limits::{HOSTS_FILE_BYTES_MAX, RESOLVE_HOSTS_MS};

const PATH: &str = "/etc/hosts";

/// What the table says of a name; `None` when it does not have it, or cannot be read. It is read anew each time.
pub(super) fn find(host: &str) -> Option<Answer> {
    find_in(BufReader::new(File::open(PATH).ok()?.take(HOSTS_FILE_BYTES_MAX)), host)
}

fn find_in(table: impl BufRead, host: &str) -> Option<Answer> {
    let host = bare(host);
    let mut addresses = Vec::new();
    // Bytes, since one comment in another encoding must not hide the lines after it.
    for line in table.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
        if let Some(address) = address
            && words.any(|name| bare(name).eq_ignore_ascii_case(host))
        {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return None;
    }
    let (v4, v6) = addresses.into_iter().partition(IpAddr::is_ipv4);
    // As with the C library's resolver, the table has the whole truth of a name that it has.
    Some(Answer { v4: Family::Known(v4), v6: Family::Known(v6), ttl: Duration::from_millis(RESOLVE_HOSTS_MS) })
}

/// Without the root's dot.
fn bare(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"127.0.0.1 localhost\n\
        # 10.9.9.9 api\n\
        10.0.0.1\tapi.internal   API db_1 # api.comment\n\
        ::1 localhost ip6-localhost\n\
        not-an-address broken\n\
        10.0.0.5 \xe9t\xe9\n\
        10.0.0.2 api\r\n\
        fe80::1 api.";

    fn found(host: &str) -> Vec<String> {
        let Some(Answer { v4: Family::Known(v4), v6: Family::Known(v6), .. }) = find_in(TABLE, host) else {
            return Vec::new();
        };
        v4.iter().chain(&v6).map(ToString::to_string).collect()
    }

    #[test]
    fn the_table_of_hosts_is_read_as_its_manual_says() {
        assert_eq!(found("localhost"), ["127.0.0.1", "::1"]);
        assert_eq!(found("api"), ["10.0.0.1", "10.0.0.2", "fe80::1"]);
        assert_eq!(found("Api.Internal."), ["10.0.0.1"]);
        assert_eq!(found("db_1"), ["10.0.0.1"]);
        for host in ["api.comment", "broken", "internal", "10.0.0.1", "ap", ""] {
            assert!(found(host).is_empty(), "{host}");
        }
    }
}
