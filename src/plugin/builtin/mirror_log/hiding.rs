//! Which names are those of secrets, and texts without the values that belong to them.

use super::json;
use crate::handler::decode_percent;
use crate::secret::HIDDEN;

/// What the name of a secret has in it.
const TELLTALES: [&[u8]; 14] = [
    b"assertion",
    b"auth",
    b"cookie",
    b"credential",
    b"jwt",
    b"key",
    b"otp",
    b"pass",
    b"pwd",
    b"saml",
    b"secret",
    b"session",
    b"sig",
    b"token",
];
/// Parameters that are secrets of OAuth 2 and OpenID Connect, and are called by everyday words.
const SECRET_PARAMS: [&[u8]; 2] = [b"code", b"state"];

/// Which names are those of secrets: the operator's besides those that always are.
pub(super) struct Hiding(pub(super) Vec<String>);

impl Hiding {
    fn hides(&self, name: &[u8]) -> bool {
        let has = |word: &&[u8]| name.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
        TELLTALES.iter().any(has) || self.0.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Whether the value of a parameter, or of a member of an object, is hidden.
    fn hides_param(&self, name: &[u8]) -> bool {
        self.hides(name) || SECRET_PARAMS.iter().any(|own| name.eq_ignore_ascii_case(own))
    }

    /// A query, or a form that is written like one, without its secrets. Names may be percent-encoded. Some servers part
    /// parameters by `;` too, to others it is a part of the value: so a secret ends at the next `&`.
    pub(super) fn params(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        for (index, pair) in text.split(|byte| *byte == b'&').enumerate() {
            if index > 0 {
                out.push(b'&');
            }
            match self.secret_in(pair) {
                Some(at) => {
                    out.extend_from_slice(&pair[..at]);
                    out.extend_from_slice(HIDDEN.as_bytes());
                }
                None => out.extend_from_slice(pair),
            }
        }
        out
    }

    /// A form without its secrets; `None` where it is none, so that nobody knows what is a name in it.
    pub(super) fn form(&self, text: &[u8]) -> Option<Vec<u8>> {
        // What no form has: they are percent-encoded there. Many clients leave the rest as it is.
        let is_foreign = |byte: &u8| *byte <= b' ' || b"\"<>{}:".contains(byte);
        (!text.iter().any(is_foreign)).then(|| self.params(text))
    }

    /// Where the first secret begins of what stands between two `&`.
    fn secret_in(&self, pair: &[u8]) -> Option<usize> {
        let mut plain = Vec::new();
        let mut start = 0;
        for param in pair.split(|byte| *byte == b';') {
            if let Some(at) = memchr::memchr(b'=', param) {
                plain.clear();
                decode_percent(&param[..at], &mut plain);
                if self.hides_param(&plain) {
                    return Some(start + at + 1);
                }
            }
            start += param.len() + 1;
        }
        None
    }

    /// A query without its secrets.
    pub(super) fn query(&self, query: &str) -> String {
        // It is parted, and put together again, at ASCII characters.
        String::from_utf8_lossy(&self.params(query.as_bytes())).into_owned()
    }

    /// A URL without the secrets of its query.
    fn url(&self, url: &str) -> String {
        match url.split_once('?') {
            Some((path, query)) => format!("{path}?{}", self.query(query)),
            None => url.to_owned(),
        }
    }

    /// The value of a field.
    pub(super) fn header(&self, name: &str, value: &[u8]) -> String {
        let value = String::from_utf8_lossy(value);
        match name {
            _ if self.hides(name.as_bytes()) => HIDDEN.to_owned(),
            _ if name.eq_ignore_ascii_case("referer") => self.url(&value),
            _ => value.into_owned(),
        }
    }

    /// JSON, or the beginning of some where `is_cut`, without the values of members whose names are those of secrets; `None`
    /// where it is none, so that nobody knows what is a name in it.
    pub(super) fn json(&self, text: &[u8], is_cut: bool) -> Option<Vec<u8>> {
        json::hide(text, is_cut, |name| self.hides_param(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_however_their_names_are_written() {
        let hiding = Hiding(vec!["card".to_owned()]);
        for (query, expected) in [
            ("", ""),
            ("a=1&b=2", "a=1&b=2"),
            ("token=x", "token=(hidden)"),
            ("a=1&access_Token=x&b=2", "a=1&access_Token=(hidden)&b=2"),
            ("t%6Fken=x&a", "t%6Fken=(hidden)&a"),
            // Whoever parts parameters by `&` alone takes all of it for the key.
            ("apikey=x;y;a=b&c=d", "apikey=(hidden)&c=d"),
            ("a=b;CARD=1;c=d&e=f", "a=b;CARD=(hidden)&e=f"),
            ("code=x&state=y&discard=1", "code=(hidden)&state=(hidden)&discard=1"),
            ("token=a=b&=c&&x=", "token=(hidden)&=c&&x="),
            ("X-Amz-Signature=ff", "X-Amz-Signature=(hidden)"),
            ("é=ü&schlüssel_key=ü", "é=ü&schlüssel_key=(hidden)"),
        ] {
            assert_eq!(hiding.query(query), expected);
        }
        for name in ["Authorization", "cookie", "Proxy-Authorization", "X-Api-Key", "X-Auth-Request-User", "Card"] {
            assert_eq!(hiding.header(name, b"x"), HIDDEN, "{name}");
        }
        assert_eq!(hiding.header("Accept", b"a/b"), "a/b");
        assert_eq!(hiding.header("Referer", b"https://a.test/?token=x"), "https://a.test/?token=(hidden)");
    }
}
