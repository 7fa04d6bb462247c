//! `ringfort routes`: the routes, in the order in which they are asked.

use std::io;

use serde_json::json;

use super::arguments::CheckOptions;
use super::{Exit, Session};
use crate::config::Host;
use crate::handler::{Predicate, PredicateSet};
use crate::http::{Method, MethodSet};

/// One route as it is listed.
struct Row {
    host: Option<String>,
    methods: MethodSet,
    path: String,
    handler: &'static str,
    /// Its conditions on header fields, query and cookies, in words.
    when: Vec<String>,
}

pub(super) fn list_routes(session: &mut Session<'_>, options: &CheckOptions) -> io::Result<Exit> {
    let input = session.input(options.config.as_ref());
    let prepared = match session.prepare(&input, &Host::read()) {
        Ok(prepared) => prepared,
        Err(failure) => return session.refuse(&failure),
    };
    let routes = &prepared.snapshot.routes;
    let rows = routes.describe().enumerate().map(|(at, (info, name))| Row {
        host: info.host.map(str::to_owned),
        methods: info.methods,
        path: info.pattern.to_owned(),
        handler: name.kind,
        when: routes.predicates(at).into_iter().flat_map(PredicateSet::iter).map(Predicate::to_string).collect(),
    });
    let rows: Vec<Row> = rows.collect();
    if options.json {
        let list: Vec<_> = rows.iter().enumerate().map(|(at, row)| row_json(at, row)).collect();
        session.say_json(&json!({ "origin": prepared.origin, "routes": list }))?;
        return Ok(Exit::Done);
    }
    let has_conditions = rows.iter().any(|row| !row.when.is_empty());
    let head = ["#", "host", "methods", "path", "handler", if has_conditions { "when" } else { "" }];
    let head = head.map(str::to_owned);
    let cells = rows.iter().enumerate().map(|(at, row)| {
        let host = row.host.clone().unwrap_or_else(|| "any".to_owned());
        [
            at.to_string(),
            host,
            describe_methods(row.methods),
            row.path.clone(),
            row.handler.to_owned(),
            row.when.join(", "),
        ]
    });
    let table: Vec<[String; 6]> = std::iter::once(head).chain(cells).collect();
    for line in align(&table) {
        session.say(line)?;
    }
    Ok(Exit::Done)
}

fn row_json(at: usize, row: &Row) -> serde_json::Value {
    json!({
        "index": at,
        "host": row.host,
        "methods": methods_json(row.methods),
        "path": row.path,
        "handler": row.handler,
        "when": row.when,
    })
}

/// The methods by name, or `null` for any.
pub(super) fn methods_json(methods: MethodSet) -> serde_json::Value {
    match methods == MethodSet::ANY {
        true => serde_json::Value::Null,
        false => methods.iter().map(Method::as_str).collect(),
    }
}

/// `any`, or the names.
pub(super) fn describe_methods(methods: MethodSet) -> String {
    match methods == MethodSet::ANY {
        true => "any".to_owned(),
        false => methods.iter().map(Method::as_str).collect::<Vec<_>>().join(","),
    }
}

/// Lines of a table whose columns are as wide as their widest cell.
pub(super) fn align<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> Vec<String> {
    let widths: [usize; COLUMNS] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect()
}
