//! `proxy` of a route made into its handler, and what no schema says of it.

use std::collections::HashSet;

use super::super::check::Omissions;
use super::super::error::{ConfigError, list_names, quote, suggest};
use super::super::grammar::is_token;
use super::super::model::{self, Config, FieldEdits};
use super::{Parts, RoutePlace};
use crate::handler::template::Template;
use crate::http::encode::is_server_owned;
use crate::http::target::{Normalized, normalize_path, parse_authority};
use crate::http::{FieldError, Fields, TargetError};
use crate::limits::FIELD_EDITS_MAX;
use crate::proxy::{FieldEdit, HostRewrite, MirrorSpec, PathRewrite, Proxy, ProxySpec, Target};
use crate::router::Pattern;

/// The handler of a route that forwards; `None` where something is wrong with it, which is reported.
pub(super) fn build_proxy(
    proxy: &model::Proxy,
    pattern: &Pattern<'_>,
    params: &[&str],
    parts: &Parts<'_>,
    place: &mut RoutePlace<'_>,
) -> Option<Proxy> {
    let before = place.errors.len();
    let mut upstreams = Names { config: parts.config, omissions: parts.omissions };
    let targets = upstreams.targets(proxy, place);
    let mirror = proxy.mirror.as_ref().map(|mirror| MirrorSpec {
        upstream: upstreams.find(&mirror.upstream, &["proxy", "mirror", "upstream"], place),
        share: mirror.share,
    });
    let path = build_path(proxy, pattern, params, place);
    if let HostRewrite::Set(host) = &proxy.host
        && let Err((expected, found)) = check_authority(host)
    {
        place.report(&["proxy", "host", "set"], expected, found);
    }
    if let Some(via) = proxy.via.as_ref().filter(|via| !is_token(via)) {
        // RFC 9110 section 7.6.3.
        place.report(&["proxy", "via"], "a token such as \"ringfort\" (or null: no Via field)", quote(via));
    }
    let request_fields = build_edits(&proxy.request_headers, Side::Request, place);
    let response_fields = build_edits(&proxy.response_headers, Side::Response, place);
    if place.errors.len() != before {
        return None;
    }
    let spec = ProxySpec {
        targets,
        path,
        host: proxy.host.clone(),
        trust: proxy.trust.clone(),
        x_forwarded: proxy.x_forwarded,
        forwarded: proxy.forwarded,
        via: proxy.via.clone(),
        request_id: parts.config.server.request_id.header.clone(),
        request_fields,
        response_fields,
        upgrade: proxy.upgrade,
        mirror,
    };
    match Proxy::new(spec, params, parts.upstreams) {
        Ok(built) => Some(built),
        Err(unknown) => {
            place.report_param(&["proxy", "rewrite"], &unknown);
            None
        }
    }
}

/// The upstreams by name.
struct Names<'c> {
    config: &'c Config,
    omissions: &'c Omissions,
}

impl Names<'_> {
    /// The index of an upstream. Where there is none, it is reported and 0 stands for it: nothing is served then.
    fn find(&mut self, name: &str, keys: &[&str], place: &mut RoutePlace<'_>) -> usize {
        let names = self.config.upstreams.keys().map(String::as_str);
        if let Some(index) = names.clone().position(|known| known == name) {
            return index;
        }
        if !self.omissions.lacks_upstream(name) {
            let expected = match self.config.upstreams.is_empty() {
                true => "the name of an upstream, of which there is none".to_owned(),
                false => format!("the name of an upstream: {}", list_names(names.clone())),
            };
            let error = ConfigError::at(&place.steps(keys), expected, quote(name));
            place.errors.push(error.suggesting(suggest(name, names)));
        }
        0
    }

    fn targets(&mut self, proxy: &model::Proxy, place: &mut RoutePlace<'_>) -> Vec<Target> {
        if let Some(name) = &proxy.upstream {
            return vec![Target { upstream: self.find(name, &["proxy", "upstream"], place), weight: 1 }];
        }
        let mut seen = HashSet::new();
        let mut targets = Vec::new();
        for (index, split) in proxy.split.iter().enumerate() {
            let mut inner = place.inside(&["proxy", "split"], index);
            if !seen.insert(&split.upstream) {
                let found = format!("{} again", quote(&split.upstream));
                inner.report(&["upstream"], "each upstream once (a greater weight gives it more)", found);
            }
            targets
                .push(Target { upstream: self.find(&split.upstream, &["upstream"], &mut inner), weight: split.weight });
        }
        targets
    }
}

fn build_path(proxy: &model::Proxy, pattern: &Pattern<'_>, params: &[&str], place: &mut RoutePlace<'_>) -> PathRewrite {
    for (key, prefix) in [("strip_prefix", &proxy.strip_prefix), ("add_prefix", &proxy.add_prefix)] {
        if let Some(prefix) = prefix {
            check_prefix(prefix, &["proxy", key], place);
        }
    }
    let beside: Vec<_> = [("strip_prefix", &proxy.strip_prefix), ("add_prefix", &proxy.add_prefix)]
        .iter()
        .filter_map(|(key, prefix)| prefix.as_ref().map(|_| *key))
        .collect();
    if let Some(rewrite) = &proxy.rewrite {
        if !beside.is_empty() {
            let expected = "either rewrite, or strip_prefix and add_prefix";
            place.report(&["proxy", "rewrite"], expected, format!("it beside {}", beside.join(" and ")));
        }
        check_rewrite(rewrite, pattern, params, place);
        return PathRewrite::Template(rewrite.clone());
    }
    if beside.is_empty() {
        return PathRewrite::Keep;
    }
    let text = |prefix: &Option<String>| prefix.clone().unwrap_or_default();
    PathRewrite::Prefix { strip: text(&proxy.strip_prefix), add: text(&proxy.add_prefix) }
}

/// A prefix is held against normal paths, so it must be a normal path itself, whole to the end of a segment.
fn check_prefix(prefix: &str, keys: &[&str], place: &mut RoutePlace<'_>) {
    let bare = format!("/{}", prefix.trim_matches('/'));
    let normal = normal_path(&bare).filter(|normal| normal != "/");
    if normal.as_deref() != Some(prefix) {
        let expected = "a path that begins with \"/\" and does not end with it, in its normal spelling";
        let error = ConfigError::at(&place.steps(keys), expected, quote(prefix));
        place.errors.push(error.suggesting(normal));
    }
}

/// The one spelling of a path that is routed and forwarded.
fn normal_path(path: &str) -> Option<String> {
    let mut out = Vec::new();
    match normalize_path(path.as_bytes(), false, &mut out).ok()? {
        Normalized::AsIs => Some(path.to_owned()),
        Normalized::Rewritten => String::from_utf8(out).ok(),
    }
}

fn check_rewrite(rewrite: &str, pattern: &Pattern<'_>, params: &[&str], place: &mut RoutePlace<'_>) {
    let keys = &["proxy", "rewrite"];
    if !rewrite.starts_with('/') {
        let suggestion = Some(format!("/{rewrite}")).filter(|_| !rewrite.contains(':'));
        let error = ConfigError::at(&place.steps(keys), "a path that begins with \"/\"", quote(rewrite));
        return place.errors.push(error.suggesting(suggestion));
    }
    let template = match Template::text(rewrite, params) {
        Ok(template) => template,
        Err(unknown) => return place.report_param(keys, &unknown),
    };
    if let Err((expected, found)) = template.fixed_pieces().try_for_each(check_path_bytes) {
        return place.report(keys, expected, format!("{found} in {}", quote(rewrite)));
    }
    let wildcard = params.last().filter(|_| pattern.has_wildcard()).copied();
    if let Some(segment) = rewrite.split('/').find(|segment| may_be_dots(segment, params, wildcard)) {
        let expected = "segments that no request can make \"/./\" or \"/../\" of";
        place.report(keys, expected, format!("{} in {}", quote(segment), quote(rewrite)));
    }
}

/// The bytes of a path that stand for themselves: `?` would begin a query, which stays as it was sent.
fn check_path_bytes(bytes: &[u8]) -> Result<(), (&'static str, String)> {
    let mut rest = bytes;
    while let [b, after @ ..] = rest {
        rest = match b {
            b'?' | b'#' => return Err(("a path alone: the query of the request stays", format!("`{}`", *b as char))),
            b'%' => match after {
                [high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => after,
                _ => return Err(("two hexadecimal digits behind each %", "`%`".to_owned())),
            },
            b if b.is_ascii_alphanumeric() || b"-._~:/@!$&'()*+,;=".contains(b) => after,
            b => return Err(("the characters of a URI (others as %XX)", format!("`{}`", b.escape_ascii()))),
        };
    }
    Ok(())
}

/// Whether a segment of a rewritten path can come out as a dot segment, which a server would take for its parent.
///
/// The value of a `:param` is a whole segment of a normal path: never empty, never a dot segment. With anything beside it,
/// it makes none. That of a `*wildcard` may be empty, and may begin or end with `/`: dots beside it may come to stand alone.
fn may_be_dots(segment: &str, params: &[&str], wildcard: Option<&str>) -> bool {
    let mut fixed = segment.to_ascii_lowercase().replace("%2e", ".");
    let (mut has_param, mut has_wildcard) = (false, false);
    for name in params {
        let braced = format!("{{{}}}", name.to_ascii_lowercase());
        if fixed.contains(&braced) {
            has_wildcard |= wildcard == Some(*name);
            has_param |= wildcard != Some(*name);
            fixed = fixed.replace(&braced, "");
        }
    }
    let is_dots = !fixed.is_empty() && fixed.bytes().all(|b| b == b'.');
    is_dots && (has_wildcard || !has_param)
}

/// Checks a path with or without a query, as a check asks for it.
pub(super) fn check_target(target: &str) -> Result<(), String> {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let is_query = target.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    match normalize_path(path.as_bytes(), true, &mut Vec::new()) {
        Ok(_) if is_query => Ok(()),
        Err(TargetError::AboveRoot) => Err(format!("{}, which leads above the root", quote(target))),
        Ok(_) | Err(_) => Err(quote(target)),
    }
}

/// Checks a host with or without a port.
pub(super) fn check_authority(host: &str) -> Result<(), (&'static str, String)> {
    match parse_authority(host.as_bytes()) {
        Some(_) => Ok(()),
        None => Err(("a host, with a port where it needs one", quote(host))),
    }
}

/// Whose fields are edited.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Request,
    Response,
}

/// Why an edit of a field is refused.
fn refusal(name: &str, side: Side) -> Option<&'static str> {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    // RFC 9110 sections 7.6.1 and 7.6.2; `HTTP2-Settings` is of RFC 7540, and has to be named in `Connection`.
    let is_hop_by_hop = || ["te", "proxy-connection", "http2-settings"].iter().any(|other| is(other));
    if !is_token(name) {
        Some("the name of a header field")
    } else if is_server_owned(name.as_bytes()) || is_hop_by_hop() {
        Some("no field that frames the message or speaks about its connection")
    } else if side == Side::Request && is("host") {
        Some("no Host: proxy.host sets it")
    } else if side == Side::Request && is("expect") {
        Some("no Expect: it is settled between two neighbours, as framing is")
    } else {
        None
    }
}

fn build_edits(edits: &FieldEdits, side: Side, place: &mut RoutePlace<'_>) -> Vec<FieldEdit> {
    let key = match side {
        Side::Request => "request_headers",
        Side::Response => "response_headers",
    };
    let count = edits.remove.len() + edits.set.len() + edits.add.len();
    if count > FIELD_EDITS_MAX {
        place.report(&["proxy", key], format!("at most {FIELD_EDITS_MAX} edits"), format!("{count} of them"));
    }
    let mut built = Vec::new();
    let mut seen = HashSet::new();
    for (index, name) in edits.remove.iter().enumerate() {
        let mut inner = place.inside(&["proxy", key, "remove"], index);
        if let Some(expected) = refusal(name, side) {
            inner.report(&[], expected, quote(name));
        } else if !seen.insert(name.to_ascii_lowercase()) {
            inner.report(&[], "each name once, in any case", format!("{} again", quote(name)));
        }
        built.push(FieldEdit::Remove(name.clone()));
    }
    for (verb, fields) in [("set", &edits.set), ("add", &edits.add)] {
        seen.clear();
        for (name, value) in fields {
            let keys = ["proxy", key, verb, name];
            if let Some(expected) = refusal(name, side) {
                place.report(&keys, expected, quote(name));
            } else if !seen.insert(name.to_ascii_lowercase()) {
                place.report(&keys, "each name once, in any case", format!("{} again", quote(name)));
            } else if Fields::new().push(name, value) == Err(FieldError::Value) {
                place.report(&keys, "a header field's value, without control characters", quote(value));
            }
            built.push(match verb {
                "set" => FieldEdit::Set(name.clone(), value.clone()),
                _ => FieldEdit::Add(name.clone(), value.clone()),
            });
        }
    }
    built
}
