//! Request methods (RFC 9110 section 9) and sets of them.

use super::syntax;

/// A request method. Names are case-sensitive (RFC 9110 section 9.1): `get` is an extension method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Method {
    /// `GET`
    #[default]
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
    /// `CONNECT`
    Connect,
    /// `OPTIONS`
    Options,
    /// `TRACE`
    Trace,
    /// `PATCH` (RFC 5789)
    Patch,
    /// Any other token; its text is in the head ([`super::RequestHead::method_str`]).
    Extension,
}

impl Method {
    /// Every method, in the order in which sets are listed.
    pub const ALL: [Method; 10] = [
        Method::Get,
        Method::Head,
        Method::Post,
        Method::Put,
        Method::Delete,
        Method::Connect,
        Method::Options,
        Method::Trace,
        Method::Patch,
        Method::Extension,
    ];

    /// The method's name; for an extension method, whose name is not kept here, the text `EXTENSION`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Connect => "CONNECT",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
            Method::Extension => "EXTENSION",
        }
    }

    /// The method of this name: [`Method::Extension`] for any other token, `None` for what is not a token.
    pub fn from_bytes(name: &[u8]) -> Option<Method> {
        Some(match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"CONNECT" => Method::Connect,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"PATCH" => Method::Patch,
            other if syntax::is_token(other) => Method::Extension,
            _ => return None,
        })
    }

    /// Whether the method is safe: it asks for no change (RFC 9110 section 9.2.1).
    pub const fn is_safe(self) -> bool {
        matches!(self, Method::Get | Method::Head | Method::Options | Method::Trace)
    }

    /// Whether repeating the request has the effect of one (RFC 9110 section 9.2.2), so that it may be retried.
    pub const fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Method::Put | Method::Delete)
    }
}

/// A set of methods in 16 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MethodSet(u16);

impl MethodSet {
    /// The set without any method.
    pub const fn new() -> MethodSet {
        MethodSet::EMPTY
    }

    /// No method.
    pub const EMPTY: MethodSet = MethodSet(0);
    /// Every method, extension methods too.
    pub const ANY: MethodSet = MethodSet((1 << Method::ALL.len()) - 1);

    /// The set of these methods.
    pub const fn of(methods: &[Method]) -> MethodSet {
        let mut set = MethodSet::EMPTY;
        let mut i = 0;
        while i < methods.len() {
            set = set.with(methods[i]);
            i += 1;
        }
        set
    }

    /// This set and `method`.
    #[must_use]
    pub const fn with(self, method: Method) -> MethodSet {
        MethodSet(self.0 | 1 << method as u16)
    }

    /// The methods of either set.
    #[must_use]
    pub const fn union(self, other: MethodSet) -> MethodSet {
        MethodSet(self.0 | other.0)
    }

    /// The methods of both sets.
    #[must_use]
    pub const fn intersection(self, other: MethodSet) -> MethodSet {
        MethodSet(self.0 & other.0)
    }

    /// Adds `method`.
    pub const fn insert(&mut self, method: Method) {
        *self = self.with(method);
    }

    /// Whether `method` is in the set.
    pub const fn contains(self, method: Method) -> bool {
        self.0 & (1 << method as u16) != 0
    }

    /// Whether no method is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set's methods, in the order of [`Method::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Method> {
        Method::ALL.into_iter().filter(move |&m| self.contains(m))
    }

    /// The value of an `Allow` field (RFC 9110 section 10.2.1): `GET, HEAD, OPTIONS`. Extension methods have no single
    /// name and are left out.
    pub fn allow_value(self) -> String {
        let mut text = String::new();
        for method in self.iter().filter(|&m| m != Method::Extension) {
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(method.as_str());
        }
        text
    }
}

impl FromIterator<Method> for MethodSet {
    fn from_iter<I: IntoIterator<Item = Method>>(methods: I) -> MethodSet {
        methods.into_iter().fold(MethodSet::EMPTY, MethodSet::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_case_sensitive_tokens() {
        for method in Method::ALL.into_iter().filter(|&m| m != Method::Extension) {
            assert_eq!(Method::from_bytes(method.as_str().as_bytes()), Some(method));
        }
        assert_eq!(Method::from_bytes(b"get"), Some(Method::Extension));
        assert_eq!(Method::from_bytes(b"PROPFIND"), Some(Method::Extension));
        assert_eq!(Method::from_bytes(b""), None);
        assert_eq!(Method::from_bytes(b"G T"), None);
        assert_eq!(Method::from_bytes(b"G\xc3\xa9T"), None);
    }

    #[test]
    fn safe_methods_are_idempotent_and_post_is_neither() {
        assert!(Method::ALL.into_iter().all(|m| !m.is_safe() || m.is_idempotent()));
        assert!(!Method::Post.is_idempotent() && !Method::Patch.is_idempotent() && !Method::Extension.is_idempotent());
        assert!(Method::Put.is_idempotent() && !Method::Put.is_safe());
    }

    #[test]
    fn method_set_lists_its_members_as_an_allow_value() {
        const SET: MethodSet = MethodSet::of(&[Method::Options, Method::Get, Method::Head]);
        assert_eq!(SET.allow_value(), "GET, HEAD, OPTIONS");
        assert!(SET.contains(Method::Get) && !SET.contains(Method::Post));
        assert_eq!(SET.iter().collect::<MethodSet>(), SET);
        assert_eq!(MethodSet::ANY.iter().count(), 10);
        assert!(!MethodSet::ANY.allow_value().contains("EXTENSION"));
        assert!(MethodSet::EMPTY.is_empty() && MethodSet::EMPTY.allow_value().is_empty());
    }
}
